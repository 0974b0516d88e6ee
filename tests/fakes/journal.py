"""A journal in memory, and a brake for a real one: the test says when a batch reaches the disk.

Covers: everything that tests/contract/test_journal.py demands of a journal, and
the moment between `append` and the flush at which a daemon can be killed.
Does not cover: files, threads.
"""

from __future__ import annotations

import os
import select
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from supervisor.core.jobs.events import JobEvent
from supervisor.core.jobs.job import Job
from supervisor.core.readings.sample import Sample
from supervisor.ports import Batch, Journal, JournalRow, StoredBlock, StoredEvent

__all__ = ["BrakedJournal", "FakeDisk", "FakeJournal"]


class FakeDisk:
    """What survives a kill -9 of the daemon; bytes, as on the real one."""

    def __init__(self) -> None:
        self.jobs: dict[str, bytes] = {}
        self.events: list[tuple[int, float, float, str, bytes, str]] = []
        self.facts: dict[str, str] = {}
        self.blocks: list[StoredBlock] = []
        #: Why nothing can be written at present.
        self.failure = ""

    def write(self, batch: Batch) -> None:
        rows = [_encoded(row) for row in batch.rows]
        self.events += rows
        for row in batch.rows:
            if row.after is None:
                self.jobs.pop(row.job, None)
            else:
                self.jobs[row.job] = msgspec.json.encode(row.after)
        self.facts |= batch.facts


class FakeJournal:
    """See ports.Journal. Nothing is stored before `write()`; each is one life of the daemon."""

    def __init__(self, disk: FakeDisk | None = None) -> None:
        self.disk = FakeDisk() if disk is None else disk
        self._waiting: deque[Batch] = deque()
        self._committed = 0
        self._problem = ""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def write(self) -> None:
        """Be the thread that writes: store all that was taken, or say why not."""
        self._problem = self.disk.failure
        while self._waiting and not self._problem:
            batch = self._waiting.popleft()
            self.disk.write(batch)
            self._committed = batch.number
        os.eventfd_write(self._wake_fd, 1)

    def jobs(self) -> list[Job]:
        return [msgspec.json.decode(record, type=Job) for _, record in sorted(self.disk.jobs.items())]

    def unreadable(self) -> dict[str, str]:
        return {}

    def facts(self) -> dict[str, str]:
        return dict(self.disk.facts)

    def append(self, batch: Batch) -> None:
        self._waiting.append(batch)

    def committed(self) -> int:
        return self._committed

    def last_seq(self) -> int:
        return max((event[0] for event in self.disk.events), default=0)

    def fileno(self) -> int:
        return self._wake_fd

    def acknowledge(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)

    def problem(self) -> str:
        return self._problem

    def history(self, *, after_seq: int, job: str | None, limit: int, user: str = "") -> list[StoredEvent]:
        rows = [row for row in self.disk.events if job in (None, row[3])]
        found = [_decoded(*row) for row in rows if not user or row[3].startswith(f"{user}/")]
        if after_seq < 0:
            return found[-limit:] if limit else []
        return [one for one in found if one.seq > after_seq][:limit]

    def record(self, samples: Sequence[Sample], *, limit_bytes: int) -> None:
        if samples and not self.disk.failure:
            block = zlib.compress(msgspec.msgpack.encode(list(samples)))
            self.disk.blocks.append(StoredBlock(samples[0].wall, samples[-1].wall, block))
            while sum(len(one.block) for one in self.disk.blocks) > limit_bytes:
                self.disk.blocks.pop(0)

    def recorded(self, *, after_wall: float, before_wall: float, limit: int) -> list[StoredBlock]:
        found = [one for one in self.disk.blocks if after_wall < one.first < before_wall]
        return sorted(found, key=lambda one: one.first)[:limit]

    def close(self) -> None:
        self.write()
        os.close(self._wake_fd)


class BrakedJournal:
    """In front of a real journal: batches wait until the test lets them through, or are lost with it."""

    def __init__(self, inner: Journal, on_append: Callable[[Batch], None]) -> None:
        self.inner = inner
        self.waiting: deque[Batch] = deque()
        self.unreadable = inner.unreadable
        self.jobs, self.facts, self.committed = inner.jobs, inner.facts, inner.committed
        self.last_seq, self.fileno, self.acknowledge = inner.last_seq, inner.fileno, inner.acknowledge
        self.problem, self.history, self.close = inner.problem, inner.history, inner.close
        self.record, self.recorded = inner.record, inner.recorded
        self._on_append = on_append

    def append(self, batch: Batch) -> None:
        self._on_append(batch)
        self.waiting.append(batch)

    def let_through(self, count: int) -> list[Batch]:
        """Store the oldest `count` batches, and return them when they are safe."""
        batches = [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]
        for batch in batches:
            self.inner.append(batch)
        if isinstance(self.inner, FakeJournal):
            self.inner.write()
        while batches and self.inner.committed() < batches[-1].number:
            ready, _, _ = select.select([self.inner], [], [], 60.0)
            assert ready, "nothing was stored within a minute"
            self.inner.acknowledge()
        return batches


def _encoded(row: JournalRow) -> tuple[int, float, float, str, bytes, str]:
    state = "removed" if row.after is None else str(row.after.state)
    return row.seq, row.at, row.wall, row.job, msgspec.json.encode(row.event), state


def _decoded(seq: int, at: float, wall: float, job: str, event: bytes, state: str) -> StoredEvent:
    decoded = msgspec.json.decode(event, type=JobEvent)
    return StoredEvent(seq=seq, at=at, wall=wall, job=job, event=decoded, state=state)
