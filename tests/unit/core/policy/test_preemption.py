"""Room for a queued job, made by running ones of lower priority."""

from __future__ import annotations

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.rules import QueueConfig
from tests.fakes.steered_machine import GIB, GPU, MEMORY, Machine, gpu

BYTES = int(GIB)
TWO = {"gpus": (gpu("G1"), gpu("G2"))}


def test_a_job_of_higher_priority_may_pause_a_lower_one():
    """
    Where the owner allows it; the lower one comes back when the other has ended.
    """
    machine = Machine(GPU, queue=QueueConfig(preempt=True))
    machine.submit("low", num_gpus=1).submit("kept", num_gpus=1, protected=True).run(100, **TWO)
    machine.submit("high", num_gpus=1, priority=3).run(40)

    assert ("pause", "low", "queue", Depth.EXIT) == machine.told[0]
    assert ["high", "kept"] == machine.running
    verdict = next(v for _, v in machine.verdicts if v.kind == "pause")
    assert "makes room for high" in verdict.reason
    assert {"low": True, "kept": False} == {one.job: one.is_eligible for one in verdict.candidates}
    machine.run(100)
    assert "needs 1 GPU" in machine.why("low").next
    machine.end("high")
    machine.run(20)
    assert ["kept", "low"] == machine.running


def test_nobody_is_paused_in_vain_for_the_queue():
    """
    Not where that is not enough, not of the same priority, and not where a job cannot give it back.
    """
    machine = Machine(GPU, MEMORY, queue=QueueConfig(preempt=True))
    machine.submit("low", num_gpus=1).submit("same", num_gpus=1, priority=3).run(100, **TWO)
    machine.submit("high", num_gpus=2, priority=3).run(40)
    assert [] == machine.told
    holds = Machine(MEMORY, queue=QueueConfig(preempt=True))
    holds.submit("low", depths=(Depth.HOLD,)).run(100, memory_available_bytes=4.0 * GIB)
    holds.submit("high", priority=1, memory_bytes=6 * BYTES).run(40)

    assert [] == holds.told


def test_one_is_enough_where_one_is_enough():
    """
    Of several of lower priority only those are paused without whom it would not fit; to run in its place
    a hold is enough.
    """
    machine = Machine(MEMORY, queue=QueueConfig(preempt=True, max_running=2))
    machine.submit("a", rss_gib=1.0).submit("b", rss_gib=8.0).run(100, memory_available_bytes=6.0 * GIB)
    machine.submit("high", priority=1).run(40)
    assert 1 == len(machine.told)
    assert Depth.HOLD is machine.told[0][3]
    more = Machine(MEMORY, queue=QueueConfig(preempt=True))
    more.submit("a", rss_gib=1.0).submit("b", rss_gib=8.0, priority=1).run(
        100, memory_available_bytes=6.0 * GIB
    )
    more.submit("high", priority=2, memory_bytes=8 * BYTES).run(20)

    assert ["b"] == [job for _, job, *_ in more.told]
