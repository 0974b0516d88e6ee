"""The journal on SQLite: events appended and jobs updated in one transaction.

Covers: durable, ordered, all-or-nothing batches, written by a thread of their
own so that the engine's loop never waits for a disk; reading back.
Does not cover: what the events mean. Whoever appends must wait for
`committed()` before acting on a batch. The file itself (opening.py), its rows (rows.py).

WAL with synchronous=FULL: a commit that was reported survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). A disk that is full or
fails is not an end: the same batches are tried again until they are stored,
and `problem()` says why it takes so long. A file that is taken away is written
anew from the one that is still open.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from supervisor.core.jobs.job import Job
from supervisor.core.readings.sample import Sample
from supervisor.errors import SupervisorError
from supervisor.ports import Batch, JournalRow, StoredBlock, StoredEvent
from supervisor.set_aside import SetAside
from supervisor.store import opening, rows
from supervisor.store import samples as sample_blocks

__all__ = ["SqliteJournal"]


class _Recorded(NamedTuple):
    """Readings to store, and how much room all of them may take."""

    samples: tuple[Sample, ...]
    limit_bytes: int


#: Says to the writer that there are some.
_WAKE = _Recorded((), 0)


_RETRY_S = 1.0

#: Blocks of readings that wait for the writer.
_MAX_RECORDED = 5

#: Events of jobs that were removed are kept that long.
_KEEP_REMOVED_S = 30 * 86400.0

_PRUNE_EVERY_S = 86400.0

_INSERT_EVENT = "INSERT INTO events (seq, at, wall, job, event, state) VALUES (?, ?, ?, ?, ?, ?)"
_UPSERT_JOB = (
    "INSERT INTO jobs (id, owner, name, record) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, record = excluded.record"
)
#: By its name, as one whose record makes no sense is removed, too.
_DELETE_JOB = "DELETE FROM jobs WHERE name = ?"
_UPSERT_FACT = (
    "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
)
#: By the steady clock: a day on which the other one was wrong must not cost the history.
_PRUNE = "DELETE FROM events WHERE at < ? AND job NOT IN (SELECT name FROM jobs)"


class SqliteJournal:
    """See ports.Journal. One process at a time: a lock beside the file sees to that.

    The daemon's own lock is in its run folder, and that depends on how its user logged in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside: list[SetAside] = []
        try:
            self._locks = [opening.take_lock(path)]
            self._reader, self._aside = opening.open_or_replace(path)
            self._writer = opening.connect(path)
            self._inode = _identity(path)
        except (OSError, sqlite3.Error) as error:
            raise SupervisorError(
                f"cannot open the journal `{path}`: {error}",
                hint="check the disk and the permissions; to begin anew, move the file away",
            ) from error
        self._unreadable: dict[str, str] = {}
        self._odd_facts = [self._odd_fact(*fact) for fact in rows.read_facts(self._reader)[1].items()]
        #: Connections to what was under its name before.
        self._left: list[sqlite3.Connection] = []
        self._inbox: queue.SimpleQueue[Batch | _Recorded | None] = queue.SimpleQueue()
        #: A disk that hangs for long costs readings, not memory.
        self._recorded: deque[_Recorded] = deque(maxlen=_MAX_RECORDED)
        self._record_problem = ""
        self._committed = 0
        self._pruned_at = 0.0
        self._problem = ""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="journal", daemon=True)
        self._thread.start()

    def jobs(self) -> list[Job]:
        """Return all jobs as last stored, oldest name first."""
        jobs, self._unreadable = rows.read_jobs(self._reader)
        return jobs

    def unreadable(self) -> dict[str, str]:
        """Return the jobs whose records made no sense to `jobs()`, with the reason; they stay in the file."""
        return self._unreadable

    def facts(self) -> dict[str, str]:
        """Return the small things that were stored with batches."""
        return rows.read_facts(self._reader)[0]

    def aside(self) -> tuple[SetAside, ...]:
        """Return what is wrong with the file, its tables and its facts."""
        return (*self._aside, *self._odd_facts)

    def _odd_fact(self, name: str, why: str) -> SetAside:
        why = f"cannot use `{name}` in the journal `{self._path}`: {why}"
        hint = "it is written anew by itself when it changes"
        return SetAside(kind="row", name=name, where=str(self._path), why=why, hint=hint)

    def look(self) -> None:
        """Look whether the file is still there, and write it anew where it is not; returns at once."""
        self._inbox.put(_WAKE)

    def last_seq(self) -> int:
        """Return the number of the newest stored event, 0 if there is none."""
        (seq,) = self._reader.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        return int(seq)

    def append(self, batch: Batch) -> None:
        """Hand a batch to the writer; returns at once."""
        self._inbox.put(batch)

    def record(self, samples: Sequence[Sample], *, limit_bytes: int) -> None:
        """Hand readings to the writer; every batch comes first, and what cannot be stored is dropped."""
        if samples:
            self._recorded.append(_Recorded(tuple(samples), limit_bytes))
            self._inbox.put(_WAKE)

    def recorded(self, *, after_wall: float, before_wall: float, limit: int) -> list[StoredBlock]:
        """Return blocks of readings that begin in between, oldest first."""
        return sample_blocks.read(self._reader, after_wall=after_wall, before_wall=before_wall, limit=limit)

    def committed(self) -> int:
        """Return the number of the last batch that is safe on disk."""
        return self._committed

    def problem(self) -> str:
        """Return why nothing can be stored at present, or ""."""
        return self._problem

    def record_problem(self) -> str:
        """Return why the last readings were not stored, or ""."""
        return self._record_problem

    def fileno(self) -> int:
        """Return a descriptor that is readable after a change."""
        return self._wake_fd

    def acknowledge(self) -> None:
        """Make `fileno()` unreadable until the next change."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return

    def history(self, *, after_seq: int, job: str | None, limit: int, user: str = "") -> list[StoredEvent]:
        """Return events after that number, oldest first; with -1 the newest `limit`; of one user's jobs."""
        return rows.read_events(self._reader, after_seq=after_seq, job=job, limit=limit, user=user)

    def close(self) -> None:
        """Store what was taken, once more if need be, then let go."""
        self._closing.set()
        self._inbox.put(None)
        self._thread.join()
        for db in (self._writer, self._reader, *self._left):
            db.close()
        for fd in (self._wake_fd, *self._locks):
            os.close(fd)

    def _write_forever(self) -> None:
        while (batches := self._take()) is not None:
            if batches and not self._store(batches):
                return
            if not batches:
                self._stay_in_place()
            if self._recorded:
                self._store_samples(self._writer, self._recorded.popleft())

    def _take(self) -> list[Batch] | None:
        """Wait for batches and take all there are, so that one flush serves many; None: it is over."""
        batches: list[Batch] = []
        try:
            item = self._inbox.get(block=not self._recorded)
            while item is not None:
                if isinstance(item, Batch):
                    batches.append(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return batches
        if not batches and not self._recorded:
            return None
        self._inbox.put(None)
        return batches

    def _store_samples(self, db: sqlite3.Connection, recorded: _Recorded) -> None:
        """Store one block, or drop it: no job depends on it, and the disk may be needed for those that do."""
        try:
            with db:
                db.execute("BEGIN IMMEDIATE")
                num = sample_blocks.write(db, recorded.samples, limit_bytes=recorded.limit_bytes)
        except (sqlite3.Error, MemoryError, ValueError, OverflowError) as error:
            self._record_problem = f"cannot record readings in `{self._path}`: {error}"
        else:
            them = "a reading" if num == 1 else f"{num} readings"
            many = "more jobs, GPUs and processes were read than fit into one record"
            self._record_problem = f"cannot record {them} of the last minutes: {many}" if num else ""

    def _stay_in_place(self) -> None:
        try:
            self._make_anew_where_gone()
        except (OSError, sqlite3.Error, SupervisorError) as error:
            self._tell(f"cannot write the journal `{self._path}` anew: {error}")

    def _make_anew_where_gone(self) -> None:
        """See to it that what is stored from here on is under the journal's name; may raise."""
        if opening.is_in_place(self._path, self._inode):
            return
        said = opening.write_anew(self._path, self._writer)
        if not opening.is_in_place(Path(f"{self._path}.lock"), _identity(self._locks[-1])):
            self._locks.append(opening.take_lock(self._path))
        reader, writer = opening.connect(self._path), opening.connect(self._path)
        inode = _identity(self._path)
        # The loop may be reading from the old one at this moment: it is closed at the end.
        self._left += [self._reader, self._writer]
        self._reader, self._writer, self._inode = reader, writer, inode
        self._aside = [*self._aside, said]
        self._tell("")

    def _store(self, batches: Sequence[Batch]) -> bool:
        """Say whether they are stored; where not, nothing that follows them may be."""
        while True:
            is_last_try = self._closing.is_set()
            try:
                self._make_anew_where_gone()
                with self._writer as db:
                    db.execute("BEGIN IMMEDIATE")
                    for batch in batches:
                        _write(db, batch)
                    self._prune(db, batches)
            # SQLite without memory is a MemoryError, a text that is no UTF-8 a ValueError. Were this thread
            # to end of one, the daemon would wait for it without a word.
            except (OSError, sqlite3.Error, SupervisorError, MemoryError, ValueError, OverflowError) as error:
                self._tell(f"cannot write the journal `{self._path}`: {error}")
                if is_last_try:
                    return False
                self._closing.wait(_RETRY_S)
            else:
                self._committed = batches[-1].number
                self._tell("")
                return True

    def _prune(self, db: sqlite3.Connection, batches: Sequence[Batch]) -> None:
        """At first and once a day forget what happened long ago to jobs that were removed."""
        now = max((row.at for batch in batches for row in batch.rows), default=0.0)
        if now - self._pruned_at >= _PRUNE_EVERY_S:
            self._pruned_at = now
            db.execute(_PRUNE, (now - _KEEP_REMOVED_S,))

    def _tell(self, problem: str) -> None:
        self._problem = problem
        os.eventfd_write(self._wake_fd, 1)


def _identity(file: Path | int) -> tuple[int, int]:
    there = os.stat(file)  # noqa: PTH116  # Of a descriptor, too.
    return there.st_dev, there.st_ino


def _write(db: sqlite3.Connection, batch: Batch) -> None:
    db.executemany(_INSERT_EVENT, [_event_values(row) for row in batch.rows])
    for row in batch.rows:
        if row.after is None:
            db.execute(_DELETE_JOB, (row.job,))
        else:
            record = msgspec.json.encode(row.after).decode()
            db.execute(_UPSERT_JOB, (row.after.id, row.after.spec.user, row.job, record))
    db.executemany(_UPSERT_FACT, list(batch.facts.items()))


def _event_values(row: JournalRow) -> tuple[int, float, float, str, str, str]:
    state = "removed" if row.after is None else str(row.after.state)
    return row.seq, row.at, row.wall, row.job, msgspec.json.encode(row.event).decode(), state
