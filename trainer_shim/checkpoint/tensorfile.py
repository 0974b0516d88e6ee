"""A `.safetensors` file, written and read in one pass each.

Covers: the header, where each block lies, moving the bytes.
Does not cover: what a block means (arrays.py, tree.py), flushing (commit.py).

The file opens with any safetensors reader. It is written here and not by the
safetensors package so that the digest is computed while the bytes pass, and
so that a faster way of writing changes this file and no other. Imports
neither torch nor numpy: blocks are plain memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from trainer_shim.checkpoint.digest import Running
from trainer_shim.errors import CannotSave, Damaged

__all__ = [
    "ITEM_BYTES",
    "MAX_HEADER_BYTES",
    "PIECE_BYTES",
    "RESERVED_NAME",
    "Block",
    "Entry",
    "Plan",
    "Source",
    "make_plan",
    "pieces",
    "read_blocks",
    "read_header",
]

#: Bytes of one element, for every element type that this format version uses.
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1, "C64": 8,
}  # fmt: skip
#: The limit of the stock reader; about a million tensors.
MAX_HEADER_BYTES = 100_000_000
#: Large enough that the system calls do not show, small enough to stay in the cache while it is digested.
PIECE_BYTES = 4 << 20
#: The format keeps this name for remarks.
RESERVED_NAME = "__metadata__"
_LENGTH_BYTES = 8
_MAX_DIM = 1 << 48


@dataclass(frozen=True)
class Block:
    """Bytes to be written under a name; `fetch` makes them available, one block at a time."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fetch: Callable[[], memoryview]

    @property
    def size_bytes(self) -> int:
        """What the block takes in the file."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Plan:
    """A whole file before its first byte is written, so that free space can be checked."""

    header: bytes
    blocks: Sequence[Block]
    size_bytes: int


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block as the header of a file names it."""

    dtype: str
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=_MAX_DIM)], ...], msgspec.Meta(max_length=64)]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]


class Source(Protocol):
    """An open file that is read from its beginning."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer as far as the file goes; return how far."""


def make_plan(blocks: Iterable[Block]) -> Plan:
    """Lay out a file; large elements come first so that each block is aligned to its element size."""
    ordered = sorted(blocks, key=lambda block: -ITEM_BYTES[block.dtype])
    entries: dict[str, object] = {RESERVED_NAME: {"format": "pt"}}
    end = 0
    for block in ordered:
        begin, end = end, end + block.size_bytes
        entries[block.name] = Entry(block.dtype, block.shape, (begin, end))
    text = msgspec.json.encode(entries)
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise CannotSave(
            f"cannot save {len(ordered)} tensors: their names take {len(text)} of {MAX_HEADER_BYTES} bytes",
            hint="store fewer, larger tensors, for instance one per layer and not one per row",
        )
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return Plan(header, ordered, len(header) + end)


def pieces(plan: Plan) -> Iterator[memoryview]:
    """The file's bytes in order; one block at a time is held in memory."""
    yield memoryview(plan.header)
    for block in plan.blocks:
        memory = block.fetch()
        assert memory.nbytes == block.size_bytes, block.name
        for at in range(0, memory.nbytes, PIECE_BYTES):
            yield memory[at : at + PIECE_BYTES]


def read_header(source: Source, size_bytes: int, digest: Running) -> dict[str, Entry]:
    """Every block of a file, in the order of the data; raises Damaged when they do not fill it."""
    length = int.from_bytes(_read(source, _LENGTH_BYTES, digest), "little")
    if length > min(MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
        raise Damaged(f"cannot use the tensor file: its header claims {length} bytes")
    text = _read(source, length, digest)
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        raw.pop(RESERVED_NAME, None)
        entries = {name: msgspec.json.decode(value, type=Entry) for name, value in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"cannot use the tensor file: its header is malformed ({error})") from None
    ordered = dict(sorted(entries.items(), key=lambda item: item[1].data_offsets))
    _check_offsets(ordered, size_bytes - _LENGTH_BYTES - length)
    return ordered


def read_blocks(
    source: Source, entries: dict[str, Entry], digest: Running, place: Callable[[str, Entry], memoryview]
) -> None:
    """Fill the memory that `place` gives for each block; unverified until the digest is compared."""
    for name, entry in entries.items():
        memory = place(name, entry)
        for at in range(0, memory.nbytes, PIECE_BYTES):
            _fill(source, memory[at : at + PIECE_BYTES], digest)


def _check_offsets(entries: dict[str, Entry], data_bytes: int) -> None:
    """Raise Damaged unless the blocks lie one after the other, each as long as its shape says."""
    at = 0
    for name, entry in entries.items():
        begin, end = entry.data_offsets
        item_bytes = ITEM_BYTES.get(entry.dtype)
        if item_bytes is None:
            raise Damaged(f"cannot use the tensor file: `{name}` has the unknown type `{entry.dtype}`")
        if begin != at or end - begin != math.prod(entry.shape) * item_bytes:
            raise Damaged(f"cannot use the tensor file: the place of `{name}` does not fit its shape")
        at = end
    if at != data_bytes:
        raise Damaged(f"cannot use the tensor file: its tensors take {at} of {data_bytes} bytes")


def _read(source: Source, size_bytes: int, digest: Running) -> bytearray:
    """The next bytes of a small part."""
    buffer = bytearray(size_bytes)
    _fill(source, memoryview(buffer), digest)
    return buffer


def _fill(source: Source, memory: memoryview, digest: Running) -> None:
    """Fill `memory` to the end; raises Damaged where the file is too short."""
    at = 0
    while at < memory.nbytes:
        got = source.readinto(memory[at:])
        if not got:
            raise Damaged("cannot use the tensor file: it ends too early")
        at += got
    digest.update(memory)
