"""How long until a transition of a job is safe on disk, beside the least that SQLite and the disk allow."""

from __future__ import annotations

import os
import select
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.common import main, print_table, range_of, scratch, take_turns
from supervisor.core.jobs.events import PauseAsked
from supervisor.core.jobs.job import Asker, Job, JobPause, JobRun, JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.ports import Batch, JournalRow
from supervisor.store.journal import SqliteJournal

#: As many bytes as the flush of a page; SQLite's WAL writes two of them for a transition.
_PAGE_BYTES = 4096


def run(*, quick: bool) -> None:
    rounds = 20 if quick else 500
    with scratch() as folder, ExitStack() as stack:
        figures = take_turns(
            {
                f"append {_PAGE_BYTES // 1024} KiB + fsync": stack.enter_context(_fsync(folder / "page")),
                "bare sqlite3, WAL, synchronous=FULL, one row": stack.enter_context(
                    _bare(folder / "bare.sqlite")
                ),
                "`SqliteJournal`: append to committed": stack.enter_context(
                    _journal(folder / "journal.sqlite")
                ),
            },
            rounds,
        )
    bare = statistics.median(figures["bare sqlite3, WAL, synchronous=FULL, one row"])
    rows = []
    for name, values in figures.items():
        ms = statistics.median(values)
        rows.append([name, f"{ms:.2f}", range_of(values, 2), f"{ms / bare:.2f}"])
    header = ["what", "median", "10 - 90 %", "beside bare sqlite3"]
    print_table("One transition durable, ms", header, rows)


def _row(seq: int) -> JournalRow:
    """Return a transition of the usual size: a pause is asked of a job with an environment."""
    env = {f"NAME_{number}": "x" * 40 for number in range(30)}
    spec = JobSpec(argv=("python", "train.py"), cwd="/home/somebody/run", env=env)
    job = Job(
        id="j-1",
        name="job-1",
        spec=spec,
        created_at=1.0,
        state=JobState.PAUSING,
        since=float(seq),
        request=f"{seq:016x}",
        run=JobRun(started_at=1.0),
        pause=JobPause(depth=Depth.HOLD, by=Asker("person", "somebody"), reason="a game"),
    )
    asked = PauseAsked(
        request=job.request,
        by=Asker("person", "somebody"),
        depth=Depth.HOLD,
        deadline_s=300.0,
        reason="a game",
    )
    return JournalRow(seq=seq, job=job.name, at=float(seq), wall=1.8e9 + seq, event=asked, after=job)


@contextmanager
def _journal(path: Path) -> Iterator[Callable[[], float]]:
    journal = SqliteJournal(path)
    ready = select.poll()
    ready.register(journal.fileno(), select.POLLIN)
    numbers = count(1)

    def ms() -> float:
        number = next(numbers)
        batch = Batch(number, (_row(number),))
        began = time.perf_counter()
        journal.append(batch)
        while journal.committed() < number:
            ready.poll(1000)
            journal.acknowledge()
        return (time.perf_counter() - began) * 1000

    try:
        yield ms
    finally:
        journal.close()


@contextmanager
def _bare(path: Path) -> Iterator[Callable[[], float]]:
    """Insert as many bytes as a transition has, in one row, and nothing else."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE lines (seq INTEGER PRIMARY KEY, line BLOB)")
    line = msgspec.json.encode(_row(1))

    def ms() -> float:
        began = time.perf_counter()
        db.execute("INSERT INTO lines (line) VALUES (?)", (line,))
        return (time.perf_counter() - began) * 1000

    try:
        yield ms
    finally:
        db.close()


@contextmanager
def _fsync(path: Path) -> Iterator[Callable[[], float]]:
    page = os.urandom(_PAGE_BYTES)
    with path.open("wb", buffering=0) as file:

        def ms() -> float:
            began = time.perf_counter()
            file.write(page)
            os.fsync(file.fileno())
            return (time.perf_counter() - began) * 1000

        yield ms


if __name__ == "__main__":
    main(run)
