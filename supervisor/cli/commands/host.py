"""Commands about the installation: reload, doctor, version, completion."""

from __future__ import annotations

import sys

import click

import supervisor
from supervisor.cli.options import connect, json_option, paths
from supervisor.cli.output.screen import data, print_json, tell
from supervisor.cli.output.text import clean
from supervisor.errors import NotStored, SupervisorError

__all__ = ["completion", "doctor", "reload", "version"]


@click.command(short_help="Make the daemon read its configuration and job files now.")
@json_option
@click.pass_context
def reload(ctx: click.Context, *, as_json: bool) -> None:
    """Make the daemon read its configuration and drop-in job files now."""
    with connect(ctx) as client:
        answer = client.reload(lambda how_far: tell(clean(how_far)))
    if not answer.stored:
        raise NotStored(
            f"cannot say yet what becomes of jobs that the files start: the daemon {clean(answer.detail)}",
            hint="the files are read; the rest follows as soon as that is mended",
        )
    detail = clean(answer.detail) or "configuration reloaded"
    if as_json:
        print_json([{"state": answer.state, "detail": detail}])
    else:
        data(detail)


@click.command(short_help="Tell the versions of this command and of the daemon.")
@json_option
@click.pass_context
def version(ctx: click.Context, *, as_json: bool) -> None:
    """Tell the versions of this command and of the daemon."""
    mine = {"part": "supervisorctl", "version": supervisor.__version__}
    if not as_json:
        data(f"{mine['part']} {mine['version']}")
    with connect(ctx) as client:
        reply = client.version()
    if as_json:
        print_json([mine, {"part": "training-supervisord", "version": reply.version, "pid": reply.pid}])
    else:
        whose = ", the system's: it serves all users" if reply.serves_all else ""
        data(f"training-supervisord {clean(reply.version)} (pid {reply.pid}{whose})")
    if reply.num_denied:
        tell(f"{reply.num_denied} requests were refused for want of a right; the daemon's log has them")
    for alert in reply.alerts:
        tell(f"warning: {clean(alert)}")


@click.command(short_help="Look for what commonly stands in the way.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> int:
    """Look for what commonly stands in the way, on this machine and in this installation."""
    from supervisor.cli.commands.doctor import examine

    findings = list(examine(paths(ctx)))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            data(
                clean(f"{finding.level:<5} {finding.what}" + (f"  - {finding.hint}" if finding.hint else ""))
            )
    return 1 if any(finding.level == "fail" for finding in findings) else 0


@click.command(short_help="Print what makes a shell complete commands and job names.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the snippet that makes a shell complete commands and job names."""
    from click.shell_completion import get_completion_class

    root = ctx.find_root()
    name = root.info_name or "supervisorctl"
    kind = get_completion_class(shell)
    if kind is None:
        raise SupervisorError(f"cannot complete in {shell}: this version of click does not know it")
    data(kind(root.command, {}, name, f"_{name}_COMPLETE".upper()).source())
    where = {
        "bash": f"`{name} completion bash >> ~/.bashrc`",
        "zsh": f"`{name} completion zsh >> ~/.zshrc`",
        "fish": f"`{name} completion fish > ~/.config/fish/completions/{name}.fish`",
    }[shell]
    if sys.stdout.isatty():
        tell(f"hint: keep it with {where}")
