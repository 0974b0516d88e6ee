"""A training run under `supervisorctl prove`: writes down what it does, and pauses where a schedule says.

Covers: the trace, the pauses, digests of state, batches and generators, what the shim doubts.
Does not cover: comparing two traces (the command does), pausing itself: the
session does that as ever, here commanded by a schedule instead of a daemon.

Imported only when TRAINING_SUPERVISOR_PROVE is set. It takes the places of the
gate, of the link and of the cursor, so that a loop that is not proved pays nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer_shim import protocol, rng, trace
from trainer_shim.epoch_marks import EpochMarks
from trainer_shim.errors import NotSupported
from trainer_shim.gate import Gate, Want, merge
from trainer_shim.link_report import LinkReport
from trainer_shim.loader_strategies import READS_AGAIN  # A cost, and no doubt.
from trainer_shim.position import Cursor
from trainer_shim.protocol import Message, Pause, Resume
from trainer_shim.state_digests import digest_of, digests
from trainer_shim.way_back import WayBack

__all__ = ["Proof"]

_REQUEST = "prove"


class Proof:
    """Belongs to the training thread; `send` and `close` are those of a link."""

    def __init__(self, folder: Path, report: LinkReport) -> None:
        self.gate: Gate = _Gate(self, report)
        self._report = report
        self._pid = os.getpid()
        num_over = _num_over(folder / trace.TRACE)
        schedule = folder / trace.SCHEDULE
        #: The pauses that are to come.
        self._points = trace.read_schedule(schedule.read_bytes())[num_over:] if schedule.exists() else []
        # No buffer: data-loader workers are forked at any moment, and would have a copy of it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(folder / trace.TRACE, flags, 0o600)
        self._state: Callable[[], Mapping[str, Any]] = dict
        self._notes: Callable[[], list[str]] = list
        self._is_between_passes: Callable[[], bool] = bool
        self._batch = hashlib.blake2b(digest_size=8)
        self._has_batch = False
        #: The depth of the pause that is under way, "" without one.
        self._due = ""
        self._is_leaving = self._is_away = self._is_closed = False
        self._last: tuple[int, int] | None = None

    def cursor(self, marks: EpochMarks, way: WayBack) -> Cursor:
        """Return a cursor whose batches are written down."""
        made = _Cursor(self, self._report, marks, way)
        self._is_between_passes = made.is_between_passes
        return made

    def begin(self, state: Callable[[], Mapping[str, Any]], notes: Callable[[], list[str]]) -> None:
        """Note where the run begins, or what a checkpoint brought back.

        `state` gives all that is the script's own, as a map of its `parts` and of `extra`; `notes` says
        what keeps the run from going on exactly. Both are asked again later.
        """
        self._state, self._notes = state, notes
        self._report.metrics = _Metrics(self)
        step, epoch = self._where()
        is_new = (step, epoch) == (0, 0)
        self._write(trace.TracedStart(step=step, epoch=epoch, state=None if is_new else self._digests()))

    def boundary(self) -> Pause | None:
        """Write the step down; return the pause that is due now."""
        step, epoch = where = self._where()
        if where == self._last:
            return None
        self._last = where
        batch = self._batch.hexdigest() if self._has_batch else ""
        self._batch, self._has_batch = hashlib.blake2b(digest_size=8), False
        numbers = {name: digest_of(value) for name, value in rng.capture().items()}
        self._write(trace.Step(step=step, epoch=epoch, batch=batch, rng=numbers))
        # Also of a boundary that was none this time, as one inside critical(): the next one has its pause.
        if not self._points or (self._points[0].step, self._points[0].epoch) > where:
            return None
        depth = self._points.pop(0).depth
        if depth == "look":
            self._look()
            return None
        self._due = depth
        return Pause(request=_REQUEST, depth=depth)

    def doubted(self, text: str) -> None:
        """Write down what the shim says may not be exact; nothing follows a process that leaves."""
        if not (self._is_leaving or self._is_closed or text.startswith(READS_AGAIN)):
            self._write(trace.Said(text=text))

    def saw_batch(self, batch: Any) -> None:
        """Remember what the script is about to train on."""
        self._has_batch = True
        self._batch.update(json.dumps(digests({"batch": batch})).encode())

    def saw_metric(self, name: str, value: Any) -> None:
        """Write down a number while it is what it is: a script may go on adding to its tensor."""
        # Behind a pass there is no step that it could belong to but the last one.
        step = self._report.step + (not self._is_between_passes())
        self._write(trace.TracedMetric(step=step, name=name, value=_exact(value)))

    def send(self, message: Message) -> None:
        """Write down what becomes of a pause; everything else a daemon would hear is of no use here."""
        step, epoch = self._where()
        match message:
            case protocol.Saving() if self._due:
                self._look()
            case protocol.Yielded(depth=depth) if self._due:
                self._due = ""
                self._is_leaving, self._is_away = depth == "exit", depth == "offload"
                self._write(trace.Paused(step=step, epoch=epoch, depth=depth))
            case protocol.CannotYield(why=why) if self._due:
                self._write(trace.NotPaused(step=step, why=why, depth=self._due))
                self._due = ""
            case protocol.Stage(what=what) if self._is_away:
                self._write(trace.Waiting(step=step, why=what))
            case protocol.Resumed() if self._is_away:
                self._is_away = False
                self._write(trace.Returned(step=step, epoch=epoch, state=self._digests()))
            case _:
                pass

    def close(self, *, wait_s: float) -> None:
        """Write down what the parts hold at the end; in a process that leaves, the next one does."""
        del wait_s
        if os.getpid() != self._pid:
            return
        if not self._is_leaving:
            step, epoch = self._where()
            depths = self._report.depths
            self._write(trace.End(step=step, epoch=epoch, state=self._digests(), depths=depths))
        self._is_closed = True
        os.close(self._file)

    def _look(self) -> None:
        step, epoch = self._where()
        notes = [text for text in self._notes() if not text.startswith(READS_AGAIN)]
        self._write(trace.TracedLook(step=step, epoch=epoch, state=self._digests(), notes=notes))

    def _digests(self) -> dict[str, str]:
        state = self._state()
        return digests({**state["parts"], **{name: one for name, one in state.items() if name != "parts"}})

    def _where(self) -> tuple[int, int]:
        return self._report.step, self._report.epoch

    def _write(self, record: trace.Record) -> None:
        if os.getpid() == self._pid:
            os.write(self._file, trace.write(record))


def _num_over(file: Path) -> int:
    """Return how many pauses the processes before had; raises NotSupported where a session has not left."""
    if not file.exists():
        return 0
    records = list(trace.read(file.read_bytes().splitlines(keepends=True)))
    if records and not (isinstance(records[-1], trace.Paused) and records[-1].depth == "exit"):
        raise NotSupported(
            "cannot prove a command in which attach() is called more than once",
            hint="prove one training at a time: give the script an option that makes it do only that",
        )
    return sum(isinstance(one, trace.Paused | trace.NotPaused) for one in records)


class _Gate(Gate):
    """A gate at which the loop looks at every boundary, commanded by the schedule."""

    # Never False: a boundary is only seen by a loop that looks.
    asked = property(lambda _: True, lambda *_: None)

    def __init__(self, proof: Proof, report: LinkReport) -> None:
        super().__init__(report.pace)
        self._proof = proof

    def take(self, want: Want) -> Want:
        """Return what is wanted; with nothing wanted before, the loop has come to a boundary."""
        if not want and (pause := self._proof.boundary()) is not None:
            want = merge(want, pause)
        return super().take(want)

    def wait(self, want: Want, *, at_most_s: float | None = None) -> Want:
        """Let a loop that holds go on at once; one that lacks its memory waits for that as ever."""
        if at_most_s is not None:
            return super().wait(want, at_most_s=at_most_s)
        return self.take(merge(want, Resume(request=_REQUEST)))


class _Cursor(Cursor):
    """A cursor whose batches are seen."""

    def __init__(self, proof: Proof, report: LinkReport, marks: EpochMarks, way: WayBack) -> None:
        super().__init__(report, marks, way)
        self._proof = proof

    def is_between_passes(self) -> bool:
        """Whether the loop made a pass, now or before a restart, and is in none."""
        return self._open is None and bool(self._ended or self._left)

    def begin(self, loader: Any, accumulate: int, *, is_followed: bool = False) -> Any:
        """Return the pass with its batches watched."""
        made = super().begin(loader, accumulate, is_followed=is_followed)
        if made is not None:
            watched: Any = _Watched(made, self._proof)
            self._open = watched
            return watched
        return None


class _Watched:
    """A Pass whose batches are seen on their way out."""

    def __init__(self, made: Any, proof: Proof) -> None:
        self._made = made
        self._proof = proof

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        batch = next(self._made)
        self._proof.saw_batch(batch)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


class _Metrics(dict[str, Any]):
    """The numbers that a script reports, seen when they are."""

    def __init__(self, proof: Proof) -> None:
        super().__init__()
        self._proof = proof

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._proof.saw_metric(name, value)


def _exact(value: Any) -> str:
    """A number in a form that loses nothing."""
    if isinstance(value, int):
        return str(value)
    try:
        return float(value).hex()
    except (TypeError, ValueError, RuntimeError):
        return ", ".join(digests({"value": value}).values())
