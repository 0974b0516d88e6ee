"""What is learned of jobs by watching them: who overruled a rule, who flaps, what they use."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.memory import Footprint, JobMemory
from supervisor.core.policy.observations import Moment, noted, watched
from supervisor.core.policy.rules import PolicyConfig, Selector
from supervisor.core.readings.sample import JobUse, Missing
from tests.fakes.moment import NOW, a_job, a_rule, moment, on, paused, remembered
from tests.fakes.steered_machine import CPU, GIB, Machine

ADA = Asker("person", "ada")
BUSY = {"cpu_foreign_pct": 80.0}
CALM = {"cpu_foreign_pct": 5.0}
SHORT = {"memory_available_bytes": 1.0 * GIB}


def test_who_resumes_a_job_overrules_the_rule_until_it_has_been_off():
    """
    The rule that is on has had its say; the next time it counts again.
    """
    machine = Machine().submit("a").run(100).run(40, **BUSY)
    machine.resume("a", ADA)
    machine.run(300)
    assert 1 == len(machine.told)
    assert "a person resumed it" in machine.why("a").next
    machine.run(200, **CALM).run(40, **BUSY)

    assert [("pause", "a", "cpu", Depth.HOLD)] * 2 == machine.told


def test_a_pause_that_ends_by_itself_overrules_nothing():
    """
    Nobody spoke against the rule: it may pause the job again.
    """
    machine = Machine().submit("a").run(100)
    machine.pause("a", ADA, for_s=50.0)
    machine.run(60, **BUSY)
    machine.now += 1.0
    machine.resume("a", ADA)
    machine.run(70)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_a_job_that_went_on_while_nobody_watched_overruled_nothing():
    """
    Its shim did so alone, because the daemon was away.
    """
    machine = Machine().submit("a").run(100).run(40, **BUSY)
    machine.now += 400.0
    machine.resume("a", ADA)
    machine.run(100, **BUSY)

    assert [("pause", "a", "cpu", Depth.HOLD)] * 2 == machine.told


def test_a_job_that_cannot_save_is_asked_again_later_and_later():
    """
    A full disk is no reason to ask it every few seconds.
    """
    machine = Machine().submit("a")
    machine.failing = {"a"}
    machine.run(100).run(400, **BUSY)
    moments = [at for at, verdict in machine.verdicts if verdict.kind == "pause"]
    gaps = [int(later - former) for former, later in itertools.pairwise(moments)]

    assert len(gaps) >= 2
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 60
    assert "it could not be paused (cannot pause: the disk is full)" in machine.why("a").next


def test_a_held_job_that_cannot_go_deeper_is_asked_again_later():
    """
    It goes on holding, and others are asked.
    """
    machine = Machine().submit("a").run(100).run(40, **BUSY)
    machine.failing = {"a"}
    machine.run(60, **SHORT)

    assert 2 <= sum(kind == "deepen" for kind, *_ in machine.told) <= 3
    assert JobState.PAUSED is machine.state("a")


def test_a_verdict_that_was_not_carried_out_is_no_persons_doing():
    """
    The engine refused it, because the job had changed in between.
    """
    machine = Machine().submit("a").run(100)
    machine.carry_out = lambda _: None
    machine.run(60, **BUSY)

    assert () == machine.memory.jobs["a"].overruled
    assert 1 == machine.memory.jobs["a"].num_refusals


def test_a_person_may_start_a_queued_job_whatever_keeps_it():
    """
    A rule that is on then leaves it alone until it has been off once, as with any job that a person resumed.
    """
    machine = Machine(CPU).run(40, cpu_foreign_pct=90.0).submit("night").run(5)
    assert JobState.QUEUED is machine.state("night")
    machine.resume("night", Asker("person", "ada"))
    machine.run(200)

    assert JobState.RUNNING is machine.state("night")
    assert [] == machine.told
    machine.run(300, cpu_foreign_pct=5.0).run(40, cpu_foreign_pct=90.0)
    assert [("pause", "night", "cpu", Depth.HOLD)] == machine.told


def test_what_the_queue_starts_has_overruled_nothing():
    """
    Only a person's word does; a job that began while no rule was on yields like any other.
    """
    machine = Machine(CPU).run(25, cpu_foreign_pct=90.0).submit("night").run(100)

    assert [("pause", "night", "cpu", Depth.HOLD)] == machine.told

    about_others = Machine(replace(CPU, jobs=Selector(names=("x*",)))).run(40, cpu_foreign_pct=90.0)
    about_others.submit("night").run(5)
    assert ["night"] == about_others.running
    assert () == about_others.memory.jobs["night"].overruled


RUNS = JobMemory(last_state=JobState.RUNNING)


def looked(known, job, use=None, gap_s=1.0, rules_on=()):
    """What is remembered of a job after one more look at it."""
    rules = tuple(a_rule(name=name) for name in ("one", "two"))
    instances = moment(rules=rules, memory=remembered(on(*rules_on))).instances
    return watched(known, job, use, instances, Moment(PolicyConfig(), NOW, gap_s))


def test_a_person_overrules_a_rule_also_when_an_earlier_one_has_just_ended():
    """
    2026-11-29: where both came with one look, the new one was forgotten, and the job was paused at once.
    """
    known = JobMemory(last_state=JobState.PAUSED, paused_by=("two",), overruled=("one",))

    assert ("two",) == looked(known, a_job(), rules_on=("two",)).overruled
    assert ("one", "two") == looked(known, a_job(), rules_on=("one", "two")).overruled


def test_what_does_not_change_is_remembered_as_it_is():
    """
    The same object, so nothing is stored.
    """
    full = JobMemory(last_state=JobState.RUNNING, footprint=Footprint(100.0, 5.0, {"G": 7.0}, 1000.0))
    use = JobUse(cpu_pct=50.0, rss_bytes=Missing("x"), gpu_bytes={"G": 7})

    assert RUNS is looked(RUNS, a_job())
    assert full is looked(full, a_job(), use)


@pytest.mark.parametrize(
    ("use", "since", "footprint"),
    [
        # Two per cent more are no new peak.
        (JobUse(cpu_pct=102.0, rss_bytes=51.0), 1000.0, Footprint(100.0, 50.0, {"G": 7.0}, 1000.0)),
        (JobUse(cpu_pct=103.0, rss_bytes=20.0), 1000.0, Footprint(103.0, 50.0, {"G": 7.0}, 1000.0)),
        (JobUse(gpu_bytes={"G": 9, "H": None}), 1000.0, Footprint(100.0, 50.0, {"G": 9.0, "H": 0.0}, 1000.0)),
        # It came back: what it used before counts until it has had the time to fill up.
        (JobUse(cpu_pct=10.0), NOW - 299.0, Footprint(100.0, 50.0, {"G": 7.0}, 1000.0)),
        (JobUse(cpu_pct=10.0, rss_bytes=5.0), NOW - 300.0, Footprint(10.0, 5.0, {}, NOW - 300.0)),
    ],
)
def test_the_most_that_a_job_used_since_it_came_back_is_kept(use, since, footprint):
    """
    A missing reading is not less.
    """
    known = JobMemory(last_state=JobState.RUNNING, footprint=Footprint(100.0, 50.0, {"G": 7.0}, 1000.0))

    assert footprint == looked(known, a_job(since=since), use).footprint


def test_a_job_that_does_not_run_uses_nothing_that_counts():
    """
    While it waits its use says nothing of what it will take.
    """
    known = JobMemory(last_state=JobState.PAUSED)

    assert known is looked(known, paused(), JobUse(cpu_pct=900.0, rss_bytes=900.0))


@pytest.mark.parametrize(
    ("before", "job", "gap_s", "overruled"),
    [
        ({"last_state": JobState.PAUSED}, a_job(), 1.0, ("two",)),
        ({"last_state": JobState.QUEUED}, a_job(state=JobState.STARTING), 60.0, ("two",)),
        # After more than a minute nobody can say who let it go on.
        ({"last_state": JobState.QUEUED}, a_job(state=JobState.STARTING), 61.0, ()),
        ({"last_state": JobState.PAUSED}, a_job(), 61.0, ()),
        # Its own time was over.
        ({"last_state": JobState.PAUSED, "wakes_at": 900.0}, a_job(since=1000.0), 1.0, ()),
        ({"last_state": JobState.PAUSED, "wakes_at": 1100.0}, a_job(since=1000.0), 1.0, ("two",)),
        ({"last_state": JobState.STARTING}, a_job(), 1.0, ()),
    ],
)
def test_who_lets_a_job_go_on_overrules_the_rules_that_are_on(before, job, gap_s, overruled):
    """
    If a person did; those that are off are not meant.
    """
    assert overruled == looked(JobMemory(**before), job, gap_s=gap_s, rules_on=("two",)).overruled


@pytest.mark.parametrize(
    ("rules_on", "left"), [(("one", "two"), ("one", "two")), (("two",), ("two",)), ((), ())]
)
def test_a_rule_that_was_off_counts_again(rules_on, left):
    """
    And one that is no more is forgotten.
    """
    known = JobMemory(last_state=JobState.RUNNING, overruled=("one", "two", "gone"))

    assert rules_on == looked(known, a_job(), rules_on=rules_on).overruled


@pytest.mark.parametrize(
    ("flapped_at", "returned_at", "num_flaps"),
    [(NOW - 600.0, None, 2), (NOW - 601.0, None, 1), (NOW - 601.0, NOW - 600.0, 2), (0.0, NOW - 601.0, 1)],
)
def test_one_flap_is_forgiven_after_each_calm_window(flapped_at, returned_at, num_flaps):
    """
    One, not all of them.
    """
    known = JobMemory(
        last_state=JobState.RUNNING, num_flaps=2, flapped_at=flapped_at, returned_at=returned_at
    )

    assert num_flaps == looked(known, a_job()).num_flaps


@pytest.mark.parametrize(("num", "wait_s"), [(0, 30.0), (1, 60.0), (6, 1920.0), (7, 3600.0), (5000, 3600.0)])
def test_a_pause_that_failed_is_asked_for_again_later_each_time(num, wait_s):
    """
    Twice as late, at most an hour; one that worked begins that anew.
    """
    known = JobMemory(last_state=JobState.PAUSING, num_refusals=num)
    after = looked(known, a_job(is_pause_refused=True))

    assert (num + 1, NOW + wait_s) == (after.num_refusals, after.ask_again_at)
    assert 0 == looked(known, paused()).num_refusals


def told(kind, known, **policy):
    memory = noted(
        remembered(a=known),
        Verdict(kind=kind, job="a", rule="one", reason="r"),
        "one@G",
        PolicyConfig(**policy),
        NOW,
    )
    assert "r" == memory.last["a"].reason
    return memory.jobs["a"]


@pytest.mark.parametrize(
    ("known", "num_flaps"),
    [
        ({}, 0),
        ({"returned_at": NOW - 600.0}, 1),
        ({"returned_at": NOW - 601.0}, 0),
        ({"returned_at": NOW - 1.0, "num_flaps": 1}, 2),
        # The wait grows no more: four times is the most.
        ({"returned_at": NOW - 1.0, "num_flaps": 2}, 2),
    ],
)
def test_a_pause_soon_after_a_return_is_a_flap(known, num_flaps):
    """
    Counted as long as it makes the wait longer.
    """
    after = told("pause", known, max_backoff=4)

    assert (num_flaps, JobState.PAUSING, ("one@G",)) == (after.num_flaps, after.last_state, after.paused_by)
    assert (NOW, NOW, None) == (after.asked_at, after.paused_at, after.returned_at)


def test_going_deeper_begins_no_pause_and_a_return_ends_it():
    """
    Each rule that wanted it is remembered once.
    """
    known = {"paused_by": ("two",), "paused_at": 5.0}
    deeper = told("deepen", known)

    assert (("two", "one@G"), 5.0, NOW) == (deeper.paused_by, deeper.paused_at, deeper.asked_at)
    assert ("one@G",) == told("deepen", {"paused_by": ("one@G",)}).paused_by
    back = told("resume", known)
    assert ((), NOW, JobState.RESUMING) == (back.paused_by, back.returned_at, back.last_state)
    assert JobState.STARTING is told("start", {}).last_state
