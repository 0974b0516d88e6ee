"""The numbers that a rule can ask for, each with its unit, its place and where it comes from.

Covers: one table from a metric's name to a reading of a sample.
Does not cover: thresholds (rules.py), measuring (monitors/).

A metric of the host has one place, "". One of GPUs has a place for each UUID,
one of jobs a place for each job with a process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from supervisor.core.readings.sample import Gpu, JobUse, Missing, Reading, Sample

__all__ = ["METRICS", "Metric", "bounds", "places", "read"]

_GIB: Final = float(1 << 30)

Place = Literal["host", "gpu", "job"]


@dataclass(frozen=True)
class Metric:
    """One number; `read` gives it for a place that `places` named."""

    name: str
    place: Place
    unit: str
    about: str
    read: Callable[[Sample, str], Reading]


def places(metric: Metric, sample: Sample) -> list[str]:
    """Return where this metric can be read in this sample; the host is always there."""
    if metric.place == "host":
        return [""]
    if metric.place == "job":
        return sorted(sample.jobs)
    return [gpu.uuid for gpu in sample.gpus] if not isinstance(sample.gpus, Missing) else []


def bounds(metric: Metric) -> tuple[float, float]:
    """Return the least and the most that it can read."""
    if metric.unit == "C":
        return -math.inf, math.inf
    most = {"%": 100.0}.get(metric.unit, 1.0 if metric.name == "on_battery" else math.inf)
    return 0.0, most


def read(name: str, sample: Sample, place: str) -> Reading:
    """Return a reading; one whose GPU or job is not in the sample is missing."""
    return METRICS[name].read(sample, place)


def _ratio_pct(part: Reading, whole: Reading) -> Reading:
    if isinstance(part, Missing):
        return part
    if isinstance(whole, Missing):
        return whole
    return 100 * part / whole if whole > 0 else Missing("there is none of it")


def _scaled(value: Reading, unit: float) -> Reading:
    return value if isinstance(value, Missing) else value / unit


def _gpu(sample: Sample, uuid: str) -> Gpu | Missing:
    if isinstance(sample.gpus, Missing):
        return sample.gpus
    found = next((gpu for gpu in sample.gpus if gpu.uuid == uuid), None)
    return found if found is not None else Missing("the GPU is gone: the driver lists it no more")


def _of_gpu(pick: Callable[[Gpu], Reading]) -> Callable[[Sample, str], Reading]:
    def read_gpu(sample: Sample, uuid: str) -> Reading:
        gpu = _gpu(sample, uuid)
        return gpu if isinstance(gpu, Missing) else pick(gpu)

    return read_gpu


def _of_job(pick: Callable[[JobUse], Reading]) -> Callable[[Sample, str], Reading]:
    def read_job(sample: Sample, name: str) -> Reading:
        use = sample.jobs.get(name)
        return pick(use) if use is not None else Missing("there is no such job")

    return read_job


def _foreign_processes(gpu: Gpu) -> Reading:
    if isinstance(gpu.processes, Missing):
        return gpu.processes
    return float(sum(not process.job and process.computes for process in gpu.processes))


def _foreign_gib(gpu: Gpu) -> Reading:
    """What foreign processes hold; one whose memory the driver hides makes the sum unknown."""
    if isinstance(gpu.processes, Missing):
        return gpu.processes
    foreign = [process.used_bytes for process in gpu.processes if not process.job]
    known = [used for used in foreign if used is not None]
    if len(known) < len(foreign):
        return Missing("the driver does not tell how much a foreign process holds")
    return sum(known) / _GIB


def _table(metrics: Iterable[Metric]) -> MappingProxyType[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS: Final = _table(
    (
        Metric(
            "cpu_foreign_pct", "host", "%", "CPU used by others, of all CPUs", lambda s, _: s.cpu_foreign_pct
        ),
        Metric("cpu_pct", "host", "%", "CPU used by anybody, of all CPUs", lambda s, _: s.cpu_pct),
        Metric(
            "load_per_cpu",
            "host",
            "",
            "load average of 1 min a CPU",
            lambda s, _: _scaled(s.load_1min, s.num_cpus),
        ),
        Metric(
            "memory_available_pct",
            "host",
            "%",
            "memory that can be had without swapping, of all",
            lambda s, _: _ratio_pct(s.memory_available_bytes, s.memory_total_bytes),
        ),
        Metric(
            "memory_available_gib",
            "host",
            "GiB",
            "memory that can be had without swapping",
            lambda s, _: _scaled(s.memory_available_bytes, _GIB),
        ),
        Metric(
            "swap_used_pct",
            "host",
            "%",
            "swap in use, of all; missing where there is none",
            lambda s, _: _ratio_pct(s.swap_used_bytes, s.swap_total_bytes),
        ),
        Metric(
            "psi_cpu_some_pct",
            "host",
            "%",
            "time some task waited for a CPU",
            lambda s, _: s.pressure.cpu_some_pct,
        ),
        Metric(
            "psi_memory_some_pct",
            "host",
            "%",
            "time some task waited for memory",
            lambda s, _: s.pressure.memory_some_pct,
        ),
        Metric(
            "psi_memory_full_pct",
            "host",
            "%",
            "time all tasks waited for memory",
            lambda s, _: s.pressure.memory_full_pct,
        ),
        Metric(
            "psi_io_some_pct",
            "host",
            "%",
            "time some task waited for a disk",
            lambda s, _: s.pressure.io_some_pct,
        ),
        Metric(
            "psi_io_full_pct",
            "host",
            "%",
            "time all tasks waited for a disk",
            lambda s, _: s.pressure.io_full_pct,
        ),
        Metric("temperature_c", "host", "C", "hottest sensor of the CPU", lambda s, _: s.temperature_c),
        Metric("on_battery", "host", "", "1 on battery, 0 on mains", lambda s, _: s.on_battery),
        Metric("battery_pct", "host", "%", "charge of the battery", lambda s, _: s.battery_pct),
        Metric("gpu_foreign_memory_gib", "gpu", "GiB", "GPU memory that others hold", _of_gpu(_foreign_gib)),
        Metric(
            "gpu_foreign_processes",
            "gpu",
            "",
            "processes of others that compute on the GPU",
            _of_gpu(_foreign_processes),
        ),
        Metric(
            "gpu_utilization_pct",
            "gpu",
            "%",
            "time a kernel ran on the GPU",
            _of_gpu(lambda g: g.utilization_pct),
        ),
        Metric(
            "gpu_memory_used_pct",
            "gpu",
            "%",
            "GPU memory in use by anybody",
            _of_gpu(lambda g: _ratio_pct(g.memory_used_bytes, g.memory_total_bytes)),
        ),
        Metric("gpu_temperature_c", "gpu", "C", "temperature of the GPU", _of_gpu(lambda g: g.temperature_c)),
        Metric("gpu_power_w", "gpu", "W", "power drawn by the GPU", _of_gpu(lambda g: g.power_w)),
        Metric(
            "disk_free_gib",
            "job",
            "GiB",
            "free space under the job's checkpoint folder",
            _of_job(lambda use: _scaled(use.disk.free_bytes, _GIB)),
        ),
        Metric(
            "disk_free_pct",
            "job",
            "%",
            "free space under the job's checkpoint folder, of all",
            _of_job(lambda use: _ratio_pct(use.disk.free_bytes, use.disk.total_bytes)),
        ),
        Metric(
            "job_memory_gib",
            "job",
            "GiB",
            "memory of the job's processes",
            _of_job(lambda use: _scaled(use.rss_bytes, _GIB)),
        ),
    )
)
