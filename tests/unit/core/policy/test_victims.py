"""Who makes room: who may be asked at all, who is asked first, and why."""

from __future__ import annotations

import pytest

from supervisor.core.jobs.job import CheckpointRef
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Condition, Rule
from supervisor.core.policy.victims import Option, chosen, left_alone, options, stays_a_while
from supervisor.core.readings.sample import JobUse
from tests.fakes.moment import NOW, a_job, a_rule, below, moment, on, paused, remembered
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


ROOM = a_rule(below("memory_available_gib", 2.0, 4.0))


def ranking(*jobs, rule=ROOM, rss_gib=None, memory=None, **readings):
    """Who is asked by a rule that is on where 1 GiB is left, in order."""
    sizes = {job.name: 3.0 for job in jobs} | (rss_gib or {})
    uses = {name: JobUse(rss_bytes=gib * GIB) for name, gib in sizes.items()}
    memory = memory or remembered(on("mine"))
    readings = {"memory_available_bytes": 1 * GIB, "jobs": uses} | readings
    scene = moment(*jobs, rules=(rule,), memory=memory, **readings)
    return options(scene.instances["mine"], scene)


def saved(ago_s, **of):
    return CheckpointRef(step=1, epoch=0, path="/c", digest="d", at=NOW - ago_s, **of)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": 0}, {"priority": 1}),
        ({"checkpoint": saved(50.0, took_s=5.0)}, {"checkpoint": saved(50.0, took_s=6.0)}),
        # Both take the least that a pause can take, so what is at stake decides.
        ({"checkpoint": saved(10.0, took_s=0.5)}, {"checkpoint": saved(50.0, took_s=0.1)}),
        ({"checkpoint": saved(10.0)}, {}),
        ({"since": 900.0, "checkpoint": saved(5.0)}, {"since": 800.0, "checkpoint": saved(5.0)}),
        ({}, {}),
    ],
)
def test_among_several_the_one_that_loses_least_is_asked_first(first, second):
    """
    Priority, the time that a save takes, work that is not saved, who came last; at last the name.
    """
    jobs = (a_job("z" if first != second else "b", **first), a_job("a", **second))
    expected = ["z", "a"] if first != second else ["a", "b"]

    assert expected == [option.job.name for option in ranking(*jobs)]
    assert expected == [option.job.name for option in ranking(*reversed(jobs))]


@pytest.mark.parametrize(
    ("rss_gib", "first"),
    [
        ({"a": 3.0, "b": 4.0}, "b"),
        ({"a": 3.0, "b": 2.9}, "a"),
        # What is missing is 3 GiB, and a twentieth of that is the least that helps.
        ({"a": 0.16, "b": 0.14}, "a"),
    ],
)
def test_who_frees_most_is_asked_first_and_next_to_nothing_is_not_asked_for(rss_gib, first):
    """
    Who comes close to a twentieth of what is missing is left to train.
    """
    found = ranking(a_job("a"), a_job("b"), rss_gib=rss_gib)

    assert first == chosen(found).job.name
    assert (rss_gib["b"] >= 0.15) is found[-1].is_eligible


def test_nobody_and_nobody_who_can_is_nobody():
    """
    The rest of the ranking still tells why.
    """
    over = (
        a_job("done", JobState.COMPLETED),
        a_job("waits", JobState.QUEUED),
        a_job("ends", JobState.STOPPING),
    )

    assert [] == ranking() == ranking(*over)
    assert None is chosen([]) is chosen(ranking(a_job("a", protected=True)))
    assert ["it is protected"] == [option.why for option in ranking(a_job("a", protected=True))]


