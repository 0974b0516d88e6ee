"""Readings as they would be with other jobs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Sample
from supervisor.core.readings.whatif import corrected, or_zero


def test_readings_are_corrected_for_what_other_jobs_would_use():
    """
    Memory, CPU and GPU; what cannot be read stays unread.
    """
    on_gpu = Gpu(uuid="G", memory_used_bytes=5.0, processes=(GpuProcess(1, 2, "a"), GpuProcess(2, 3)))
    sample = Sample(
        at=0.0,
        num_cpus=2.0,
        cpu_foreign_pct=20.0,
        memory_available_bytes=100.0,
        gpus=(on_gpu, Gpu(uuid="H")),
        jobs={"a": JobUse(cpu_pct=100.0, rss_bytes=30.0, gpu_bytes={"G": 2})},
    )
    without = corrected(sample, {})
    other = corrected(sample, {"b": JobUse(cpu_pct=50.0, rss_bytes=10.0, gpu_bytes={"G": 4})})
    unread = corrected(Sample(at=0.0, gpus=Missing("x")), {})

    assert (130.0, 20.0) == (without.memory_available_bytes, without.cpu_pct)
    assert (3.0, (GpuProcess(2, 3),)) == (without.gpus[0].memory_used_bytes, without.gpus[0].processes)
    assert (120.0, 45.0, 7.0) == (
        other.memory_available_bytes,
        other.cpu_pct,
        other.gpus[0].memory_used_bytes,
    )
    assert Missing("not measured") == unread.memory_available_bytes
    assert Missing("x") == unread.gpus


@pytest.mark.parametrize(("reading", "number"), [(3.0, 3.0), (0.0, 0.0), (Missing("gone"), 0.0)])
def test_where_there_is_no_reading_nothing_is_added(reading, number):
    """
    A job whose first reading is still to come changes nothing.
    """
    assert number == or_zero(reading)


def test_no_reading_goes_beyond_what_it_can_be():
    """
    Neither more than all CPUs, nor less memory than none.
    """
    sample = Sample(at=0.0, num_cpus=2.0, cpu_foreign_pct=90.0, memory_available_bytes=10.0)
    sample = replace(
        sample, gpus=(Gpu(uuid="G", memory_used_bytes=1.0),), jobs={"a": JobUse(gpu_bytes={"G": 5})}
    )
    many = corrected(sample, {"b": JobUse(cpu_pct=900.0, rss_bytes=50.0)})

    assert (100.0, 100.0) == (many.cpu_ours_pct, many.cpu_pct)
    assert (0.0, 0.0) == (many.memory_available_bytes, many.gpus[0].memory_used_bytes)


def test_with_the_same_uses_the_readings_are_the_same():
    """
    Nothing else would be a prediction of what was seen.
    """
    use = JobUse(cpu_pct=100.0, rss_bytes=30.0, num_processes=1, gpu_bytes={"G": 2})
    processes = (GpuProcess(9, 1), GpuProcess(0, 2, "a"))
    sample = Sample(
        at=0.0,
        num_cpus=2.0,
        cpu_pct=70.0,
        cpu_ours_pct=50.0,
        cpu_foreign_pct=20.0,
        memory_available_bytes=100.0,
        gpus=(Gpu(uuid="G", memory_used_bytes=5.0, processes=processes),),
        jobs={"a": use},
    )

    assert sample == corrected(sample, {"a": use})


def test_the_disk_of_a_job_is_what_it_was():
    """
    A job that would have been paused does not empty its disk.
    """
    disk = DiskReading(free_bytes=7.0, total_bytes=9.0)
    sample = Sample(at=0.0, jobs={"a": JobUse(rss_bytes=5.0, disk=disk)})
    after = corrected(sample, {"a": JobUse(), "b": JobUse()})

    assert (disk, DiskReading()) == (after.jobs["a"].disk, after.jobs["b"].disk)


def test_memory_on_a_gpu_that_the_driver_hides_is_neither_added_nor_taken():
    """
    But the job is on it.
    """
    sample = Sample(at=0.0, gpus=(Gpu(uuid="G", memory_used_bytes=5.0, processes=()), Gpu(uuid="H")))
    there = corrected(sample, {"a": JobUse(gpu_bytes={"G": None})})

    assert (5.0, (GpuProcess(0, None, "a"),)) == (there.gpus[0].memory_used_bytes, there.gpus[0].processes)
    assert sample.gpus[1] == there.gpus[1]
