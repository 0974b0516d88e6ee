"""The durable checkpoints of one rank."""

from __future__ import annotations

from trainer_shim.checkpoint.live import Live
from trainer_shim.checkpoint.notice import Notice
from trainer_shim.checkpoint.reader import Loaded, load
from trainer_shim.checkpoint.resolve import resolve
from trainer_shim.checkpoint.retention import Keep
from trainer_shim.checkpoint.store import Store
from trainer_shim.checkpoint.tree import record
from trainer_shim.checkpoint.writer import Saved

__all__ = [
    "Keep",
    "Live",
    "Loaded",
    "Notice",
    "Saved",
    "Store",
    "load",
    "record",
    "resolve",
]
