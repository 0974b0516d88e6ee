"""What people see of jobs and events: rows of the wire in, lines of text out. Pure.

Does not cover: units and alignment (text.py), `--json`, which takes the same rows (output.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from supervisor.api import Event, JobRow, ShowReply
from supervisor.cli.output.text import (
    Column,
    ago,
    bold,
    clean,
    count_of,
    cut,
    duration,
    folded,
    number,
    percent,
    size,
    table,
    width_of,
    wrapped,
)
from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import QUEUE_IN_WORDS

__all__ = ["event_lines", "progress", "show_lines", "state_of", "status_lines", "why"]

_COLUMNS: Final = (
    Column("NAME"),
    Column("USER", spare=10),
    Column("STATE"),
    Column("SINCE", spare=3, right=True),
    Column("PRIORITY", spare=9, right=True),
    Column("STEP", spare=1, right=True),
    Column("EPOCH", spare=8, right=True),
    Column("STEPS/S", spare=7, right=True),
    Column("ETA", spare=2, right=True),
    Column("CPU", spare=6, right=True),
    Column("RSS", spare=5, right=True),
    Column("CHECKPOINT", spare=4, right=True),
    Column("WHY"),
)
_STATE: Final = 2
_COLOURS: Final = {
    JobState.RUNNING: "32",
    JobState.COMPLETED: "32",
    JobState.PAUSED: "33",
    JobState.PAUSING: "33",
    JobState.FAILED: "31",
    JobState.STOPPED: "2",
}
#: A loop that has not passed a boundary for that long is worth a word; some steps take half a minute.
_BOUNDARY_WORTH_S: Final = 30.0
#: Five heartbeats: one or two may be late on a busy machine, a process that is stopped sends none.
_HEARTBEAT_WORTH_S: Final = 10.0
#: Narrower than that not even the columns before the details of an event fit.
_EVENTS_MIN: Final = 80
_INDENT: Final = "  "


def status_lines(rows: Sequence[JobRow], *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return the table of `supervisorctl status`."""

    def paint(row: int, column: int, cell: str) -> str:
        code = _COLOURS.get(JobState(rows[row].state)) if rows[row].state in set(JobState) else None
        return f"\x1b[{code}m{cell}\x1b[0m" if code and column == _STATE else cell

    with_priority = any(row.priority for row in rows)
    with_user = len({row.user for row in rows}) > 1
    cells = [
        _cells(row, row.user if with_user else "-", str(row.priority) if with_priority else "-")
        for row in rows
    ]
    lines = (
        table(_COLUMNS, cells, width=width, paint=paint) if colour else table(_COLUMNS, cells, width=width)
    )
    return [bold(lines[0]), *lines[1:]] if colour else lines


def _cells(row: JobRow, user: str, priority: str) -> tuple[str, ...]:
    return (
        clean(row.name),
        clean(user),
        state_of(row),
        duration(row.since_s),
        priority,
        count_of(row.step, row.num_steps),
        count_of(row.epoch, row.num_epochs, share=False),
        number(row.steps_per_s),
        duration(row.eta_s),
        percent(row.cpu_pct),
        size(row.rss_bytes),
        ago(row.checkpoint_age_s),
        why(row),
    )


def state_of(row: JobRow) -> str:
    """Return the state, with its depth where it has one."""
    return clean(f"{row.state} ({row.depth})" if row.depth else row.state)


def progress(row: JobRow) -> str:
    """Return what happens inside the state: the line that a waiting command shows."""
    if row.frozen_s is not None:
        newest = f"its newest checkpoint is {duration(row.checkpoint_age_s)} old"
        has = newest if row.checkpoint_age_s is not None else "it has no checkpoint yet"
        return f"frozen for {duration(row.frozen_s)}: no batch boundary came in time; {has}"
    # Without a shim nobody knows of boundaries.
    if row.late and "shim" not in row.stage:
        return (
            f"no batch boundary for {duration(row.boundary_age_s)}"
            if row.boundary_age_s
            else "no batch boundary yet"
        )
    stage = clean(row.stage)
    if "boundary" in stage and row.boundary_age_s is not None:
        return f"{stage} (last one {ago(row.boundary_age_s)})"
    return stage or state_of(row)


def why(row: JobRow) -> str:
    """Return what a person should know beside the state: who, why, until when, what is wrong."""
    return "; ".join(part for part in map(clean, _reasons(row)) if part)


