"""Room for a queued job, made by running ones of lower priority."""

from __future__ import annotations

import pytest

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.admission import Standing
from supervisor.core.policy.preemption import make_room
from supervisor.core.policy.rules import QueueConfig
from supervisor.core.readings.sample import JobUse
from tests.fakes.moment import NOW, a_job, moment, remembered
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


def asked(*others, lacks=("memory",), state=JobState.QUEUED, memory=None, **of):
    """Whom a job of priority 5 that needs 8 GiB asks for room, where 1 GiB is left."""
    job = a_job("new", state, **{"priority": 5, "memory_bytes": 8 * BYTES} | of)
    uses = {other.name: JobUse(rss_bytes=4 * GIB) for other in others}
    scene = moment(job, *others, jobs=uses, memory_available_bytes=1 * GIB, memory=memory)
    return make_room(Standing(job, "needs more", (), frozenset(lacks)), scene)


BOTH = (a_job("a"), a_job("b"))


@pytest.mark.parametrize(
    "given",
    [
        {"lacks": ()},
        {"state": JobState.PAUSED},
        {"priority": 0},
        {"memory_bytes": 10 * BYTES},
        {"memory": remembered(a={"ask_again_at": NOW + 1.0})},
    ],
    ids=["lacks nothing", "not queued", "same priority", "too big", "could not be paused"],
)
def test_nobody_is_asked_where_it_does_not_help_or_is_not_due(given):
    """
    8 GiB are had from two jobs that hold 4 each, and from no fewer.
    """
    assert asked(*BOTH) is not None
    assert asked(*BOTH, **given) is None


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ({"priority": 2}, {"priority": 1}, "second"),
        # Who came last has lost least.
        ({"since": 500.0}, {"since": 600.0}, "second"),
        ({"since": 600.0}, {"since": 500.0}, "first"),
        ({}, {}, "first"),
    ],
)
def test_the_lowest_priority_is_asked_first_and_then_who_came_last(first, second, chosen):
    """
    Among equals the name decides, so that the answer is the same each time.
    """
    others = (a_job("second", **second), a_job("first", **first))

    assert chosen == asked(*others, memory_bytes=5 * BYTES).job
    assert chosen == asked(*others).job


@pytest.mark.parametrize(
    ("lacks", "depths", "depth"),
    [
        ({"memory"}, (Depth.HOLD, Depth.EXIT), Depth.EXIT),
        ({"running"}, (Depth.HOLD, Depth.EXIT), Depth.HOLD),
        ({"running"}, (Depth.EXIT,), Depth.EXIT),
        ({"memory"}, (Depth.HOLD, Depth.OFFLOAD), None),
        ({"running"}, (), None),
    ],
)
def test_memory_is_free_when_the_process_is_gone_and_a_place_as_soon_as_it_holds(lacks, depths, depth):
    """
    One that cannot give back what is short is not asked.
    """
    verdict = asked(a_job("a", depths=depths), lacks=lacks, memory_bytes=2 * BYTES)

    assert depth is (verdict.depth if verdict is not None else None)


def test_the_verdict_tells_of_all_that_were_looked_at():
    """
    Also why some of them are left alone; those of the same priority are not looked at.
    """
    others = (
        a_job("kept", protected=True), a_job("same", priority=5), a_job("starts", JobState.STARTING), *BOTH
    )  # fmt: skip
    told = asked(*others).candidates

    assert [("kept", False), ("starts", False), ("a", True), ("b", True)] == [
        (one.job, one.is_eligible) for one in told
    ]
    assert ["it is protected", "it is starting", "priority 0", "priority 0"] == [one.why for one in told]
    assert ["a"] == [one.job for one in told if one.is_chosen]
