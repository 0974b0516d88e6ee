"""Amounts of bytes as people read them. Pure.

Covers: text, in binary units, the same wherever a person reads an amount.
Does not cover: reading what a person typed; times.

The daemon has the same few lines in supervisor/core/units.py: its core imports nothing of the shim,
and the shim nothing of the daemon. A test holds the two together.
"""

from __future__ import annotations

__all__ = ["format_bytes"]


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