def left(row: JobRow) -> str:
    """Return what outlived the command of a job: names, numbers, memory."""
    return ", ".join(f"{one.program} {one.pid} ({size(one.rss_bytes)})" for one in row.left)


def _asked(row: JobRow) -> str:
    """Return who wanted it, and why."""
    if not row.asked_by:
        return row.reason
    if row.reason and row.asked_by.startswith(("rule ", QUEUE_IN_WORDS)):
        return f"{row.asked_by}: {row.reason}"
    return f"asked by {row.asked_by}" + (f": {row.reason}" if row.reason else "")


def _reasons(row: JobRow) -> Iterable[str]:
    if row.late or row.stage:
        yield progress(row)
    yield row.problem
    yield f"left running: {left(row)}" if row.left else ""
    yield _asked(row)
    if row.wake_in_s is not None:
        yield f"resumes in {duration(row.wake_in_s)}"
    if row.restart_in_s is not None:
        yield f"starts again in {duration(row.restart_in_s)}"
    if row.state != JobState.RUNNING:
        return
    if row.pausable is False:
        yield "not pausable: no training shim has connected"
        return
    if (row.heartbeat_age_s or 0.0) >= _HEARTBEAT_WORTH_S:
        yield f"no word from its shim for {duration(row.heartbeat_age_s)}"
    if (row.boundary_age_s or 0.0) >= _BOUNDARY_WORTH_S and not row.late:
        yield f"no batch boundary for {duration(row.boundary_age_s)}"


def show_lines(
    reply: ShowReply, *, tail: Sequence[str] = (), width: int | None = None, colour: bool = False
) -> list[str]:
    """Return all facts about a job, in sections; `tail` is the end of its log."""
    row = reply.row
    heading = bold if colour else str
    lines = [heading(f"{clean(row.name)}  {state_of(row)}") + f"  for {duration(row.since_s)}"]
    for title, facts in _sections(reply):
        known = [(name, clean(value)) for name, value in facts if value not in ("", "-")]
        if known:
            lines += ["", heading(title)]
            lines += [line for name, value in known for line in folded(f"  {name:<13}", value, width)]
    if tail:
        lines += ["", heading("Last lines of the log")]
        lines += [line for text in tail for line in folded("  ", clean(text), width)]
    return lines


def _sections(reply: ShowReply) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    row = reply.row
    yield (
        "Why",
        [
            ("stage", progress(row) if row.late or row.stage else ""),
            ("problem", row.problem),
            ("gave back", f"{size(row.bytes_freed)} of GPU memory" if row.bytes_freed else ""),
            ("asked by", row.asked_by),
            ("reason", row.reason),
            ("resumes in", duration(row.wake_in_s)),
            ("starts again", "" if row.restart_in_s is None else f"in {duration(row.restart_in_s)}"),
            ("pausable", _pausable(reply)),
        ],
    )
    yield (
        "Progress",
        [
            ("step", count_of(row.step, row.num_steps)),
            ("epoch", count_of(row.epoch, row.num_epochs, share=False)),
            ("steps/s", number(row.steps_per_s)),
            ("time left", duration(row.eta_s)),
            ("boundary", ago(row.boundary_age_s)),
            ("heartbeat", ago(row.heartbeat_age_s)),
            *((clean(name), number(value)) for name, value in row.metrics.items()),
        ],
    )
    yield (
        "Checkpoint",
        [
            ("step", "" if row.checkpoint_step is None else str(row.checkpoint_step)),
            ("written", ago(row.checkpoint_age_s)),
            ("path", reply.checkpoint_path),
            ("digest", reply.checkpoint_digest),
            ("folder", reply.checkpoints),
        ],
    )
    yield "Process", _process(row, reply)
    yield (
        "Job",
        [
            ("command", _command(reply.argv)),
            ("folder", reply.cwd),
            ("restart", reply.restart),
            ("saves every", duration(reply.every_s)),
            ("user", row.user),
            ("priority", _priority(reply)),
            ("protected", "yes: rules leave it alone" if row.protected else ""),
            ("labels", ", ".join(f"{key}={text}" for key, text in sorted(reply.labels.items()))),
            ("needs", _needs(reply)),
            ("limits", _limits(reply)),
            ("asked for", "" if not reply.created_wall else _moment(reply.created_wall)),
            ("file", reply.source),
            (
                "environment",
                f"{len(reply.env_names)} variables: {' '.join(reply.env_names)}" if reply.env_names else "",
            ),
            ("log", row.log),
        ],
    )


