"""What is stored comes back, bit for bit, and any safetensors reader can open it."""

from __future__ import annotations

import io
import math
import struct
import tempfile
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize

from trainer_shim.checkpoint import digest, directread, directwrite, tensorfile, tree
from trainer_shim.checkpoint.arrays import make_place
from trainer_shim.checkpoint.strides import laid_out

TORCH_DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
    torch.bool, torch.complex64, torch.complex128, torch.float8_e8m0fnu,
]  # fmt: skip
NUMPY_DTYPES = [
    "<f8",
    ">f4",
    "<f2",
    "<i8",
    ">u2",
    "|b1",
    "<c8",
    "<c16",
    "<M8[ns]",
    "<m8[D]",
    "<U3",
    "|S4",
    "|V3",
]
FLOATING = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128}


@st.composite
def tensors(draw):
    """Any bits at all, NaNs with any payload among them; also views that are not contiguous."""
    dtype = draw(st.sampled_from(TORCH_DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    raw = bytearray(
        draw(
            st.binary(min_size=math.prod(shape) * dtype.itemsize, max_size=math.prod(shape) * dtype.itemsize)
        )
    )
    if dtype is torch.bool:
        raw = bytearray(byte & 1 for byte in raw)
    tensor = torch.frombuffer(raw, dtype=dtype).reshape(shape) if raw else torch.empty(shape, dtype=dtype)
    tensor = tensor.mT if len(shape) >= 2 and draw(st.booleans()) else tensor
    needs_grad = dtype in FLOATING and draw(st.booleans())
    if needs_grad and draw(st.booleans()):
        return torch.nn.Parameter(tensor)
    return tensor.requires_grad_(needs_grad)


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(NUMPY_DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = math.prod(shape) * dtype.itemsize
    raw = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if dtype.kind in "bU":  # Only some bits are booleans, or text.
        raw = bytearray(byte & 1 for byte in raw) if dtype.kind == "b" else bytearray(size)
    array = np.ndarray(shape, dtype, raw)
    return array[()] if shape == () else draw(st.sampled_from([array, array.T]))


FLOATS = st.floats() | st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack(">d", raw)[0])
TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["$", "a.b", "__metadata__", "#2", ""]
)
INTS = st.integers() | st.sampled_from([2**53, -(2**53) - 1, 2**63, 2**64, 10**40])
SCALARS = st.none() | st.booleans() | INTS | FLOATS | TEXT | st.complex_numbers()


def short(strategy):
    """The same under a short name: Hypothesis warns of reprs that nobody would read."""

    @st.composite
    def drawn(draw):
        return draw(strategy)

    return drawn()


NAMED = short(
    st.fractions()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | TEXT.filter(lambda text: "\0" not in text).map(PurePosixPath)
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3))
)
KEYS = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | TEXT | NAMED,
    lambda keys: st.lists(keys, max_size=3).map(tuple),
)
MEMBERS = st.recursive(
    SCALARS | NAMED | st.binary(max_size=4),
    lambda one: st.tuples(st.sampled_from([tuple, frozenset]), st.lists(one, max_size=3)).map(
        lambda pair: pair[0](pair[1])
    ),
)
SMALL = st.sampled_from(
    [torch.Size([2, 3]), torch.bfloat16, torch.device("cuda:1"), np.float32(0.1), np.str_("x"), np.bool_(1)]
)
BYTES = (
    st.binary(max_size=9)
    | st.binary(max_size=9).map(bytearray)
    | st.just(bytes(5000))
    | st.just(bytearray(b"x" * 5000))
    # Of one path with others, and yet not of one value.
    | st.integers(2000, 2003).map(lambda size: bytes([size % 256]) * size)
)


@st.composite
def others(draw, items, maps):
    kind = draw(st.sampled_from([deque, OrderedDict, defaultdict, Counter]))
    if kind is deque:
        return deque(draw(st.lists(items, max_size=4)), draw(st.none() | st.integers(0, 3)))
    found = draw(maps)
    if kind is OrderedDict:
        return OrderedDict(found)
    return defaultdict(list, found) if kind is defaultdict else Counter({key: len(found) for key in found})