@pytest.mark.parametrize(
    ("job", "known", "why"),
    [
        (a_job(), {}, ""),
        (a_job(since=NOW - 60.0), {}, ""),
        (a_job(since=NOW - 59.0), {}, "it has run for 59 s only, of 60 s"),
        (a_job(depths=()), {}, "no shim is connected: it cannot be paused"),
        (a_job(protected=True, depths=()), {}, "it is protected"),
        (a_job(state=JobState.STARTING), {}, "it is starting"),
        (a_job(state=JobState.PAUSING), {}, "it is pausing already"),
        (a_job(state=JobState.PAUSING, late=True), {}, "it is pausing already, and late"),
        (
            a_job(state=JobState.PAUSING, late=True, frozen_at=1.0),
            {},
            "it is pausing already, and late, and frozen",
        ),
        (paused(), {}, ""),
        (paused(depth=Depth.EXIT), {}, "it is paused and has given everything back"),
        (
            a_job(),
            {"overruled": ("mine",)},
            "a person resumed it while the rule was on; it is left alone until",
        ),
        (
            a_job(problem="the disk is full"),
            {"ask_again_at": NOW + 5.0},
            "it could not be paused (the disk is full)",
        ),
        (a_job(), {"ask_again_at": NOW}, ""),
    ],
)
def test_why_a_job_is_left_alone_is_said(job, known, why):
    """
    Or it is not left alone, and nothing is said.
    """
    memory = remembered(on("mine"), a={"last_state": job.state, **known})
    told = left_alone("mine", job, moment(job, rules=(ROOM,), memory=memory))

    assert told.startswith(why)
    assert bool(why) is bool(told)


def test_who_is_paused_already_and_has_what_is_short_comes_before_who_trains():
    """
    Whatever its priority: that costs no training.
    """
    first, second = ranking(a_job("a"), paused("held", priority=9))

    assert ("deepen", Depth.EXIT, "held") == (first.kind, first.depth, first.job.name)
    assert "paused already (hold)" in first.why
    assert ("pause", "a") == (second.kind, second.job.name)


@pytest.mark.parametrize(
    ("ago_s", "paused_by", "escalate_after_s", "depth"),
    [
        (100.0, ("mine",), 100.0, Depth.OFFLOAD),
        (99.0, ("mine",), 100.0, None),
        (100.0, ("other",), 100.0, None),
        (100.0, ("mine",), None, None),
    ],
)
def test_a_pause_goes_deeper_when_its_own_rule_lasts(ago_s, paused_by, escalate_after_s, depth):
    """
    From the second on that the rule says; one that another rule paused, or that says nothing, stays.
    """
    job = paused(rule="mine", since=NOW - ago_s)
    memory = remembered(on("mine"), a={"paused_by": paused_by, "last_state": JobState.PAUSED})
    rule = a_rule(escalate_after_s=escalate_after_s)
    (option,) = ranking(job, rule=rule, memory=memory, cpu_foreign_pct=90.0)

    assert depth is option.depth


@pytest.mark.parametrize(
    ("ago_s", "again_s", "kind", "stays"),
    [
        (600.0, 300.0, "pause", True),
        (601.0, 300.0, "pause", False),
        (10.0, 0.0, "pause", False),
        (10.0, 300.0, "deepen", False),
        (None, 300.0, "pause", False),
    ],
)
def test_a_job_stays_for_a_while_after_its_return(ago_s, again_s, kind, stays):
    """
    As long as a pause would be a flap, and where the rule asks for a longer shortage then.
    """
    returned_at = None if ago_s is None else NOW - ago_s
    memory = remembered(on("mine"), a={"returned_at": returned_at})
    rule = a_rule(below("memory_available_gib", 2.0, 4.0), pause_again_after_s=again_s)
    scene = moment(a_job(), rules=(rule,), memory=memory, memory_available_bytes=1 * GIB)
    told = stays_a_while(scene.instances["mine"], Option(a_job(), kind, Depth.EXIT, ""), scene)

    assert stays is told.startswith("a came back 600 s ago, so it yields only to a shortage of 300 s")
    assert stays is bool(told)


def test_who_frees_exactly_what_is_missing_frees_enough():
    """
    Rather that one alone than two, one of which saves sooner.
    """
    times = {"slow": 50.0, "quick": 2.0}
    jobs = [a_job(name, checkpoint=saved(9.0, took_s=took_s)) for name, took_s in times.items()]

    assert "slow" == chosen(ranking(*jobs, rss_gib={"slow": 3.0, "quick": 2.9})).job.name
    assert "quick" == chosen(ranking(*jobs, rss_gib={"slow": 2.9, "quick": 2.8})).job.name
