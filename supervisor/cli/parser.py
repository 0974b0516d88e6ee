"""The parser of `supervisorctl`: all commands by name, and what is wrong with what was typed.

Each command lives in a module that is imported only when the command is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from supervisor import __version__
from supervisor.cli.output.failure import EXIT_INTERRUPTED, print_error

__all__ = ["COMMANDS", "cli", "run"]

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
    "service": "service.command",
    "reload": "commands.host",
    "doctor": "commands.host",
    "version": "commands.host",
    "completion": "commands.host",
}
#: Where the function is called otherwise: the word means something in Python.
_FUNCTIONS: Final = {"set": "set_job"}


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
@click.option(
    "--system/--user",
    "system",
    default=None,
    help="Talk to the system's daemon, or to your own; without: your own if it runs, else the system's.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(home: str | None, system: bool | None) -> None:  # noqa: FBT001  # As click hands it over.
    """Make PyTorch training runs yield: pause at a batch boundary, go on bit for bit."""


def run(name: str) -> int:
    """Parse what was typed to the program of that name, run it and return its exit code."""
    try:
        code = cli.main(prog_name=name, standalone_mode=False)
    except click.Abort:
        return EXIT_INTERRUPTED
    except click.UsageError as error:
        return _usage(error, name)
    except click.ClickException as error:
        return print_error(error.format_message(), "", error.exit_code)
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError, name: str) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None:
        click.echo(error.ctx.get_help(), err=True)
        return 2
    message = error.format_message().rstrip(".")
    path = error.ctx.command_path if error.ctx is not None else name
    hint = error.hint if isinstance(error, SupervisorUsage) else f"`{path} --help` shows what it takes"
    return print_error(message[:1].lower() + message[1:], hint, 2)
