"""The command `supervisorctl`: the parser, the exit codes, the one place that prints errors.

Each command lives in a module that is imported only when the command is used:
`status` is typed a hundred times a day and starts in a blink.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import Final

import click

from supervisor import __version__
from supervisor.errors import SupervisorError
from supervisor.system import streams

__all__ = ["COMMANDS", "cli", "main"]

#: Command -> the module below supervisor.cli that has it.
COMMANDS: Final = {
    "run": "commands.jobs",
    "status": "commands.look",
    "show": "commands.look",
    "why": "commands.why",
    "logs": "commands.look",
    "events": "commands.look",
    "pause": "commands.jobs",
    "resume": "commands.jobs",
    "stop": "commands.jobs",
    "kill": "commands.jobs",
    "restart": "commands.jobs",
    "checkpoint": "commands.jobs",
    "checkpoints": "checkpoints.commands",
    "remove": "commands.jobs",
    "set": "commands.jobs",
    "wait": "commands.jobs",
    "prove": "prove.command",
    "policy": "commands.policy",
    "reload": "commands.host",
    "doctor": "commands.host",
    "version": "commands.host",
    "completion": "commands.host",
}
#: Where the function is called otherwise: the word means something in Python.
_FUNCTIONS: Final = {"set": "set_job"}
#: Ended by SIGINT, as shells say it.
_EXIT_INTERRUPTED: Final = 130


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"supervisor.cli.{COMMANDS[cmd_name]}"), _FUNCTIONS.get(cmd_name, cmd_name)
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            mean = f"did you mean `{near[0]}`? " if near else ""
            raise SupervisorUsage(
                f"cannot find a command `{name}`", f"{mean}`{ctx.info_name} --help` lists all"
            )
        return super().resolve_command(ctx, args)


class SupervisorUsage(click.UsageError):
    """A usage error that knows a better hint than --help."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--home", metavar="DIR", help="Where the daemon keeps everything (or TRAINING_SUPERVISOR_HOME)."
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(home: str | None) -> None:
    """Make PyTorch training runs yield: pause at a batch boundary, go on bit for bit."""


def main() -> int:
    """Run the command line and return its exit code."""
    streams.fill_in()
    for stream in (sys.stdout, sys.stderr):
        # A reason typed in another language must not end a command in a C locale.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    name = "trainctl" if os.path.basename(sys.argv[0]) == "trainctl" else "supervisorctl"  # noqa: PTH119
    try:
        code = cli.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    except SupervisorError as error:
        return _report(error)
    except ExceptionGroup as group:
        return max(_report(error) for error in group.exceptions)
    except click.UsageError as error:
        return _usage(error, name)
    except click.ClickException as error:
        return _print_error(error.format_message(), "", error.exit_code)
    except OSError as error:
        return _output_failed(error)
    finally:
        # All is given back by the end of the process; the interpreter would first look for cycles in
        # every loaded module, which takes as long as the request itself.
        gc.freeze()
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    if not isinstance(error, SupervisorError):
        raise error
    return _print_error(str(error), error.hint, error.exit_code)


def _usage(error: click.UsageError, name: str) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None:
        click.echo(error.ctx.get_help(), err=True)
        return 2
    message = error.format_message().rstrip(".")
    path = error.ctx.command_path if error.ctx is not None else name
    hint = error.hint if isinstance(error, SupervisorUsage) else f"`{path} --help` shows what it takes"
    return _print_error(message[:1].lower() + message[1:], hint, 2)


def _print_error(message: str, hint: str, code: int) -> int:
    from supervisor.cli.output.text import clean

    sys.stdout.flush()
    sys.stderr.write(f"error: {clean(message)}\n" + (f"\nhint: {clean(hint)}\n" if hint else ""))
    return code


def _output_failed(error: OSError) -> int:
    # The reader has seen enough (`| head`), or the disk is full; the flush at exit must not say it again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
