"""Journal before effect: what happened is handed over in batches, and what follows from it waits for them.

Covers: the batch that is gathered, those that are being written, what is due when they are stored, what
does not wait for a disk that fails. Does not cover: what happened (engine.py), storing it (store/).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from supervisor.ports import Batch, Journal, JournalRow

__all__ = ["Staging"]

_Call = Callable[[], None]


class Staging:
    """Used from the loop's thread."""

    def __init__(self, journal: Journal, on_stored: Callable[[JournalRow], None]) -> None:
        self._journal, self._on_stored = journal, on_stored
        self._rows: list[JournalRow] = []
        self._after: list[_Call] = []
        self._facts: dict[str, str] = {}
        self._waiting: deque[tuple[Batch, list[_Call], list[_Call], set[str]]] = deque()
        #: What waited for batches that are stored by now.
        self._due: deque[_Call] = deque()
        self._num_batches = 0
        #: What is done all the same where nothing can be stored.
        self._urgent: list[_Call] = []
        #: Jobs for which something else waits.
        self._held: set[str] = set()

    @property
    def held(self) -> frozenset[str]:
        """The jobs for which nothing is done of what was asked, because it cannot be stored."""
        if not self._journal.problem():
            return frozenset()
        return frozenset(self._held.union(*(held for *_, held in self._waiting)))

    @property
    def has_due(self) -> bool:
        """Whether an error left something undone."""
        return bool(self._due)

    def add(self, row: JournalRow) -> None:
        """Take an event into the next batch."""
        self._rows.append(row)

    def remember(self, facts: Mapping[str, str]) -> None:
        """Store small things with the next batch."""
        self._facts |= facts

    def then(self, call: _Call) -> None:
        """Call it once everything that happened so far is stored; at once where it is."""
        if self._rows or self._waiting:
            self._after.append(call)
        else:
            call()

    def after(self, call: _Call, *, job: str, is_urgent: bool) -> None:
        """Call it once the next batch is stored; what is urgent also when that fails, so perhaps twice."""
        self._after.append(call)
        if is_urgent:
            self._urgent.append(call)
        else:
            self._held.add(job)

    def stage(self) -> None:
        """Hand all changes to the journal as one batch."""
        if not (self._rows or self._after or self._facts):
            return
        self._num_batches += 1
        batch = Batch(self._num_batches, tuple(self._rows), self._facts)
        self._waiting.append((batch, self._after, self._urgent, self._held))
        self._rows, self._after, self._urgent, self._facts, self._held = [], [], [], {}, set()
        self._journal.append(batch)

    def settle(self) -> None:
        """Carry out what waited for batches that are stored by now."""
        committed = self._journal.committed()
        while self._waiting and self._waiting[0][0].number <= committed:
            batch, calls, *_ = self._waiting.popleft()
            self._due.extend(partial(self._on_stored, row) for row in batch.rows)
            self._due.extend(calls)
        if self._waiting and self._journal.problem():
            for _, _, urgent, _ in self._waiting:
                self._due.extend(urgent)
                urgent.clear()
        # One that raises ends this round and is lost; the launches behind it must not be lost with it.
        while self._due:
            self._due.popleft()()
