"""The numbers that a rule can ask for: each from its place, in its unit, or missing with the reason."""

from __future__ import annotations

import math

import pytest

from supervisor.core.readings.metrics import METRICS, bounds, places, read
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

    assert READINGS[name] == read(name, FULL, place)


@pytest.mark.parametrize("name", METRICS)
def test_what_was_not_measured_is_missing_and_never_zero(name):
    """
    An idle GPU can be told from one that does not answer.
    """
    blind = Sample(at=0.0, gpus=(Gpu(uuid="G"),), jobs={"a": JobUse()})
    (place,) = places(METRICS[name], blind)

    assert UNREAD == read(name, blind, place)


def test_a_metric_of_gpus_has_a_place_for_each_and_one_of_jobs_too():
    """
    The host is always there; without a driver there is no GPU to name.
    """
    two = Sample(at=0.0, gpus=(Gpu(uuid="G2"), Gpu(uuid="G1")), jobs={"b": JobUse(), "a": JobUse()})

    assert [""] == places(METRICS["cpu_pct"], two) == places(METRICS["cpu_pct"], Sample(at=0.0))
    assert ["G2", "G1"] == places(METRICS["gpu_power_w"], two)
    assert ["a", "b"] == places(METRICS["job_memory_gib"], two)
    assert [] == places(METRICS["gpu_power_w"], Sample(at=0.0, gpus=UNREAD))


def test_a_place_that_is_gone_says_so():
    """
    A GPU that fell off the bus, a driver that hangs, a job that ended.
    """
    hangs = Sample(at=0.0, gpus=Missing("the driver hangs"))

    assert Missing("the GPU is gone: the driver lists it no more") == read("gpu_power_w", FULL, "H")
    assert Missing("the driver hangs") == read("gpu_power_w", hangs, "G")
    assert Missing("there is no such job") == read("job_memory_gib", FULL, "b")


def test_of_nothing_there_is_no_share():
    """
    A machine without swap does not swap, and is not said to.
    """
    none = Sample(at=0.0, swap_used_bytes=0.0, swap_total_bytes=0.0)
    half = Sample(at=0.0, memory_available_bytes=5.0, memory_total_bytes=Missing("no file"))

    assert Missing("there is none of it") == read("swap_used_pct", none, "")
    assert Missing("no file") == read("memory_available_pct", half, "")


def test_a_foreign_process_whose_memory_the_driver_hides_makes_the_sum_unknown():
    """
    What can be counted is still counted; our own need not be known for it.
    """
    known = GpuProcess(2, 1 << 30)

    def others(*processes):
        sample = Sample(at=0.0, gpus=(Gpu(uuid="G", processes=processes),))
        return tuple(read(f"gpu_foreign_{what}", sample, "G") for what in ("memory_gib", "processes"))

    hidden, num = others(GpuProcess(1, None), known)

    assert isinstance(hidden, Missing)
    assert 2.0 == num
    assert (1.0, 1.0) == others(GpuProcess(1, None, "a"), known)
    assert (0.0, 0.0) == others()


def test_bounds_are_what_the_unit_allows():
    """
    A threshold beyond them is never crossed; frost is no error.
    """
    assert (0.0, 100.0) == bounds(METRICS["cpu_pct"])
    assert (0.0, 1.0) == bounds(METRICS["on_battery"])
    assert (0.0, math.inf) == bounds(METRICS["gpu_power_w"]) == bounds(METRICS["load_per_cpu"])
    assert (-math.inf, math.inf) == bounds(METRICS["gpu_temperature_c"])
