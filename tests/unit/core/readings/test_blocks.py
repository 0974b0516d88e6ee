"""Readings as they are stored and sent: what comes out is what went in, or nothing."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from supervisor.core.readings.blocks import pack, unpack
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Left, Missing, Sample

GONE = Missing("it does not answer")
SAMPLES = [
    Sample(at=1.0, wall=1.7e9, cpu_pct=GONE, memory_available_bytes=0.0, is_urgent=True),
    Sample(
        at=2.0,
        gpus=(Gpu(uuid="GPU-1", processes=(GpuProcess(7), GpuProcess(8, 9, "a", computes=False))),),
        programs=("steam",),
        jobs={"a": JobUse(cpu_pct=100.0, gpu_bytes={"GPU-1": None, "GPU-2": 5})},
        left={"b": (Left(7, "python", 4096),)},
    ),
    Sample(at=3.0, gpus=GONE, programs=Missing("hidepid")),
]


@pytest.mark.parametrize("num", [0, 1, 3])
def test_what_is_packed_is_unpacked(num):
    """
    None, one, many; what could not be read stays so, with its reason, and zero stays zero.
    """
    assert SAMPLES[:num] == unpack(pack(SAMPLES[:num]))


@pytest.mark.parametrize("keep", [0, 1, 10, -9, -4, -1])
def test_of_a_block_that_was_cut_nothing_is_made_up(keep):
    """
    Also where only the end of its checksum is missing: nobody could check it (seen 2026-11-29).
    """
    assert [] == unpack(pack(SAMPLES)[:keep])


@pytest.mark.parametrize(
    "block",
    [
        b"no block at all",
        zlib.compress(b""),
        zlib.compress(b"\xc1"),
        zlib.compress(msgspec.msgpack.encode({"at": 1.0})),
        zlib.compress(msgspec.msgpack.encode([{"wall": 1.0}])),
        zlib.compress(msgspec.msgpack.encode([{"at": "noon"}])),
    ],
    ids=["not zlib", "empty", "not msgpack", "no list", "no time", "wrong type"],
)
def test_of_a_damaged_block_there_are_no_samples(block):
    """
    The rest of the recording can be read.
    """
    assert [] == unpack(block)


def test_a_block_that_would_fill_the_memory_is_none():
    """
    A few KiB can stand for gigabytes; beyond 64 MiB nothing is unpacked.
    """
    wide = [Sample(at=1.0, programs=("x" * (65 << 20),))]

    assert [] == unpack(zlib.compress(msgspec.msgpack.encode(wide), 1))


def test_blocks_of_other_versions_are_read():
    """
    Of an older one a field is missing, of a later one there is one more.
    """
    block = zlib.compress(msgspec.msgpack.encode([{"at": 1.0, "cpu_pct": 5.0, "new_in_2031": [1, 2]}]))

    assert [Sample(at=1.0, cpu_pct=5.0)] == unpack(block)


def test_readings_that_hardly_change_take_hardly_any_room():
    """
    A day has 17,000 of them.
    """
    many = [msgspec.structs.replace(SAMPLES[1], at=float(second)) for second in range(1000)]

    assert len(pack(many)) < 20 * len(many)
