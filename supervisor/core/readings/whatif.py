"""The same moment with other jobs: readings as they would be if our jobs used something else.

Covers: memory, CPU and GPUs. Does not cover: pressure, load averages and temperatures: nobody can
know them, so they stay as they were read.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Reading, Sample
from supervisor.core.replacing import replace

__all__ = ["corrected", "or_zero"]


def or_zero(reading: Reading) -> float:
    """Return a reading; where there is none, nothing is added or taken away."""
    return 0.0 if isinstance(reading, Missing) else reading


def corrected(sample: Sample, uses: Mapping[str, JobUse]) -> Sample:
    """Return the readings as they would be with these uses instead of those that were recorded."""
    ours_pct = min(100.0, sum(or_zero(use.cpu_pct) for use in uses.values()) / max(sample.num_cpus, 1e-9))
    more_bytes = sum(or_zero(use.rss_bytes) for use in uses.values())
    more_bytes -= sum(or_zero(use.rss_bytes) for use in sample.jobs.values())
    foreign_pct, available = sample.cpu_foreign_pct, sample.memory_available_bytes
    return replace(
        sample,
        jobs={name: replace(use, disk=_disk(sample, name)) for name, use in uses.items()}
        if sample.jobs
        else dict(uses),
        cpu_ours_pct=ours_pct,
        cpu_pct=foreign_pct if isinstance(foreign_pct, Missing) else min(100.0, foreign_pct + ours_pct),
        memory_available_bytes=available
        if isinstance(available, Missing)
        else max(0.0, available - more_bytes),
        gpus=sample.gpus
        if isinstance(sample.gpus, Missing)
        else tuple(_gpu(gpu, sample, uses) for gpu in sample.gpus),
    )


def _disk(sample: Sample, name: str) -> DiskReading:
    return sample.jobs.get(name, JobUse()).disk


def _gpu(gpu: Gpu, sample: Sample, uses: Mapping[str, JobUse]) -> Gpu:
    used, processes = gpu.memory_used_bytes, gpu.processes
    more = sum(use.gpu_bytes.get(gpu.uuid) or 0 for use in uses.values())
    more -= sum(use.gpu_bytes.get(gpu.uuid) or 0 for use in sample.jobs.values())
    ours = tuple(
        GpuProcess(0, use.gpu_bytes[gpu.uuid], name)
        for name, use in uses.items()
        if gpu.uuid in use.gpu_bytes
    )
    return replace(
        gpu,
        memory_used_bytes=used if isinstance(used, Missing) else max(0.0, used + more),
        processes=processes
        if isinstance(processes, Missing)
        else (*(process for process in processes if not process.job), *ours),
    )
