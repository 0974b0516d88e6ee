"""Recorded readings: blocks of samples, coarser with age, never larger than they may be.

Covers: writing a block, thinning, pruning, reading back by time.
Does not cover: threads and transactions (journal.py), how values are folded (core/readings/thinning.py).

As they were taken for two hours, one in 10 s for two days, one in 60 s as long
as there is room. One step of thinning at a time, so that no call takes long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from supervisor.core.readings.blocks import pack, unpack
from supervisor.core.readings.sample import Sample
from supervisor.core.readings.thinning import thinned
from supervisor.ports import StoredBlock

__all__ = ["read", "write"]


class _Tier(NamedTuple):
    """What becomes of blocks of this tier when they are that old."""

    tier: int
    keep_s: float
    #: Seconds that a sample of the next tier stands for, and one of its blocks.
    every_s: float
    span_s: float


_TIERS: Final = (
    _Tier(tier=0, keep_s=2 * 3600.0, every_s=10.0, span_s=600.0),
    _Tier(tier=1, keep_s=2 * 86400.0, every_s=60.0, span_s=3600.0),
)

#: A block goes over the wire in one message of at most 64 KiB.
_MAX_BLOCK_BYTES: Final = 40_000

_INSERT = "INSERT INTO samples (tier, first, last, block) VALUES (?, ?, ?, ?)"
_OLDEST = "SELECT first FROM samples WHERE tier = ? ORDER BY first LIMIT 1"
_SPAN = "SELECT id, block FROM samples WHERE tier = ? AND first >= ? AND first < ? ORDER BY first"
_READ = "SELECT first, last, block FROM samples WHERE first > ? AND first < ? ORDER BY first LIMIT ?"
_SIZE = "SELECT coalesce(sum(length(block)), 0) FROM samples"
_OLDEST_BLOCKS = "SELECT id, length(block) FROM samples ORDER BY first LIMIT 100"


def write(db: sqlite3.Connection, samples: Sequence[Sample], *, limit_bytes: int) -> int:
    """Store a block and make room for it; return how many samples are too large to be stored.

    The caller owns the transaction.
    """
    num_dropped = _insert(db, 0, samples)
    for tier in _TIERS:
        num_dropped += _thin(db, tier, samples[-1].wall)
    _prune(db, limit_bytes)
    return num_dropped


def read(db: sqlite3.Connection, *, after_wall: float, before_wall: float, limit: int) -> list[StoredBlock]:
    """Return blocks that begin in between, oldest first."""
    return [StoredBlock(*row) for row in db.execute(_READ, (after_wall, before_wall, limit))]


def _insert(db: sqlite3.Connection, tier: int, samples: Sequence[Sample]) -> int:
    """Store samples in as many blocks as it takes; return how many do not fit even alone."""
    if not samples:
        return 0
    block = pack(samples)
    if len(block) > _MAX_BLOCK_BYTES:
        if len(samples) == 1:
            return 1
        half = len(samples) // 2
        return _insert(db, tier, samples[:half]) + _insert(db, tier, samples[half:])
    db.execute(_INSERT, (tier, samples[0].wall, samples[-1].wall, block))
    return 0


def _thin(db: sqlite3.Connection, tier: _Tier, now_wall: float) -> int:
    """Fold the oldest span that has come of age, if there is one; return how many samples were dropped."""
    found = db.execute(_OLDEST, (tier.tier,)).fetchone()
    if found is None:
        return 0
    start = found[0] // tier.span_s * tier.span_s
    if start + tier.span_s > now_wall - tier.keep_s:
        return 0
    rows = db.execute(_SPAN, (tier.tier, start, start + tier.span_s)).fetchall()
    samples = [sample for _, block in rows for sample in unpack(block)]
    num_dropped = _insert(db, tier.tier + 1, thinned(samples, tier.every_s))
    db.executemany("DELETE FROM samples WHERE id = ?", [(row,) for row, _ in rows])
    return num_dropped


def _prune(db: sqlite3.Connection, limit_bytes: int) -> None:
    (size,) = db.execute(_SIZE).fetchone()
    while size > limit_bytes:
        oldest = db.execute(_OLDEST_BLOCKS).fetchall()
        if not oldest:
            return
        for row, length in oldest:
            if size <= limit_bytes:
                return
            db.execute("DELETE FROM samples WHERE id = ?", (row,))
            size -= length
