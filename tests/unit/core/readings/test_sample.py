"""What was measured at one moment, as a record: what is missing in it stays missing, also when stored."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Pressure, Sample

UNREAD = Missing("not measured")


def stored(record):
    """Return it as it comes back from the journal."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record))


@pytest.mark.parametrize(
    "record",
    [Sample(at=0.0), Gpu(uuid="G"), Pressure(), DiskReading(), JobUse()],
    ids=lambda record: type(record).__name__,
)
def test_nothing_that_was_not_measured_looks_like_a_reading(record):
    """
    No reading of a fresh record is a number.
    """
    readings = [
        getattr(record, field.name)
        for field in msgspec.structs.fields(type(record))
        if field.type == float | Missing or "Missing" in str(field.type)
    ]

    assert readings
    assert {UNREAD} | ({()} if isinstance(record, Sample) else set()) == {*readings}


@pytest.mark.parametrize("reading", [0.0, -5.0, 1e300, Missing("no file"), Missing("")])
def test_a_reading_and_a_missing_one_are_told_apart_when_stored(reading):
    """
    Zero is not missing, and the reason is kept.
    """
    sample = Sample(at=1.0, temperature_c=reading)

    assert sample == stored(sample)
    assert isinstance(stored(sample).temperature_c, Missing) == isinstance(reading, Missing)


def test_no_gpu_and_no_answer_are_two_things_when_stored():
    """
    A machine without a GPU; one whose driver hangs.
    """
    none, hangs = Sample(at=1.0, gpus=()), Sample(at=1.0, gpus=Missing("it hangs"))

    assert () == stored(none).gpus
    assert Missing("it hangs") == stored(hangs).gpus
    assert stored(none) != stored(Sample(at=1.0))


def test_a_process_whose_memory_is_hidden_does_not_hold_nothing():
    """
    The driver does not tell, so nobody knows; and who draws is told from who computes.
    """
    hidden, drawn = GpuProcess(1), GpuProcess(1, 0, computes=False)
    gpu = Gpu(uuid="G", processes=(hidden, drawn))

    assert (None, True) == (hidden.used_bytes, hidden.computes)
    assert (hidden, drawn) == stored(gpu).processes


def test_what_is_as_usual_takes_no_room():
    """
    A quiet machine writes a few bytes each second.
    """
    assert b'{"at":1.0}' == msgspec.json.encode(Sample(at=1.0))
    assert b'{"uuid":"G"}' == msgspec.json.encode(Gpu(uuid="G"))


def test_a_sample_cannot_be_changed_afterwards():
    """
    Whoever holds one reads the same tomorrow.
    """
    with pytest.raises(AttributeError):
        Sample(at=1.0).cpu_pct = 5.0
