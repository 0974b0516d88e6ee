"""Readings as they are stored and sent: many samples in one compressed block.

Covers: packing and unpacking. Does not cover: where blocks lie (store/samples.py).

A block is zlib of MessagePack, a list of `core.sample.Sample`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from supervisor.core.readings.sample import Sample

__all__ = ["pack", "unpack"]

#: The largest that is unpacked: a damaged file must not fill the memory.
_MAX_RAW_BYTES: Final = 64 << 20

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Sample])


def pack(samples: Sequence[Sample]) -> bytes:
    """Return the block."""
    return zlib.compress(_encoder.encode(samples), 6)


def unpack(block: bytes) -> list[Sample]:
    """Return the samples of a block; of one that is damaged none."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(block, _MAX_RAW_BYTES)
        # Only at its end the checksum was compared.
        return _decoder.decode(raw) if stream.eof else []
    except (zlib.error, msgspec.MsgspecError):
        return []
