"""How the number of a metric is read from a sample, and foretold for a sample with one more job.

Covers: readings of places, shares and units; forecasts.
Does not cover: which metric is read by what (metrics.py), measuring (monitors/).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from supervisor.core.readings.metric import GIB, UNFORESEEN, Addition
from supervisor.core.readings.sample import Gpu, JobUse, Missing, Reading, Sample

__all__ = [
    "CPU",
    "GPU_MEMORY",
    "JOB_MEMORY",
    "MEMORY_GIB",
    "MEMORY_PCT",
    "foreign_gib",
    "foreign_processes",
    "of_gpu",
    "of_job",
    "ratio_pct",
    "scaled",
]


def ratio_pct(part: Reading, whole: Reading) -> Reading:
    """Return the share of a whole; of nothing there is none."""
    if isinstance(part, Missing):
        return part
    if isinstance(whole, Missing):
        return whole
    return 100 * part / whole if whole > 0 else Missing("there is none of it")


def scaled(value: Reading, unit: float) -> Reading:
    """Return a reading in this unit."""
    return value if isinstance(value, Missing) else value / unit


def _gpu(sample: Sample, uuid: str) -> Gpu | Missing:
    if isinstance(sample.gpus, Missing):
        return sample.gpus
    found = next((gpu for gpu in sample.gpus if gpu.uuid == uuid), None)
    return found if found is not None else Missing("the GPU is gone: the driver lists it no more")


def of_gpu(pick: Callable[[Gpu], Reading]) -> Callable[[Sample, str], Reading]:
    """Return what reads a number of the GPU that the place names."""

    def read_gpu(sample: Sample, uuid: str) -> Reading:
        gpu = _gpu(sample, uuid)
        return gpu if isinstance(gpu, Missing) else pick(gpu)

    return read_gpu


def of_job(pick: Callable[[JobUse], Reading]) -> Callable[[Sample, str], Reading]:
    """Return what reads a number of the job that the place names."""

    def read_job(sample: Sample, name: str) -> Reading:
        use = sample.jobs.get(name)
        return pick(use) if use is not None else Missing("there is no such job")

    return read_job


def foreign_processes(gpu: Gpu) -> Reading:
    """Return how many processes of others compute there."""
    if isinstance(gpu.processes, Missing):
        return gpu.processes
    return float(sum(not process.job and process.computes for process in gpu.processes))


def foreign_gib(gpu: Gpu) -> Reading:
    """Return what foreign processes hold; one whose memory the driver hides makes the sum unknown."""
    if isinstance(gpu.processes, Missing):
        return gpu.processes
    foreign = [process.used_bytes for process in gpu.processes if not process.job]
    known = [used for used in foreign if used is not None]
    if len(known) < len(foreign):
        return Missing("the driver does not tell how much a foreign process holds")
    return sum(known) / GIB


def _memory_left(sample: Sample, more: Addition) -> Reading:
    """Foretell the memory that can be had, in bytes."""
    total, available = sample.memory_total_bytes, sample.memory_available_bytes
    if isinstance(available, Missing) or isinstance(total, Missing) or not more.memory_bytes:
        return Missing("no forecast")
    return available - more.memory_bytes - more.promised_bytes


def _cpu_with(sample: Sample, _: str, more: Addition) -> Reading:
    if isinstance(sample.cpu_pct, Missing) or not more.cpu_pct:
        return Missing("no forecast")
    return sample.cpu_pct + more.cpu_pct / sample.num_cpus


def _gpu_memory_with(sample: Sample, uuid: str, more: Addition) -> Reading:
    bytes_, gpu = more.gpu_bytes.get(uuid, 0.0), _gpu(sample, uuid)
    if isinstance(gpu, Missing) or not bytes_ or isinstance(gpu.memory_used_bytes, Missing):
        return Missing("no forecast")
    return ratio_pct(gpu.memory_used_bytes + bytes_, gpu.memory_total_bytes)


def _of_memory(share: float, sample: Sample) -> float | None:
    return None if isinstance(sample.memory_total_bytes, Missing) else share / 100 * sample.memory_total_bytes


CPU: Final = replace(UNFORESEEN, amount=lambda gap, _: -gap, with_one_more=_cpu_with)
MEMORY_PCT: Final = replace(
    UNFORESEEN,
    amount=_of_memory,
    with_one_more=lambda s, _, more: ratio_pct(_memory_left(s, more), s.memory_total_bytes),
    lacks=frozenset({"memory"}),
)
MEMORY_GIB: Final = replace(
    UNFORESEEN,
    amount=lambda gap, _: gap * GIB,
    with_one_more=lambda s, _, more: scaled(_memory_left(s, more), GIB),
    lacks=frozenset({"memory"}),
)
GPU_MEMORY: Final = replace(UNFORESEEN, with_one_more=_gpu_memory_with, lacks=frozenset({"gpu"}))
JOB_MEMORY: Final = replace(UNFORESEEN, ends_with_process=True)
