"""A metric is one record: what is left out of it is seen when the table is made, and not in a night.

Covers: the record and the table. Does not cover: what each metric reads (monitors, traces).
"""

from __future__ import annotations

import dataclasses
import math

import pytest

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.conditions import look
from supervisor.core.policy.rules import Condition, Rule
from supervisor.core.policy.shortage import depth_for, gives_back, resource, shortfall
from supervisor.core.readings.metric import UNFORESEEN, Addition, Change, Metric, Resource, bounds, places
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Gpu, JobUse, Missing, Sample

UNREAD = Missing("not measured")
BARE = Sample(at=0.0, gpus=(Gpu(uuid="here"),), jobs={"here": JobUse()})
MORE = Addition(cpu_pct=50.0, memory_bytes=1e9, promised_bytes=0.0, gpu_bytes={"here": 1e9})


def whole(kind):
    """Return a record of that kind with all its fields."""
    record = METRICS["cpu_pct"] if kind is Metric else UNFORESEEN
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field.name) for kind in (Metric, Change) for field in dataclasses.fields(kind)]
)
def test_a_part_that_was_forgotten_is_told_when_the_module_is_imported(kind, field):
    """
    The table is made then. No part has a default that nobody thought about.
    """
    parts = whole(kind)
    assert kind(**parts)
    del parts[field]

    with pytest.raises(TypeError, match=field):
        kind(**parts)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_whatever_is_asked_about_a_metric_has_an_answer(metric):
    """
    Also for a machine that tells nothing: a rule about it can be looked at, and says what is short.
    """
    least, most = bounds(metric)
    condition = Condition(metric=metric.name, above=2.0, clear_below=1.0)
    rule = Rule(name="mine", when=(condition,), pause_after_s=0.0, resume_after_s=0.0)
    place = "" if metric.place == "host" else "here"

    assert least < most
    assert resource(rule) is metric.resource
    assert depth_for(rule, tuple(Depth)) is not None
    shortfall(rule, (look(condition, BARE, place),), BARE)
    assert isinstance(metric.read(BARE, place), Missing | float)
    assert isinstance(metric.change.with_one_more(BARE, place, MORE), Missing)


@pytest.mark.parametrize("short", Resource)
def test_whatever_can_be_short_some_pause_gives_it_back(short):
    """
    Else a rule would wait for ever.
    """
    assert gives_back(short, Depth.EXIT)


def test_a_job_that_comes_back_is_reckoned_with_in_the_unit_of_the_metric():
    """
    Memory that was promised to others is not there for it.
    """
    sample = Sample(
        at=0.0,
        num_cpus=2.0,
        cpu_pct=20.0,
        memory_total_bytes=float(8 << 30),
        memory_available_bytes=float(4 << 30),
        gpus=(Gpu(uuid="here", memory_used_bytes=1e9, memory_total_bytes=4e9),),
    )
    more = Addition(50.0, float(1 << 30), float(1 << 30), {"here": 1e9})
    forecasts = {
        name: metric.change.with_one_more(sample, "here", more)
        for name, metric in METRICS.items()
        if metric.change.with_one_more is not UNFORESEEN.with_one_more
    }

    assert {
        "cpu_pct": 45.0,
        "memory_available_pct": 25.0,
        "memory_available_gib": 2.0,
        "gpu_memory_used_pct": 50.0,
    } == forecasts


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
