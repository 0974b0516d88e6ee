"""Two thresholds, two holding times: when a shortage counts as one, and when it counts as over.

Covers: the switch of one rule at one place, and whether a shortage eases by itself.
Does not cover: what a reading means (conditions.py), what is done about it (policy.py).

Holding times are summed from the gaps between readings, not taken from a first
moment: so a reading that is missing stops the clock, and a daemon that was away
for an hour has not watched a shortage for an hour. Only a reading that is a mean
tells of the time before it.

The way up is strict: one reading that is not short begins it anew. The way down
is not: on a busy desktop there is no minute without a spike, and a shortage too
brief to pause a job is too brief to keep it paused. It sets the clock back by as
much as it is worth: one that lasts `rise_s` begins it anew.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec

from supervisor.core.replacing import replace

__all__ = ["Side", "Trend", "Trigger"]

#: A longer gap between two readings counts as this much: nobody saw what was in between.
_LONGEST_GAP_S = 60.0

#: A mean has to be that much lower before it counts as easing: noise is no trend.
_EASING_SHARE = 0.98


class Side(StrEnum):
    """Where a reading lies: beyond the one threshold, beyond the other, in between, or nobody knows."""

    SHORT = "short"
    BETWEEN = "between"
    CLEAR = "clear"
    UNKNOWN = "unknown"


class Trend(msgspec.Struct, frozen=True, omit_defaults=True):
    """One shortage: two exponential means of how short it is, over a short and a long time."""

    short: float
    long: float
    at: float
    #: Seconds for which it has been watched, without a break.
    for_s: float = 0.0

    def step(
        self, value: float, now: float, *, short_s: float, long_s: float, was_missing: bool = False
    ) -> Trend:
        """Weigh in one more reading; the longer the gap before it, the more it counts."""
        gap_s = now - self.at
        if gap_s <= 0:
            return self
        short, long = _mean(self.short, value, gap_s, short_s), _mean(self.long, value, gap_s, long_s)
        watched_s = 0.0 if was_missing else min(gap_s, _LONGEST_GAP_S)
        return Trend(short, long, now, self.for_s + watched_s)

    @property
    def is_easing(self) -> bool:
        """Say whether it has clearly become less of late."""
        return self.short < self.long * _EASING_SHARE


def _mean(mean: float, value: float, gap_s: float, over_s: float) -> float:
    share = 1.0 if over_s <= 0 else 1.0 - math.exp(-gap_s / over_s)
    return mean + share * (value - mean)


class Trigger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On when short for `rise_s`, off when clear for `fall_s`; otherwise it stays as it is."""

    is_on: bool = False
    #: Steady clock when it last turned; None: never yet.
    turned_at: float | None = None
    #: The last side that was read, also while there is no reading.
    side: Side = Side.UNKNOWN
    #: Seconds that count towards its next turn.
    held_s: float = 0.0
    #: When that was last added to; None: the clock stands.
    held_at: float | None = None
    #: Since when there is no reading; None: there is one.
    missing_since: float | None = None

    def step(self, side: Side, now: float, *, rise_s: float, fall_s: float, before_s: float = 0.0) -> Trigger:
        """Take in one reading; the same object is returned where nothing changes.

        A reading can tell that it was short before it was read: where the clock begins, `before_s` counts.
        """
        if side is Side.UNKNOWN:
            return self._without_reading(now)
        began_s = 0.0 if self.is_on else before_s
        gap_s = min(max(began_s if self.held_at is None else now - self.held_at, 0.0), _LONGEST_GAP_S)
        if side is Side.BETWEEN or (side is Side.CLEAR and not self.is_on):
            return self._at_rest(side)
        if side is Side.SHORT and self.is_on:
            return self._set_back(gap_s, now, rise_s=rise_s, fall_s=fall_s)
        held_s = self.held_s + gap_s
        if held_s < (fall_s if self.is_on else rise_s):
            return replace(self, side=side, held_s=held_s, held_at=now, missing_since=None)
        return Trigger(is_on=not self.is_on, turned_at=now, side=side)

    def _at_rest(self, side: Side) -> Trigger:
        """Nothing speaks for a turn: on the way down the clock stands, on the way up it begins anew."""
        held_s = self.held_s if self.is_on else 0.0
        is_same = side is self.side and self.missing_since is None and self.held_at is None
        if is_same and held_s == self.held_s:
            return self
        return replace(self, side=side, held_s=held_s, held_at=None, missing_since=None)

    def _set_back(self, gap_s: float, now: float, *, rise_s: float, fall_s: float) -> Trigger:
        """A shortage on the way down: the clock runs back, faster than it ran on."""
        held_s = max(0.0, self.held_s - gap_s * fall_s / rise_s) if rise_s > 0 else 0.0
        if not held_s:
            at_zero = self.side is Side.SHORT and not self.held_s and self.held_at is None
            return self if at_zero and self.missing_since is None else self._short(held_s, None)
        return self._short(held_s, now)

    def _short(self, held_s: float, held_at: float | None) -> Trigger:
        return replace(self, side=Side.SHORT, held_s=held_s, held_at=held_at, missing_since=None)

    def _without_reading(self, now: float) -> Trigger:
        """Nothing is known: the state stays, the clock stands."""
        if self.missing_since is not None:
            return self
        return replace(self, held_at=None, missing_since=now)

    def turns_at(self, *, rise_s: float, fall_s: float) -> float | None:
        """Return when it turns if nothing else is read until then; None: not by time alone."""
        if self.held_at is None or (self.side is Side.SHORT) is self.is_on:
            return None
        return self.held_at + (fall_s if self.is_on else rise_s) - self.held_s

    def for_s(self, now: float) -> float:
        """Return how long ago it last turned; 0 where it never did."""
        return 0.0 if self.turned_at is None else max(0.0, now - self.turned_at)
