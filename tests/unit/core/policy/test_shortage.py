"""What is short, which depth gives it back, and how much of it a job frees."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.rules import Condition, Rule
from supervisor.core.policy.shortage import RESOURCES
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import DiskReading
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, Machine, gpu

BUSY = {"cpu_foreign_pct": 80.0}
SHORT = {"memory_available_bytes": 1.0 * GIB}


def test_every_metric_says_what_is_short():
    """
    Else `auto` would not know how deep a job has to go.
    """
    assert set(METRICS) == set(RESOURCES)


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
