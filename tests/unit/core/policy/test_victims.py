"""Who makes room: who may be asked at all, who is asked first, and why."""

from __future__ import annotations

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.rules import Condition, Rule
from tests.fakes.steered_machine import CPU, GIB, GPU, Machine, gpu

BUSY = {"cpu_foreign_pct": 80.0}
CALM = {"cpu_foreign_pct": 5.0}
SHORT = {"memory_available_bytes": 1.0 * GIB}


def test_the_lowest_priority_goes_first_and_comes_back_last():
    """
    Whatever the order in which they came.
    """
    machine = Machine().submit("low", priority=-1).submit("high", priority=1).submit("mid")
    machine.run(100).run(90, **BUSY).run(400, **CALM)

    assert ["low", "mid", "high"] == [job for kind, job, *_ in machine.told if kind == "pause"]
    assert ["high", "mid", "low"] == [job for kind, job, *_ in machine.told if kind == "resume"]


def test_protected_young_and_shimless_jobs_are_left_alone():
    """
    With the reason in words, in the ranking.
    """
    machine = Machine().submit("kept", protected=True).submit("bare", depths=()).run(100)
    machine.run(32, **BUSY).submit("new").run(5)
    told = {one.job: one.why for one in machine.why("kept").candidates}

    assert [] == machine.told
    assert told["kept"] == "it is protected"
    assert told["bare"] == "no shim is connected: it cannot be paused"
    machine.run(30, **CALM).submit("young").run(300).submit("late").run(1).run(36, **BUSY)
    assert "of 60 s" in {one.job: one.why for one in machine.why("kept").candidates}["late"]


def test_memory_is_freed_by_the_job_that_frees_enough():
    """
    Among equals one that frees what is short alone, rather than several; one that frees next to
    nothing of it is not paused in vain.
    """
    machine = Machine().submit("tiny", rss_gib=0.05).submit("small", rss_gib=1.0).submit("big", rss_gib=6.0)
    machine.run(100).run(7, **SHORT)

    assert [("pause", "big", "memory", Depth.EXIT)] == machine.told
    _, verdict = machine.verdicts[-1]
    assert "frees 6.0 GiB of memory" in verdict.candidates[0].why
    assert "too little to help" in verdict.candidates[-1].why


def test_among_equals_the_cheapest_save_goes_first():
    """
    By the time that its last checkpoint took, or by its size where that is not known.
    """
    machine = Machine(CPU).submit("slow").submit("quick").submit("sized").run(100)
    machine.saved("slow", took_s=40.0)
    machine.saved("quick", took_s=2.0)
    machine.saved("sized", size_bytes=int(10e9))
    machine.run(90, **BUSY)

    assert ["quick", "sized", "slow"] == [job for _, job, *_ in machine.told]
    assert "last checkpoint" in machine.verdicts[-1][1].candidates[0].why


def test_only_the_job_on_that_gpu_yields():
    """
    The one on the other GPU gives back nothing that is short.
    """
    machine = Machine(GPU)
    machine.submit("one", depths=tuple(Depth), gpus=("G1",)).submit("two", depths=tuple(Depth), gpus=("G2",))
    machine.run(100, gpus=(gpu("G1"), gpu("G2"))).run(30, gpus=(gpu("G1", foreign_gib=3.0), gpu("G2")))

    assert [("pause", "one", "gpu", Depth.OFFLOAD)] == machine.told


def test_a_job_goes_deeper_in_place_while_the_shortage_lasts():
    """
    Where the rule says after which time.
    """
    machine = Machine(GPU).submit("one", depths=tuple(Depth), gpus=("G1",)).run(100, gpus=(gpu("G1"),))
    machine.run(120, gpus=(gpu("G1", foreign_gib=3.0),))

    assert [("pause", "one", "gpu", Depth.OFFLOAD), ("deepen", "one", "gpu", Depth.EXIT)] == machine.told


def test_a_depth_that_the_owner_wrote_down_is_not_exceeded():
    """
    Holding gives back no memory, but the rule asks for nothing more: the job is not ended (seen 2026-11-22).
    """
    rule = Rule(
        name="memory",
        when=(Condition(metric="memory_available_pct", below=8.0, clear_above=16.0),),
        pause_after_s=5.0,
        resume_after_s=30.0,
        depth="hold",
    )
    machine = Machine(rule).submit("a").run(100).run(120, **SHORT)

    assert [("pause", "a", "memory", Depth.HOLD)] == machine.told


def test_a_held_job_that_can_go_no_deeper_stays():
    """
    And the ranking says so.
    """
    machine = Machine().submit("a", depths=(Depth.HOLD,)).submit("other", protected=True)
    machine.run(100).run(40, **BUSY).run(9, **SHORT)
    told = {one.job: one.why for one in machine.why("other").candidates}

    assert "it can do nothing that frees memory" in told["a"]
    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_a_starting_job_is_on_its_way_and_not_asked():
    """
    Its shim is still to come.
    """
    machine = Machine(CPU).submit("other", protected=True).run(1).submit("a")
    machine.attach = lambda _: None
    machine.run(40, cpu_foreign_pct=90.0)

    told = {one.job: one.why for one in machine.why("other").candidates}

    assert {"a": "it is starting", "other": "it is protected"} == told


def test_a_held_job_answers_for_what_it_has_when_total_cpu_is_short():
    """
    A rule about all CPU use says how much is missing.
    """
    total = Rule(
        name="total",
        when=(Condition(metric="cpu_pct", above=80.0, clear_below=60.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(total).submit("idle", cpu_pct=0.1).submit("busy", cpu_pct=200.0)
    machine.run(70, cpu_pct=90.0)
    told = {one.job: one.why for one in machine.verdicts[-1][1].candidates}

    assert [("pause", "busy", "total", Depth.HOLD)] == machine.told
    assert "too little to help" in told["idle"]
