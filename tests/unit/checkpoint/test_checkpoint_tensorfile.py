"""A tensor file that lies about itself is noticed before memory is taken."""

from __future__ import annotations

import io
import json
import weakref

import numpy as np
import pytest

from trainer_shim.checkpoint.chunks import Chunk, chunks_of
from trainer_shim.checkpoint.digest import CHUNK_BYTES
from trainer_shim.checkpoint.tensorfile import ITEM_BYTES, Block, Image, make_plan, read_header
from trainer_shim.errors import Damaged


def file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_blocks_of_any_type_start_at_a_multiple_of_their_element_size():
    """
    A file can be mapped into memory and used in place.
    """
    sizes = sorted(ITEM_BYTES, key=lambda dtype: ITEM_BYTES[dtype])
    plan = make_plan(
        [
            Block(f"{i}", dtype, (3,), lambda begin, end: memoryview(bytes(end - begin)))
            for i, dtype in enumerate(sizes)
        ]
    )
    data = bytes(Image(plan).chunk(Chunk(0, 0, plan.size_bytes), memoryview(bytearray(plan.size_bytes))))
    begin, entries = read_header(io.BytesIO(data), len(data))

    assert 0 == begin % 8
    assert all(0 == one.data_offsets[0] % ITEM_BYTES[one.dtype] for one in entries.values())


@pytest.mark.parametrize("name", ["a" * length for length in range(8)])
def test_the_data_starts_at_a_multiple_of_eight_whatever_the_names(name):
    """
    The header is padded, not lucky.
    """
    plan = make_plan([Block(name, "U8", (1,), lambda begin, end: memoryview(b"x"))])

    assert 0 == len(plan.header) % 8


@pytest.mark.parametrize("size_bytes", [100, 3 * CHUNK_BYTES])
def test_a_block_that_is_costly_to_fetch_is_fetched_once_and_kept_until_its_last_chunk(size_bytes):
    """
    A large transposed tensor is rearranged once in a save, and the memory for that given back.
    """
    kept = []

    def fetch(begin, end):
        memory = np.full(size_bytes, 7, "u1")
        kept.append(weakref.ref(memory))
        return memoryview(memory)[begin:end]

    image = Image(make_plan([Block("a", "U8", (size_bytes,), fetch, is_costly=True)]))
    *chunks, last = chunks_of(image.size_bytes)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for chunk in chunks:
        image.chunk(chunk, buffer)

    assert all(one() is not None for one in kept)
    assert b"\7" == bytes(image.chunk(last, buffer)[last.end - last.begin - 1 : last.end - last.begin])
    assert [None] == [one() for one in kept]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        file({}, length=2**63),
        file({}, length=200),
        file(b"[]"),
        file(b'{"a": 1}'),
        file(b"{" * 9),
        file(b"\xff\xff"),
        file({"a": entry()}),
        file({"a": entry()}, b"12345"),
        file({}, b"1234"),
        file({"a": entry(offsets=(4, 8))}, b"12345678"),
        file({"a": entry(offsets=(4, 0))}, b"1234"),
        file({"a": entry(), "b": entry()}, b"1234"),
        file({"a": entry(), "b": entry(offsets=(2, 6))}, b"123456"),
        file({"a": entry(shape=(-1,), offsets=(0, 4))}, b"1234"),
        file({"a": entry(shape=(2**62, 2**62))}, b"1234"),
        file({"a": entry(shape=(0, 2**60), offsets=(0, 0))}),
        file({"a": entry(dtype="PICKLE")}, b"1234"),
        file({"a": entry(shape=(1,) * 65)}, b"1234"),
        file({"a": entry() | {"code": "x"}}, b"1234"),
        file({"a": entry(offsets=(0, 4, 8))}, b"1234"),
        file({"a": entry(shape=(1.5,))}, b"1234"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_damage(data):
    """
    Overlaps, gaps, absurd shapes and unknown types are refused in words.
    """
    with pytest.raises(Damaged, match="cannot use the tensor file"):
        read_header(io.BytesIO(data), len(data))
