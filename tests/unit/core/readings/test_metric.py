"""What holds for every metric: where it can be read, and what it can be."""

from __future__ import annotations

import math

from supervisor.core.readings.metric import bounds, places
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Gpu, JobUse, Missing, Sample

UNREAD = Missing("not measured")


def test_a_metric_of_gpus_has_a_place_for_each_and_one_of_jobs_too():
    """
    The host is always there; without a driver there is no GPU to name.
    """
    two = Sample(at=0.0, gpus=(Gpu(uuid="G2"), Gpu(uuid="G1")), jobs={"b": JobUse(), "a": JobUse()})

    assert [""] == places(METRICS["cpu_pct"], two) == places(METRICS["cpu_pct"], Sample(at=0.0))
    assert ["G2", "G1"] == places(METRICS["gpu_power_w"], two)
    assert ["a", "b"] == places(METRICS["job_memory_gib"], two)
    assert [] == places(METRICS["gpu_power_w"], Sample(at=0.0, gpus=UNREAD))


def test_bounds_are_what_the_unit_allows():
    """
    A threshold beyond them is never crossed; frost is no error.
    """
    assert (0.0, 100.0) == bounds(METRICS["cpu_pct"])
    assert (0.0, 1.0) == bounds(METRICS["on_battery"])
    assert (0.0, math.inf) == bounds(METRICS["gpu_power_w"]) == bounds(METRICS["load_per_cpu"])
    assert (-math.inf, math.inf) == bounds(METRICS["gpu_temperature_c"])
