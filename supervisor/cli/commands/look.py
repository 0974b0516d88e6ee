"""Commands that look and change nothing: status, show, logs, events."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.api import JobRow
from supervisor.cli.commands.goals import is_over
from supervisor.cli.commands.status import show_status
from supervisor.cli.options import connect, job_argument, jobs_argument, json_option, paths
from supervisor.cli.output.render import event_lines, show_lines, state_of
from supervisor.cli.output.screen import data, print_json, print_json_line, screen, tell
from supervisor.core.jobs.names import KEY
from supervisor.core.jobs.states import JobState
from supervisor.errors import NoDaemon, Refused, SupervisorError

if TYPE_CHECKING:
    from supervisor.cli.output.tail import Tail
    from supervisor.client import Client

__all__ = ["events", "logs", "show", "status"]

_ASK = "ask that user, or an admin of this daemon"

#: How often a growing log is looked at; a person takes that for at once.
_POLL_S = 0.2
#: The tail that `show` gives of a failed job: as long as a usual traceback, and at most some screens.
_SHOW_LINES = 20
_SHOW_BYTES = 8 * 1024


@click.command(short_help="Show jobs: state, progress, use, and why.")
@jobs_argument(with_all=False)
@json_option
@click.pass_context
def status(ctx: click.Context, *, jobs: tuple[str, ...], as_json: bool) -> None:
    """Show all jobs, or those named: state, progress, use, and why."""
    said = ctx.find_root().params
    show_status(said.get("home"), jobs, as_json=as_json, system=said.get("system"))


@click.command(short_help="Show everything about a job.")
@job_argument()
@json_option
@click.pass_context
def show(ctx: click.Context, *, job: str, as_json: bool) -> None:
    """Show everything about a job; of a failed one also the end of its log."""
    with connect(ctx) as client:
        reply = client.show(job)
    if as_json:
        print_json([reply])
        return
    tail = _end_of_log(reply.row) if reply.row.state == JobState.FAILED else []
    facts = screen(sys.stdout)
    for line in show_lines(reply, tail=tail, width=facts.width, colour=facts.colour):
        data(line)


def _end_of_log(row: JobRow) -> list[str]:
    from supervisor.cli.output.tail import Tail, last_states

    if not row.log or row.by_hand:
        return []
    try:
        with Tail(Path(row.log)) as log:
            return last_states(log.last_bytes(), num_lines=_SHOW_LINES, max_bytes=_SHOW_BYTES)
    except Refused as error:
        return [str(error)]


def _num_lines(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    if value == "all":
        return None
    # So many digits are more lines than any disk holds.
    if not value.isdecimal() or len(value) > 18:
        raise click.BadParameter(f"`{value[:40]}` is neither a number nor `all`")
    return int(value)


@click.command(short_help="Show what a job printed, in all its incarnations.")
@job_argument()
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@click.option("-F", "--forever", is_flag=True, help="Go on for ever, also through restarts of the job.")
@click.option(
    "-n", "--lines", metavar="N", default="100", show_default=True, callback=_num_lines, help="Or `all`."
)
@click.pass_context
def logs(ctx: click.Context, *, job: str, follow: bool, forever: bool, lines: int | None) -> None:
    """Show what a job printed, in all its incarnations."""
    from supervisor.cli.output.tail import Tail

    try:
        client = connect(ctx)
    except NoDaemon:
        # A log is wanted most when things are down.
        path = paths(ctx).log(job) if KEY.fullmatch(job) else Path("/nonexistent")
        if not path.is_file():
            raise
        tell("the daemon is not there; this is what is left on disk")
        with Tail(path, say=tell) as log:
            _begin(log, lines)
            while forever:
                time.sleep(_POLL_S)
                _drain(log)
        return
    with client:
        row = _one(client.status((job,)).rows, job)
        if not row.log and "/" in row.name:
            raise Refused(f"cannot show the log of job `{row.name}`: it belongs to another user", hint=_ASK)
        if row.by_hand:
            raise Refused(
                f"cannot show the log of job `{job}`: it was started by hand and prints where that was",
                hint="`supervisorctl run` keeps a log of what it starts",
            )
        path = Path(row.log) if row.log else paths(ctx).log(row.name)
        with Tail(path, pid=row.pid, say=tell) as log:
            _begin(log, lines)
            if follow or forever:
                _follow(client, row, log, forever=forever)
            elif row.pid is None and not path.is_file():
                tell(f"{job} has not printed anything yet, it is {state_of(row)}")


def _begin(log: Tail, lines: int | None) -> None:
    from supervisor.cli.output.tail import MAX_TAIL_BYTES

    if log.skip_to_last(lines):
        tell(f"only the last {MAX_TAIL_BYTES >> 20} MiB of it; `-n all` shows everything")
    _drain(log)


def _one(rows: list[JobRow], job: str) -> JobRow:
    if len(rows) != 1 or "\0" in rows[0].log:
        raise SupervisorError(
            f"cannot understand the daemon's answer: {len(rows)} rows for job `{job}`, or no path of a log",
            hint="`supervisorctl version` tells whether both are of the same version",
        )
    return rows[0]


def _follow(client: Client, row: JobRow, log: Tail, *, forever: bool) -> None:
    """Copy what is written until the job is over. A daemon that goes away does not end it."""
    watch = client.watch((row.name,))
    while forever or not is_over(row):
        _drain(log)
        rows = watch.poll(_POLL_S)
        row = rows[-1] if rows else row
    # What was written between the last look and the end.
    _drain(log)
    tell(f"{row.name} is {state_of(row)}")


def _drain(log: Tail) -> None:
    while some := log.more():
        sys.stdout.buffer.write(some)
        sys.stdout.buffer.flush()


@click.command(short_help="Show what happened to all jobs, or to one.")
@job_argument(required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with each new one as it comes.")
@click.option("-n", "--lines", metavar="N", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
@click.pass_context
def events(ctx: click.Context, *, job: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Show what happened to all jobs, or to one: a line an event, two where the terminal is narrow."""
    width = screen(sys.stdout).width
    with connect(ctx) as client:
        if not follow:
            stored = client.events(job=job, limit=lines)
            if as_json:
                print_json(stored)
                return
            for line in event_lines(stored, width=width, colour=screen(sys.stdout).colour):
                data(line)
            return
        if not as_json:
            for line in event_lines((), width=width):
                data(line)
        for event in client.follow(job=job, limit=lines):
            if as_json:
                print_json_line(event)
            else:
                for line in event_lines((event,), header=False, width=width):
                    data(line)
                sys.stdout.flush()
