"""Checkpoints in the background: the loop stops for a copy, a thread writes.

Covers: when one is due, one at a time, what became of it.
Does not cover: what is saved (drafts.py), copying and writing (checkpoint/).

One thread does both the waiting and the writing. It has memory for one
checkpoint, taken when the first one is due; while it writes, no other begins,
so there is never a queue. A process would be worse than a thread here: the
copy to it costs more than the interpreter that the writing threads share.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

import msgspec

from trainer_shim.checkpoint import Saved, Store
from trainer_shim.checkpoint.stage import StagingFolder
from trainer_shim.checkpoint.writer import Draft
from trainer_shim.errors import CannotSave, ShimError

__all__ = ["Periodic", "SaveEnded"]


class SaveEnded(msgspec.Struct, frozen=True):
    """What became of one."""

    epoch: int
    saved: Saved | None = None
    error: ShimError | None = None


class Periodic:
    """Used by the thread that trains, as long as the store is open; inert in a forked child.

    Nobody else may use the store between `begin()` and `wait()`.
    """

    def __init__(
        self, store: Store, *, every_s: float | None, every_steps: int | None, wake: Callable[[], None]
    ) -> None:
        if (every_s is not None and not every_s > 0) or (every_steps is not None and every_steps < 1):
            raise ValueError(f"cannot save every {every_s} seconds or {every_steps} steps")
        #: What was written last, for whoever has waited.
        self.last_saved: Saved | None = None
        #: The step from which on the loop is to look whether something is due.
        self.due_step: float = math.inf
        self._store, self._wake, self._stage = store, wake, StagingFolder()
        self._every_s, self._every_steps = every_s, every_steps
        self._pid = os.getpid()
        self._is_due = self._is_now = self._is_closing = self._is_growing = False
        self._due_at_s = math.inf
        self._task: Callable[[], SaveEnded | None] | None = None
        self._ended: list[SaveEnded] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="trainer_shim.periodic", daemon=True)
        self._thread.start()

    def restart(self, step: int) -> None:
        """Count anew from here: something was just saved, or the run begins."""
        with self._changed:
            self._is_due = self._is_now = self._is_growing = False
            self.due_step = math.inf if self._every_steps is None else step + self._every_steps
            self._due_at_s = math.inf if self._every_s is None else time.monotonic() + self._every_s
            self._changed.notify_all()

    def make_due(self) -> None:
        """Something has come at which to save, as the end of an epoch: the boundary that comes is the one."""
        with self._changed:
            self._is_due = self._is_now = True

    def is_due(self, step: int) -> bool:
        """Whether one may begin now; one that is late begins as soon as the one before is written.

        Never in a forked child.
        """
        if os.getpid() != self._pid:
            return False  # Its thread, and whatever lock that held, stayed in the parent.
        with self._changed:
            if step >= self.due_step:
                self._is_due, self.due_step = True, math.inf  # The thread says when to look again.
            return self._is_due and self._task is None

    def wait_if_late(self) -> None:
        """Return when the one that is written is done, if another waits for it: no boundary may follow."""
        with self._changed:
            is_late = self._is_due
        if is_late:
            self.wait()

    def has_news(self) -> bool:
        """Whether the loop is to look here soon, be it told or not; never in a forked child."""
        if os.getpid() != self._pid:
            return False
        with self._changed:
            return bool(self._ended) or (self._is_due and self._task is None)

    def begin(self, draft: Draft) -> bool:
        """Copy what is to be written and let the thread write it; False: later, there is no memory yet."""
        if not self._stage.has_room(draft):
            if not (self._is_growing or self._is_now):
                self._is_growing = True
                self._hand_over(lambda: self._grow(draft))
                return False
            # A state that is larger at each step would always be ahead of the memory taken for it; and what
            # is meant for this very boundary does not wait for memory.
            self._grow(draft)
        staged = self._stage.fill(draft)
        epoch = draft.manifest.epoch
        self.restart(draft.manifest.step)
        self._hand_over(lambda: SaveEnded(epoch, saved=self._store.write(staged)))
        return True

    def wait(self) -> None:
        """Return when nothing is being written; at once in a forked child."""
        if os.getpid() == self._pid:
            with self._changed:
                self._changed.wait_for(lambda: self._task is None)

    def ended(self) -> list[SaveEnded]:
        """What has ended since this was last asked; nothing in a forked child."""
        if os.getpid() != self._pid:
            return []
        with self._changed:
            ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Let the one that is being written end, and begin no more; may be repeated."""
        self.wait()
        if os.getpid() == self._pid:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._thread.join()
            self._stage.close()

    def _grow(self, draft: Draft) -> None:
        try:
            self._stage.grow(draft)
        except (MemoryError, OSError) as error:
            hint = "free some memory; the older checkpoints are untouched"
            raise CannotSave("cannot save in the background: out of memory", hint=hint) from error

    def _hand_over(self, task: Callable[[], SaveEnded | None]) -> None:
        with self._changed:
            self._task = task
            self._changed.notify_all()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            ended = _tried(task)
            # It holds the tensors that it wrote; a script may have others by now, and need the memory.
            del task
            with self._changed:
                self._task = None
                if ended is not None:
                    self.last_saved = ended.saved
                    self._ended.append(ended)
                self._changed.notify_all()
            # So does an error, by the calls that it came through.
            del ended
            self._wake()

    def _next(self) -> Callable[[], SaveEnded | None] | None:
        """The next task; None at the end. Says meanwhile when one is due by the clock."""
        with self._changed:
            while self._task is None and not self._is_closing:
                left_s = self._due_at_s - time.monotonic()
                if left_s <= 0:
                    self._is_due, self._due_at_s = True, math.inf
                    self._wake()
                else:
                    self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
            return self._task


def _tried(task: Callable[[], SaveEnded | None]) -> SaveEnded | None:
    """What came of a task, whatever came: an error in this thread must not end up on nobody's screen."""
    try:
        return task()
    except ShimError as error:
        return SaveEnded(0, error=error)
    except Exception as error:  # noqa: BLE001  # a loop that waits for this thread must not wait for ever
        hint = "the older checkpoints are untouched; the next save tries again"
        return SaveEnded(
            0, error=CannotSave(f"cannot save in the background: {error or 'out of memory'}", hint=hint)
        )
