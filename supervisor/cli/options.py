"""Options and arguments that several commands share, and the connection they use."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from supervisor.core.durations import parse_duration, parse_period
from supervisor.core.jobs import names
from supervisor.core.jobs.treatment import LEAST_MEMORY_BYTES, MAX_CPU_WEIGHT, MAX_PRIORITY
from supervisor.errors import SupervisorError
from supervisor.finding import find_daemon

if TYPE_CHECKING:
    from supervisor.client import Client
    from supervisor.paths import Paths

__all__ = [
    "DURATION",
    "SIZE",
    "Meant",
    "connect",
    "every_option",
    "job_argument",
    "jobs_argument",
    "json_option",
    "limits",
    "meant_jobs",
    "parse_labels",
    "paths",
    "treatment",
    "waitable",
]

F = TypeVar("F", bound=Callable[..., Any])

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?)(?:iB)?")
#: The wire takes no larger amount.
_LARGEST_BYTES: Final = 2.0**62


class _Duration(click.ParamType):  # type: ignore[type-arg]  # Generic in newer versions only.
    name = "duration"

    def __init__(self, parse: Callable[[str], float]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


#: 90, 30s, 10m, 2h, 1d, 1h30m -> seconds.
DURATION: Final = _Duration(parse_duration)

_PERIOD: Final = _Duration(parse_period)


class _Size(click.ParamType):  # type: ignore[type-arg]
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            self.fail(f"`{value}` is not a size such as 800M, 20G or 1.5T", param, ctx)
        size = float(match[1]) * 1024.0 ** " KMGT".index(match[2].upper() or " ")
        if size >= _LARGEST_BYTES:
            self.fail(f"`{value[:40]}` is more than any machine has", param, ctx)
        return round(size)


#: 800M, 20G, 1.5T -> bytes; powers of 1024.
SIZE: Final = _Size()


def _at_least_some_memory(ctx: click.Context, param: click.Parameter, size: int | None) -> int | None:
    """Return a limit on memory with which a program can start."""
    if size is not None and size < LEAST_MEMORY_BYTES:
        raise click.BadParameter(
            f"nothing could start with less than {LEAST_MEMORY_BYTES >> 20}M", ctx, param
        )
    return size


def parse_labels(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    """Return `key=value` words as a map; a value may be empty, but never by a forgotten `=`."""
    for word in words:
        key, equals, _ = word.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"`{word}` is not of the form key=value", ctx, param)
        try:
            word.encode()
        except UnicodeEncodeError:
            raise click.BadParameter(f"{word!a} is not UTF-8", ctx, param) from None
    return {key: text for key, _, text in (word.partition("=") for word in words)}


def paths(ctx: click.Context) -> Paths:
    """Return where everything lies, by the global --home, --system and --user, or who listens."""
    said = ctx.find_root().params
    return find_daemon(said.get("home"), system=said.get("system"))


def connect(ctx: click.Context) -> Client:
    """Return a connection to the daemon."""
    from supervisor.client import Client

    return Client(paths(ctx))


def _complete_jobs(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of jobs, one's own first; a shell that asks must never hear an error."""
    from supervisor.client import Client

    try:
        with Client(paths(ctx), connect_s=0.2, answer_s=0.5) as client:
            known = [row.name for row in client.status().rows]
    except SupervisorError:
        return []
    return [name for name in sorted(known, key=lambda name: "/" in name) if name.startswith(incomplete)]


def _as_answered(_ctx: click.Context, _param: click.Parameter, said: Any) -> Any:
    """Return names as the daemon's answers have them: USER/NAME of one's own is NAME."""
    return tuple(map(_without_user, said)) if isinstance(said, tuple) else said and _without_user(said)


def _without_user(said: str) -> str:
    if "/" not in said or not names.KEY.fullmatch(said) or os.path.lexists(said):
        return said
    from supervisor.system.users import user_name

    mine = names.user_part(os.geteuid(), user_name(os.geteuid()))
    return said.removeprefix(f"{mine}/")


