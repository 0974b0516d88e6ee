"""Windows of local time: "mon-fri 09:00-18:00", "22:00-06:00", "sat,sun".

Covers: reading them, and whether a moment lies in one.
Does not cover: the clock itself (the sample brings weekday and second of day).

A window past midnight belongs to the day on which it begins. Its end is the
first moment that is no longer in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

__all__ = ["Window", "circumstance", "overlap", "parse"]

_RUNS: Final = MappingProxyType({"": "runs", "not": "does not run", "no longer": "no longer runs"})
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_S = 86400
_TEXT = re.compile(
    r"(?P<days>[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*)?"
    r"\s*(?:(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d))?",
)


class Window(NamedTuple):
    """Days on which it begins (Monday is 0), and when it begins and ends, in seconds since midnight."""

    days: frozenset[int]
    start_s: int
    end_s: int

    def contains(self, weekday: int, second: int) -> bool:
        """Say whether it is open at that moment."""
        if self.start_s < self.end_s:
            return weekday in self.days and self.start_s <= second < self.end_s
        began_today = weekday in self.days and second >= self.start_s
        return began_today or ((weekday - 1) % 7 in self.days and second < self.end_s)


@lru_cache(maxsize=256)
def parse(text: str) -> Window:
    """Return the window; raises ValueError in words."""
    match = _TEXT.fullmatch(text.strip().lower())
    if match is None or not (match["days"] or match["start"]):
        raise ValueError(f"`{text}` is no window of time")
    days = frozenset(range(7)) if match["days"] is None else _days(match["days"])
    if match["start"] is None:
        return Window(days, 0, _DAY_S)
    start_s, end_s = _second(match["start"]), _second(match["end"])
    # The end of a day is the beginning of the next: 24:00-00:00 would never be open.
    if start_s == end_s or (start_s, end_s) == (_DAY_S, 0):
        raise ValueError(f"`{text}` begins when it ends")
    return Window(days, start_s, end_s)


def overlap(some: Sequence[Window]) -> bool:
    """Say whether there is a moment of the week at which all of them are open."""
    # Windows open and close at full minutes.
    minutes = ((day, 60 * minute) for day in range(7) for minute in range(1440))
    return any(all(window.contains(day, second) for window in some) for day, second in minutes)


def circumstance(text: str, how: Literal["", "not", "no longer"] = "") -> str:
    """Return a clause about a window or a program that a rule names: it is so, is not, or is no longer."""
    try:
        parse(text)
    except ValueError:
        return f"`{text}` {_RUNS[how]}"
    return " ".join(word for word in ("it is", how, text) if word)


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = _day(first), _day(last or first)
        # fri-mon goes over the end of the week.
        days |= {day % 7 for day in range(low, high + 1 if high >= low else high + 8)}
    return frozenset(days)


def _day(name: str) -> int:
    if name not in _DAYS:
        raise ValueError(f"`{name}` is no day; days are {', '.join(_DAYS)}")
    return _DAYS.index(name)


def _second(text: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if hours * 60 + minutes > 24 * 60 or minutes > 59:
        raise ValueError(f"`{text}` is no time of day")
    return hours * 3600 + minutes * 60
