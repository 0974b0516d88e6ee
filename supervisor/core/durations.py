"""Times as people type them, the same on the command line and in their files. Pure.

Does not cover: how a time is shown (cli/output/text.py).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LEAST_PERIOD_S", "LONGEST_S", "parse_duration", "parse_period"]

#: The wire takes no longer pause, and nobody waits longer.
LONGEST_S: Final = 10 * 365 * 86400.0
#: A run that saves more often does little else.
LEAST_PERIOD_S: Final = 1.0

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def parse_duration(text: str) -> float:
    """Return 90, 30s, 10m, 2h, 1d or 1h30m in seconds; ValueError says in words what is wrong."""
    parts = _PART.findall(text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if text.replace(".", "", 1).isdecimal():
        seconds = float(text)
    elif not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"`{text}` is not a time such as 90, 30s, 10m, 2h or 1h30m")
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"`{text}` is not between 0 and 10 years")
    return seconds


def parse_period(text: str) -> float:
    """Return so much time between two saves in seconds; ValueError says in words what is wrong."""
    seconds = parse_duration(text)
    if seconds < LEAST_PERIOD_S:
        raise ValueError(f"`{text}` is too often: 1s is the least")
    return seconds
