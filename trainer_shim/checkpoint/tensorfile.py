"""A `.safetensors` file: what lies where in it.

Covers: the header, where each block lies, the bytes of any chunk.
Does not cover: what a block means (arrays.py, tree.py), writing and reading
the chunks (directwrite.py, directread.py).

The file opens with any safetensors reader. It is laid out here and not by the
safetensors package so that the digest is computed while the bytes pass, by
several threads. Imports neither torch nor numpy: blocks are plain memory.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from trainer_shim.checkpoint import jsontext
from trainer_shim.checkpoint.digest import CHUNK_BYTES
from trainer_shim.errors import CannotSave, Damaged

if TYPE_CHECKING:
    from trainer_shim.checkpoint.chunks import Chunk

__all__ = [
    "ITEM_BYTES",
    "MAX_HEADER_BYTES",
    "RESERVED_NAME",
    "Block",
    "Entry",
    "Image",
    "Plan",
    "Source",
    "make_plan",
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
#: The format keeps this name for remarks.
RESERVED_NAME = "__metadata__"
_LENGTH_BYTES = 8
_MAX_DIM = 1 << 48


class Block(msgspec.Struct, frozen=True):
    """Bytes to be written under a name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    #: Gives bytes `begin` to `end`; called by several threads at once.
    fetch: Callable[[int, int], memoryview]
    #: Each call rearranges the whole block, so it is called once and the result kept while it is needed.
    is_costly: bool = False
    #: Differs when the bytes may differ from those at another time; None: nobody can say.
    stamp: Hashable = None
    #: Puts the bytes from `begin` on where they are wanted, if that is faster than `fetch` and a copy.
    copy_to: Callable[[memoryview, int], None] | None = None
    #: What the block takes in the file.
    size_bytes: int = 0

    def __post_init__(self) -> None:
        """Reckon the size once; it is asked for again and again."""
        msgspec.structs.force_setattr(self, "size_bytes", math.prod(self.shape) * ITEM_BYTES[self.dtype])

    def put(self, target: memoryview, begin: int) -> None:
        """Fill `target` with the bytes from `begin` on."""
        if self.copy_to is not None:
            self.copy_to(target, begin)
        else:
            from trainer_shim.checkpoint.chunks import copy

            copy(target, self.fetch(begin, begin + target.nbytes))


class Plan(msgspec.Struct, frozen=True):
    """A whole file before its first byte is written, so that free space can be checked."""

    header: bytes
    blocks: Sequence[Block]
    size_bytes: int

    def ranges(self) -> list[tuple[int, Block]]:
        """Where in the file each block begins."""
        begins = accumulate((block.size_bytes for block in self.blocks), initial=len(self.header))
        return list(zip(begins, self.blocks, strict=False))


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block as the header of a file names it."""

    dtype: str
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=_MAX_DIM)], ...], msgspec.Meta(max_length=64)]
    data_offsets: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]]


class Source(Protocol):
    """An open file that is read from its beginning."""

    def read(self, size_bytes: int, /) -> bytes | None:
        """Return the next bytes, at most so many, none at the end."""


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


class Image:
    """The bytes of a planned file, chunk by chunk: what `directwrite` writes."""

    def __init__(self, plan: Plan) -> None:
        self.size_bytes = plan.size_bytes
        header = Block("", "U8", (len(plan.header),), lambda begin, end: memoryview(plan.header)[begin:end])
        parts = [(0, header), *((begin, block) for begin, block in plan.ranges() if block.size_bytes)]
        self._begins = [begin for begin, _ in parts]
        self._parts = [_Kept(begin, block) if block.is_costly else block for begin, block in parts]

    def chunk(self, chunk: Chunk, buffer: memoryview) -> memoryview:
        """Gather the chunk's bytes in `buffer`."""
        at = 0
        for part, begin, end in self._spans(chunk):
            part.put(buffer[at : at + end - begin], begin)
            at += end - begin
        return buffer

    def pieces(self, chunk: Chunk) -> Iterator[memoryview]:
        """The chunk's bytes where they are, in their order."""
        return (part.fetch(begin, end) for part, begin, end in self._spans(chunk))

    def _spans(self, chunk: Chunk) -> Iterator[tuple[Block | _Kept, int, int]]:
        """Which bytes of which parts the chunk consists of."""
        for index in range(bisect_right(self._begins, chunk.begin) - 1, len(self._parts)):
            part, offset = self._parts[index], self._begins[index]
            if offset >= chunk.end:
                break
            begin, end = max(chunk.begin, offset), min(chunk.end, offset + part.size_bytes)
            yield part, begin - offset, end - offset


class _Kept:
    """A costly block, in memory from the first chunk that needs it to the last."""

    def __init__(self, begin: int, block: Block) -> None:
        self.size_bytes = block.size_bytes
        self._block = block
        first, last = begin // CHUNK_BYTES, (begin + block.size_bytes - 1) // CHUNK_BYTES
        self._num_left = last - first + 1
        self._memory: memoryview | None = None
        self._lock = Lock()

    def fetch(self, begin: int, end: int) -> memoryview:
        with self._lock:
            memory = self._memory or self._block.fetch(0, self.size_bytes)
            self._num_left -= 1
            self._memory = memory if self._num_left else None
        return memory[begin:end]

    def put(self, target: memoryview, begin: int) -> None:
        from trainer_shim.checkpoint.chunks import copy

        copy(target, self.fetch(begin, begin + target.nbytes))


def read_header(source: Source, size_bytes: int) -> tuple[int, dict[str, Entry]]:
    """Where the data begins, and every block in its order; raises Damaged when they do not fill the file."""
    length = int.from_bytes(_read(source, _LENGTH_BYTES), "little")
    if length > min(MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
        raise Damaged(f"cannot use the tensor file: its header claims {length} bytes")
    text = _read(source, length)
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        num_names = len(raw)
        remarks = msgspec.json.decode(raw.pop(RESERVED_NAME, b"{}"), type=dict[str, str])
        entries = {name: msgspec.json.decode(value, type=Entry) for name, value in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"cannot use the tensor file: its header is malformed ({error})") from None
    if jsontext.num_names(text) != num_names + len(remarks) + len(msgspec.structs.fields(Entry)) * len(
        entries
    ):
        raise Damaged("cannot use the tensor file: a name stands twice in its header")
    ordered = dict(sorted(entries.items(), key=lambda item: item[1].data_offsets))
    begin = _LENGTH_BYTES + length
    _check_offsets(ordered, size_bytes - begin)
    return begin, ordered


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


def _read(source: Source, size_bytes: int) -> bytes:
    """The next bytes of a small part; raises Damaged where the file is too short."""
    found = bytearray()
    while len(found) < size_bytes:
        piece = source.read(size_bytes - len(found))
        if not piece:
            raise Damaged("cannot use the tensor file: it ends too early")
        found += piece
    return bytes(found)
