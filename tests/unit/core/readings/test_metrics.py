"""The numbers that a rule can ask for: each from its place, in its unit, or missing with the reason."""

from __future__ import annotations

import pytest

from supervisor.core.readings.metric import places
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Missing, Pressure, Sample

GIB = float(1 << 30)
UNREAD = Missing("not measured")
FULL = Sample(
    at=0.0,
    num_cpus=4.0,
    cpu_pct=60.0,
    cpu_foreign_pct=40.0,
    load_1min=6.0,
    memory_total_bytes=16 * GIB,
    memory_available_bytes=4 * GIB,
    swap_total_bytes=8 * GIB,
    swap_used_bytes=2 * GIB,
    pressure=Pressure(
        cpu_some_pct=1.0, memory_some_pct=2.0, memory_full_pct=3.0, io_some_pct=4.0, io_full_pct=5.0
    ),
    temperature_c=71.0,
    on_battery=1.0,
    battery_pct=33.0,
    gpus=(
        Gpu(
            uuid="G",
            utilization_pct=90.0,
            memory_used_bytes=6 * GIB,
            memory_total_bytes=8 * GIB,
            temperature_c=80.0,
            power_w=250.0,
            processes=(
                GpuProcess(1, int(2 * GIB)),
                GpuProcess(2, int(1 * GIB), computes=False),
                GpuProcess(3, int(3 * GIB), "a"),
            ),
        ),
    ),
    jobs={"a": JobUse(rss_bytes=3 * GIB, disk=DiskReading(5 * GIB, 20 * GIB))},
)
READINGS = {
    "cpu_foreign_pct": 40.0,
    "cpu_pct": 60.0,
    "load_per_cpu": 1.5,
    "memory_available_pct": 25.0,
    "memory_available_gib": 4.0,
    "swap_used_pct": 25.0,
    "psi_cpu_some_pct": 1.0,
    "psi_memory_some_pct": 2.0,
    "psi_memory_full_pct": 3.0,
    "psi_io_some_pct": 4.0,
    "psi_io_full_pct": 5.0,
    "temperature_c": 71.0,
    "on_battery": 1.0,
    "battery_pct": 33.0,
    "gpu_foreign_memory_gib": 3.0,
    "gpu_foreign_processes": 1.0,
    "gpu_utilization_pct": 90.0,
    "gpu_memory_used_pct": 75.0,
    "gpu_temperature_c": 80.0,
    "gpu_power_w": 250.0,
    "disk_free_gib": 5.0,
    "disk_free_pct": 25.0,
    "job_memory_gib": 3.0,
}


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_reads_its_own_number(name):
    """
    In the unit that a rule is written in: GiB, per cent of all, a CPU.
    """
    (place,) = places(METRICS[name], FULL)

    assert READINGS[name] == METRICS[name].read(FULL, place)


@pytest.mark.parametrize("name", METRICS)
def test_what_was_not_measured_is_missing_and_never_zero(name):
    """
    An idle GPU can be told from one that does not answer.
    """
    blind = Sample(at=0.0, gpus=(Gpu(uuid="G"),), jobs={"a": JobUse()})
    (place,) = places(METRICS[name], blind)

    assert UNREAD == METRICS[name].read(blind, place)
