"""A call that may hang, made again and again in a thread of its own.

Covers: asking, the newest answer with its age, a call that never returns.
Does not cover: errors of the call. It says what went wrong in its answer.

A thread in a system call that hangs cannot be ended. It is left to it: nothing
is asked meanwhile, and when it comes back all is as before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from supervisor.core.readings.sample import Missing

__all__ = ["BackgroundCall"]

T = TypeVar("T")

#: A call that takes longer hangs; an answer that is older does not count.
_LIMIT_S: Final = 5.0


def _nothing() -> None:
    """Do nothing at the end."""


class BackgroundCall(Generic[T]):
    """One such call. All methods return at once; the call is made by the thread, `at_end` too."""

    def __init__(
        self,
        who: str,
        call: Callable[[], T],
        *,
        at_end: Callable[[], None] = _nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Who is asked, as it stands in reasons: "the driver".
        self._who = who
        self._call = call
        self._at_end = at_end
        self._clock = clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._due_at: float | None = None
        self._began_at: float | None = None
        self._answer: tuple[T, float] | None = None
        #: Seconds that the last call took; 0: none has ended yet.
        self.took_s = 0.0

    def ask(self, *, delay_s: float = 0.0) -> None:
        """Have the call made after that time, or earlier where that was asked already."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._began_at = None
                # A daemon thread: one that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name=f"ask {self._who}", daemon=True)
                self._thread.start()
            due_at = self._clock() + delay_s
            if self._due_at is None or due_at < self._due_at:
                self._due_at = due_at
                self._changed.notify()

    def busy_s(self) -> float:
        """Return how long the present call has taken; 0.0 when none is under way."""
        began_at = self._began_at
        return 0.0 if began_at is None else max(0.0, self._clock() - began_at)

    def answer(self, *, max_age_s: float = _LIMIT_S) -> T | Missing:
        """Return the newest answer, or why there is none that counts."""
        busy_s = self.busy_s()
        if busy_s > _LIMIT_S:
            return Missing(f"{self._who} has not answered for {busy_s:.0f} s")
        newest = self._answer
        if newest is None or self._clock() - newest[1] > max_age_s:
            return Missing(f"no answer from {self._who} yet")
        return newest[0]

    def close(self) -> None:
        """Make no more calls; one that is under way is left to itself."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end after `close`, not longer than that."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._wait_until_due():
            answer = self._call()
            with self._changed:
                now = self._clock()
                self.took_s = now - (self._began_at or now)
                self._answer = (answer, now)
                self._began_at = None
        self._at_end()

    def _wait_until_due(self) -> bool:
        with self._changed:
            while not self._is_closed:
                left_s = None if self._due_at is None else self._due_at - self._clock()
                if left_s is not None and left_s <= 0:
                    self._due_at = None
                    self._began_at = self._clock()
                    return True
                self._changed.wait(left_s)
        return False
