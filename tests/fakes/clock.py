"""A clock that stands still until the test moves it."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """See ports.Clock. Shared by all engines of one test, as a machine's clock is."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._now = now
        #: What the wall clock is ahead; people set it, and nothing may depend on it.
        self.wall_offset_s = 500.0

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self.wall_offset_s

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self._now += seconds
