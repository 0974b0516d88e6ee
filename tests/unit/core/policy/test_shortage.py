"""What is short, which depth gives it back, and how much of it a job frees."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.conditions import look_at_all
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import Condition, Rule
from supervisor.core.policy.shortage import (
    depth_for,
    freed,
    gives_back,
    resource,
    shortfall,
)
from supervisor.core.readings.metric import Resource
from supervisor.core.readings.sample import DiskReading, JobUse, Sample
from tests.fakes.moment import a_rule, above, below
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, Machine, gpu

BUSY = {"cpu_foreign_pct": 80.0}
SHORT = {"memory_available_bytes": 1.0 * GIB}


def test_a_depth_that_a_shim_cannot_do_is_replaced_by_the_next_that_helps():
    """
    Deeper if it has to be; not shallower where that would free nothing.
    """
    machine = Machine(GPU).submit("one", gpus=("G1",)).run(100, gpus=(gpu("G1"),))
    machine.run(12, gpus=(gpu("G1", foreign_gib=3.0),))
    holds = Machine(MEMORY).submit("a", depths=(Depth.HOLD,)).run(100).run(9, **SHORT)
    wanted = Machine(replace(CPU, depth="exit")).submit("a", depths=(Depth.HOLD,)).run(100).run(40, **BUSY)

    assert [("pause", "one", "gpu", Depth.EXIT)] == machine.told
    assert [] == holds.told
    assert "can do hold: that frees no memory" in holds.why("a").next
    assert [("pause", "a", "cpu", Depth.HOLD)] == wanted.told


def test_a_disk_that_is_nearly_full_lets_its_job_hold():
    """
    A job that holds writes no more.
    """
    rule = Rule(
        name="disk",
        when=(Condition(metric="disk_free_gib", below=5.0, clear_above=8.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(rule).submit("a").submit("b")
    machine.uses["a"] = replace(
        machine.uses["a"], disk=DiskReading(free_bytes=2 * GIB, total_bytes=100 * GIB)
    )
    machine.uses["b"] = replace(
        machine.uses["b"], disk=DiskReading(free_bytes=50 * GIB, total_bytes=100 * GIB)
    )
    machine.run(100)

    assert [("pause", "a", "disk", Depth.HOLD)] == machine.told
    assert "writes no more" in machine.verdicts[-1][1].candidates[0].why


HOLD, OFFLOAD, EXIT = Depth
LOAD = above("cpu_pct", 50.0, 20.0)
ROOM = below("memory_available_gib", 2.0, 4.0)
GUEST = above("gpu_foreign_memory_gib", 1.0, 0.5)


@pytest.mark.parametrize(
    ("when", "short"),
    [
        ((LOAD,), Resource.COMPUTE),
        ((Condition(clock="mon"), Condition(program="steam")), Resource.COMPUTE),
        ((below("disk_free_gib", 5.0, 8.0),), Resource.DISK),
        ((GUEST, LOAD), Resource.GPU_MEMORY),
        ((LOAD, ROOM, Condition(clock="mon")), Resource.MEMORY),
    ],
)
def test_of_several_conditions_the_one_that_needs_the_deepest_pause_says_what_is_short(when, short):
    """
    A window or a program wants the machine to be free for computing.
    """
    assert short is resource(a_rule(*when))


@pytest.mark.parametrize(
    ("when", "wanted", "able", "depth"),
    [
        (LOAD, "auto", (HOLD, OFFLOAD, EXIT), HOLD),
        (LOAD, "auto", (EXIT,), EXIT),
        (LOAD, "exit", (HOLD, OFFLOAD), OFFLOAD),
        (LOAD, "offload", (HOLD, EXIT), EXIT),
        (GUEST, "auto", (HOLD, OFFLOAD, EXIT), OFFLOAD),
        (GUEST, "auto", (HOLD, EXIT), EXIT),
        (GUEST, "auto", (HOLD,), None),
        # The owner asks for more than the memory of the GPU; what gives that back still helps.
        (GUEST, "exit", (HOLD, OFFLOAD), OFFLOAD),
        (GUEST, "hold", (HOLD, EXIT), HOLD),
        (ROOM, "auto", (HOLD, OFFLOAD), None),
        (ROOM, "auto", (HOLD, OFFLOAD, EXIT), EXIT),
        (ROOM, "hold", (OFFLOAD, EXIT), OFFLOAD),
        (LOAD, "auto", (), None),
    ],
)
def test_the_cheapest_depth_that_does_it_or_the_nearest_that_helps(when, wanted, able, depth):
    """
    None where nothing that the job can do gives back what is short.
    """
    assert depth == depth_for(a_rule(when, depth=wanted), able)


@pytest.mark.parametrize(
    ("short", "depths"),
    [
        (Resource.COMPUTE, [HOLD, OFFLOAD, EXIT]),
        (Resource.DISK, [HOLD, OFFLOAD, EXIT]),
        (Resource.GPU_MEMORY, [OFFLOAD, EXIT]),
        (Resource.MEMORY, [EXIT]),
    ],
)
def test_a_deeper_pause_gives_back_what_a_shallower_one_does(short, depths):
    """
    And more.
    """
    assert depths == [depth for depth in Depth if gives_back(short, depth)]


@pytest.mark.parametrize(
    ("when", "place", "use", "amount", "text"),
    [
        (ROOM, "", JobUse(rss_bytes=3 * GIB), 3 * GIB, "frees 3.0 GiB of memory"),
        # What it used before stands for a reading that is missing, and for a job that was not measured.
        (ROOM, "", JobUse(), 2 * GIB, "frees 2.0 GiB of memory"),
        (ROOM, "", None, 2 * GIB, "frees 2.0 GiB of memory"),
        (ROOM, "", JobUse(rss_bytes=0.0), None, "nobody can tell how much it frees"),
        (GUEST, "G", JobUse(gpu_bytes={"G": 5 << 30}), 5 * GIB, "frees 5.0 GiB of GPU memory"),
        (GUEST, "G", JobUse(gpu_bytes={"G": None}), 1 * GIB, "frees 1.0 GiB of GPU memory"),
        (GUEST, "H", JobUse(gpu_bytes={"G": 5 << 30}), None, "nobody can tell how much it frees"),
        (LOAD, "", JobUse(cpu_pct=200.0), 50.0, "frees 50 % of the CPUs"),
        (LOAD, "", JobUse(), 25.0, "frees 25 % of the CPUs"),
        (Condition(clock="mon"), "", JobUse(cpu_pct=200.0), None, "stops computing"),
        (above("on_battery", 0.9, 0.1), "", JobUse(cpu_pct=200.0), None, "stops computing"),
        (above("gpu_power_w", 9.0, 5.0), "G", JobUse(cpu_pct=200.0), None, "stops computing"),
        (below("disk_free_gib", 5.0, 8.0), "a", JobUse(rss_bytes=3 * GIB), None, "writes no more"),
    ],
)
def test_what_a_job_gives_back_is_said_with_its_amount(when, place, use, amount, text):
    """
    Where nobody can tell how much, that is said, and not that it is nothing.
    """
    known = Footprint(cpu_pct=100.0, rss_bytes=2 * GIB, gpu_bytes={"G": GIB})

    assert (amount, text) == freed(a_rule(when), place, use, known, Sample(at=0.0, num_cpus=4.0))


@pytest.mark.parametrize(
    ("when", "missing"),
    [
        ((ROOM,), 3 * GIB),
        ((below("memory_available_pct", 10.0, 20.0),), 1.0 * GIB),
        ((ROOM, below("memory_available_pct", 10.0, 20.0)), 3 * GIB),
        ((LOAD,), 40.0),
        ((above("load_per_cpu", 2.0, 1.0),), None),
        ((Condition(clock="mon"),), None),
        ((below("memory_available_pct", 10.0, 20.0), Condition(program="steam")), 1.0 * GIB),
    ],
)
def test_what_is_missing_until_all_is_clear_is_counted_to_the_clear_threshold(when, missing):
    """
    The largest of several; None where it has no amount.
    """
    sample = Sample(
        at=0.0, cpu_pct=60.0, load_1min=9.0, memory_total_bytes=10 * GIB, memory_available_bytes=1 * GIB
    )
    rule = a_rule(*when)

    assert missing == shortfall(rule, look_at_all(rule.when, sample, ""), sample)


def test_what_cannot_be_read_is_not_missing_in_any_amount():
    """
    Neither the reading itself nor the whole that a share is of.
    """
    rule = a_rule(below("memory_available_pct", 10.0, 20.0))
    for sample in (Sample(at=0.0), Sample(at=0.0, memory_available_bytes=1.0)):
        assert shortfall(rule, look_at_all(rule.when, sample, ""), sample) is None