def job_argument(*, required: bool = True) -> Callable[[F], F]:
    """Take one JOB."""
    return click.argument(
        "job", metavar="JOB", required=required, shell_complete=_complete_jobs, callback=_as_answered
    )


def jobs_argument(*, with_all: bool = True) -> Callable[[F], F]:
    """Take several JOBs, or --all, or --all-users."""

    def add(command: F) -> F:
        if with_all:
            for word, value, text in (
                ("--all-users", "users", "Those of all users as well; admins may."),
                ("--all", "mine", "Every job of yours that it can apply to."),
            ):
                command = click.option(word, "everyone", flag_value=value, default=None, help=text)(command)
        return click.argument(
            "jobs", metavar="[JOB]...", nargs=-1, shell_complete=_complete_jobs, callback=_as_answered
        )(command)

    return add


class Meant(NamedTuple):
    """Which jobs a request is about, as it says so."""

    jobs: tuple[str, ...]
    #: One's own.
    all: bool
    all_users: bool


def meant_jobs(jobs: tuple[str, ...], everyone: str | None) -> Meant:
    """Return the names without repetition, or what --all said; neither, or both, is a usage error."""
    if everyone and jobs:
        raise click.UsageError("cannot take both job names and --all")
    if not everyone and not jobs:
        raise click.UsageError("cannot tell which job is meant: name one or several, or give --all")
    return Meant(tuple(dict.fromkeys(jobs)), everyone == "mine", everyone == "users")


json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects.")

every_option = click.option(
    "--every",
    "every_s",
    type=_PERIOD,
    metavar="TIME",
    help="Save in the background every 30s, 10m, 2h ... while it trains.",
)


def waitable(command: F) -> F:
    """Take --wait and --timeout."""
    timeout = click.option(
        "--timeout", type=DURATION, metavar="TIME", help="With --wait: give up waiting; the request stands."
    )
    wait = click.option("--wait", "wait", is_flag=True, help="Wait until it is reached, and show the stages.")
    return wait(timeout(command))


def treatment(command: F) -> F:
    """Take what rules and the queue go by: priority, protection, labels, needs."""
    for option in (
        click.option(
            "--cpus",
            "num_cpus",
            type=click.FloatRange(0, 1e6),
            metavar="N",
            help="CPUs that it needs to start.",
        ),
        click.option(
            "--memory", "memory_bytes", type=SIZE, metavar="SIZE", help="Memory that it needs to start: 8G."
        ),
        click.option(
            "--gpu-memory",
            "gpu_memory_bytes",
            type=SIZE,
            metavar="SIZE",
            help="Memory that it needs on each GPU: 20G.",
        ),
        click.option(
            "--gpus",
            "num_gpus",
            type=click.IntRange(0, 1024),
            metavar="K",
            help="GPUs that it needs; it gets that many.",
        ),
        click.option(
            "--label",
            "labels",
            metavar="KEY=VALUE",
            multiple=True,
            callback=parse_labels,
            help="For rules that pick jobs by label.",
        ),
        click.option("--protect", "protected", is_flag=True, help="Rules leave it alone."),
        click.option(
            "--priority",
            type=click.IntRange(-MAX_PRIORITY, MAX_PRIORITY),
            help="Higher yields later and returns earlier; 0.",
        ),
    ):
        command = option(command)
    return command


def limits(command: F) -> F:
    """Take what the job may use at most."""
    memory = click.option(
        "--memory-max",
        "memory_max_bytes",
        type=SIZE,
        metavar="SIZE",
        callback=_at_least_some_memory,
        help="The kernel ends what would take more: 12G. Needs systemd.",
    )
    weight = click.option(
        "--cpu-weight",
        type=click.IntRange(1, MAX_CPU_WEIGHT),
        metavar="N",
        help="Its share of busy CPUs, where others have 100. Needs systemd.",
    )
    return memory(weight(command))