def _priority(reply: ShowReply) -> str:
    said, counted = reply.row.priority, reply.counted_priority
    if counted is not None and counted != said:
        return f"{said}, against jobs of other users {counted}"
    return str(said) if said else ""


def _process(row: JobRow, reply: ShowReply) -> list[tuple[str, str]]:
    totals = reply.totals
    return [
        ("pid", "" if row.pid is None else str(row.pid)),
        ("starts", str(row.incarnation) if row.incarnation else ""),
        ("CPU", percent(row.cpu_pct)),
        ("CPU time", duration(totals.cpu_s)),
        ("memory", size(row.rss_bytes)),
        ("memory peak", f"{size(totals.peak_bytes)}, with files" if totals.peak_bytes is not None else ""),
        ("disks", _disks(reply)),
        ("left running", left(row)),
        ("GPUs", ", ".join(reply.gpus)),
        ("exit code", "" if row.exit_code is None else str(row.exit_code)),
        ("killed by", "" if row.exit_signal is None else f"signal {row.exit_signal}"),
    ]


def _needs(reply: ShowReply) -> str:
    """Return what the job needs to start, as it would be typed."""
    gib = 1 << 30
    words = (
        ("--gpus", f"{reply.num_gpus}" if reply.num_gpus else ""),
        ("--gpu-memory", f"{reply.gpu_memory_bytes / gib:.4g}G" if reply.gpu_memory_bytes else ""),
        ("--memory", f"{reply.memory_bytes / gib:.4g}G" if reply.memory_bytes else ""),
        ("--cpus", f"{reply.num_cpus:g}" if reply.num_cpus else ""),
    )
    return " ".join(f"{name} {value}" for name, value in words if value)


def _limits(reply: ShowReply) -> str:
    limits = reply.limits
    memory = "" if limits.memory_max_bytes is None else f"memory {size(limits.memory_max_bytes)}"
    weight = "" if limits.cpu_weight is None else f"CPU weight {limits.cpu_weight} (others: 100)"
    return ", ".join(filter(None, (memory, weight)))


def _disks(reply: ShowReply) -> str:
    read, written = reply.totals.read_bytes, reply.totals.written_bytes
    parts = (
        "" if read is None else f"{size(read)} read",
        "" if written is None else f"{size(written)} written",
    )
    return ", ".join(filter(None, parts))


def _pausable(reply: ShowReply) -> str:
    if reply.row.pausable is None:
        return ""
    return f"yes, {', '.join(reply.depths)}" if reply.row.pausable else "no, no training shim has connected"


def _command(argv: Sequence[str]) -> str:
    import shlex

    return shlex.join(argv)


def event_lines(
    events: Sequence[Event], *, header: bool = True, width: int | None = None, colour: bool = False
) -> list[str]:
    """Return stored events as a table; its columns do not depend on the rows, so that it can go on.

    Where the details would have no room behind the others, they stand below them, in full.
    """
    title = f"{'TIME':<19}  {'JOB':<16} {'EVENT':<16} {'STATE':<10} "
    is_narrow = width is not None and width < _EVENTS_MIN
    if is_narrow:
        titles = [f"{'TIME':<14} {'JOB':<16} {'EVENT':<16} STATE", f"{_INDENT}DETAIL"]
    else:
        titles = [f"{title}DETAIL"]
    top = [bold(cut(one, width)) if colour else cut(one, width) for one in titles] if header else []
    lines = (_narrow_lines(event, width) if is_narrow else _event_lines(event, width) for event in events)
    return [*top, *(line for some in lines for line in some)]


def _event_lines(event: Event, width: int | None) -> list[str]:
    job, kind, state, detail = map(clean, (event.job, event.kind, event.state, event.detail))
    line = f"{_moment(event.wall)}  {job:<16} {kind:<16} {state:<10} "
    whole = f"{line}{detail}".rstrip()
    if width is None or width_of(whole) <= width:
        return [whole]
    return [
        part for text in (line.rstrip(), _INDENT + detail) for part in wrapped(text, width, indent=_INDENT)
    ]


def _narrow_lines(event: Event, width: int | None) -> list[str]:
    job, kind, state, detail = map(clean, (event.job, event.kind, event.state, event.detail))
    # The year is what a person misses least.
    first = f"{_moment(event.wall)[5:]} {job:<16} {kind:<16} {state}"
    lines = [first, *([_INDENT + detail] if detail else [])]
    return [part for line in lines for part in wrapped(line, width or _EVENTS_MIN, indent=_INDENT)]


def _moment(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
