"""Amounts as people read them, none longer than a glance. Pure.

Covers: bytes in binary units, the same wherever a person reads an amount; plain numbers.
Does not cover: reading what a person typed; times.

The shim has the same few lines for bytes in trainer_shim/units.py: neither imports the other. A test
holds the two together.
"""

from __future__ import annotations

from typing import Final

__all__ = ["format_bytes", "format_number", "format_tenths"]

#: From here on digits are only counted, not read.
_LONG: Final = 10**7


def format_bytes(num_bytes: float) -> str:
    """Return 512 B, 3.4 MiB or 120.0 GiB: always one decimal, so that two amounts can be compared."""
    if num_bytes < 1023.5:
        return f"{num_bytes:.0f} B"
    amount = num_bytes / 1024
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        # What would be rounded to 1024.0 is 1.0 of the next.
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} EiB" if amount < 1023.95 else f"{amount:.3g} EiB"


def format_number(value: float) -> str:
    """Return three digits that count, all before the point while they are few, and 1e+308 beyond."""
    return f"{value:.0f}" if 100 <= abs(value) < _LONG else f"{value:.3g}"


def format_tenths(value: float) -> str:
    """Return one decimal, so that a value can be told from a threshold beside it."""
    return f"{value:.1f}" if abs(value) < _LONG else f"{value:.3g}"