def containers(items):
    maps = st.dictionaries(short(KEYS), items, max_size=4)
    return (
        st.lists(items, max_size=4)
        | st.lists(items, max_size=4).map(tuple)
        | st.dictionaries(TEXT, items, max_size=4)
        | maps
        | others(items, maps)
    )


LEAVES = (
    SCALARS
    | NAMED
    | SMALL
    | BYTES
    | tensors()
    | arrays()
    | st.sets(short(MEMBERS), max_size=4)
    | st.frozensets(short(MEMBERS), max_size=4)
)
TREES = st.recursive(short(LEAVES), containers, max_leaves=12)


def written(state: dict[str, Any]) -> tuple[bytes, bytes]:
    skeleton, blocks = tree.encode(state)
    return skeleton, in_file(blocks)


def in_file(blocks: list[tensorfile.Block]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        found = directwrite.write(path, tensorfile.Image(tensorfile.make_plan(blocks)))
        data = path.read_bytes()
    running = digest.start_like(found)
    running.update(data)
    assert found == digest.finish(running)
    return data


def read(skeleton: bytes, data: bytes) -> Any:
    node = tree.parse(skeleton)
    nodes = tree.block_nodes(node)
    values, places = {}, []
    begin, entries = tensorfile.read_header(io.BytesIO(data), len(data))
    for name, entry in entries.items():
        found = make_place(nodes[name], entry.dtype, entry.shape)
        values[name] = found.value
        places.append((begin + entry.data_offsets[0], found.memory))
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        assert directread.read(file.fileno(), len(data), places).startswith("xxh3-128-2MiB:")
    values = {name: laid_out(value, nodes[name].get("strides")) for name, value in values.items()}
    return tree.decode(node, values)


def fingerprint(value: Any) -> Any:
    """Equal exactly when two values are the same to the last bit and of the same types, in the same order."""
    kind = type(value)
    if isinstance(value, torch.Tensor):
        raw = (
            value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            if value.numel()
            else b""
        )
        layout = torch.empty_like(value, dtype=torch.uint8).stride() if value.numel() else ()
        return (kind, value.dtype, tuple(value.shape), value.requires_grad, layout, raw)
    if isinstance(value, np.ndarray):
        strides = [
            x for x, length in zip(np.empty_like(value, "u1").strides, value.shape, strict=True) if length > 1
        ]
        return (kind, value.dtype.str, value.shape, value.size and strides, value.tobytes())
    if isinstance(value, np.generic):
        return (kind, value.dtype.str, value.tobytes())
    if isinstance(value, dict):
        return (kind, [(fingerprint(key), fingerprint(item)) for key, item in value.items()])
    if isinstance(value, (list, tuple, deque)):
        return (kind, getattr(value, "maxlen", None), [fingerprint(item) for item in value])
    if isinstance(value, (set, frozenset)):
        return (kind, sorted(repr(fingerprint(item)) for item in value))
    if kind is float:
        return (kind, struct.pack(">d", value))
    if kind is complex:
        return (kind, struct.pack(">dd", value.real, value.imag))
    return (kind, bytes(value) if isinstance(value, (bytes, bytearray)) else value)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(TEXT, TREES, max_size=4))
def test_every_tree_comes_back_with_the_same_bits_types_and_order(state):
    """
    A run goes on with exactly what was saved: no float rounded, no tuple
    turned into a list, no integer key into text.
    """
    assert fingerprint(state) == fingerprint(read(*written(state)))


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(TEXT, TREES, max_size=4))
def test_the_stock_safetensors_reader_opens_every_file_we_write(state):
    """
    Weights can be taken out of a checkpoint without this project.
    """
    _, blocks = tree.encode(state)
    data = in_file(blocks)

    expected = {
        block.name: (block.dtype, list(block.shape), bytes(block.fetch(0, block.size_bytes)))
        for block in blocks
    }
    actual = {name: (it["dtype"], it["shape"], bytes(it["data"])) for name, it in deserialize(data)}

    assert expected == actual


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(TEXT, TREES, max_size=4))
def test_the_same_state_gives_the_same_files(state):
    """
    Two checkpoints of one state can be compared by their digests.
    """
    assert written(state) == written(state)
