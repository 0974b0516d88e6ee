"""Readings as they would be with other jobs."""

from __future__ import annotations

from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Missing, Sample
from supervisor.core.readings.whatif import corrected


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
