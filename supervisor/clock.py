"""The daemon's clocks: one to reckon with, one to show.

The steady clock starts at Unix time and then follows CLOCK_BOOTTIME, so a
correction of the wall clock moves no deadline and a suspended machine loses
none. Its anchor is kept in the journal, so within one boot it goes on across
daemon restarts as well; after a boot it starts from the wall clock again, but
never before the last moment that was written down.
"""

from __future__ import annotations

import time

__all__ = ["SteadyClock"]


class SteadyClock:
    """See ports.Clock."""

    def __init__(self, facts: dict[str, str], *, boot_id: str, not_before: float) -> None:
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        if facts.get("clock.boot_id") == boot_id and "clock.offset_s" in facts:
            self._offset = float(facts["clock.offset_s"])
        else:
            self._offset = max(time.time(), not_before) - uptime
        self.facts = {"clock.boot_id": boot_id, "clock.offset_s": repr(self._offset)}

    def now(self) -> float:
        """Return seconds that only go forward."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self._offset

    def wall(self) -> float:
        """Return Unix time."""
        return time.time()
