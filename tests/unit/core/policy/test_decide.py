"""Who yields and when, told as short stories: what is measured, and what follows."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import QUEUE
from supervisor.core.policy.decide import decide, evidence, look_around, waits_for
from supervisor.core.policy.hysteresis import Trigger
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.rules import Condition, PolicyConfig, Rule, Settings
from supervisor.core.readings.sample import Missing, Sample
from tests.fakes.moment import NOW, a_job, a_rule, above, moment, on, paused, remembered
from tests.fakes.steered_machine import CPU, GIB, Machine

ADA = Asker("person", "ada")
BUSY = {"cpu_foreign_pct": 80.0}
CALM = {"cpu_foreign_pct": 5.0}
SHORT = {"memory_available_bytes": 1.0 * GIB}


def test_a_job_holds_while_others_use_the_cpu_and_comes_back_by_itself():
    """
    Half a minute of foreign load, then three minutes of calm.
    """
    machine = Machine().submit("a").run(100).run(31, **BUSY)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told
    machine.run(179, **CALM)
    assert JobState.PAUSED is machine.state("a")
    machine.run(3)

    assert ("resume", "a", "cpu", None) == machine.told[-1]
    assert JobState.RUNNING is machine.state("a")


def test_one_job_at_a_time_and_time_to_see_what_that_changed():
    """
    The second one is asked a settle time after the first has yielded.
    """
    machine = Machine().submit("a").submit("b").run(100).run(60, **BUSY)
    moments = [at for at, verdict in machine.verdicts if verdict.kind == "pause"]

    assert [15.0] == [moments[1] - moments[0]]


def test_a_job_that_is_slow_to_yield_is_waited_for_until_it_is_late():
    """
    Its room is on its way; a second victim would give more than is short. Late, it is no hope any more.
    """
    machine = Machine().submit("a").submit("b")
    machine.slow = {"a", "b"}
    machine.run(100).run(200, **BUSY)
    assert 1 == len(machine.told)
    slow = machine.told[0][1]
    late = replace(machine.jobs[slow].pause, late=True)
    machine.jobs[slow] = replace(machine.jobs[slow], pause=late)
    machine.run(2)

    assert 2 == len(machine.told)


def test_a_held_job_gives_memory_before_a_running_one_does():
    """
    That costs no training. It comes back when both rules are over.
    """
    machine = Machine().submit("held", priority=5).run(100).run(40, **BUSY).submit("runs", priority=-5)
    machine.run(1).run(8, **SHORT)

    assert ("deepen", "held", "memory", Depth.EXIT) == machine.told[-1]
    machine.run(90, memory_available_bytes=20.0 * GIB)
    assert JobState.PAUSED is machine.state("held")
    machine.run(200, **CALM)
    assert JobState.RUNNING is machine.state("held")


def test_an_emergency_waits_for_nothing():
    """
    Neither for the holding time nor for the settle time of another verdict; but one is all in a settle time.
    """
    machine = Machine().submit("a").submit("b").submit("c").run(100).run(31, **BUSY)
    assert 1 == len(machine.told)
    machine.run(1, is_urgent=True, **SHORT)
    assert ("deepen", "memory", Depth.EXIT) == (machine.told[-1][0], *machine.told[-1][2:])
    num = len(machine.told)
    machine.run(10)

    assert num == len(machine.told)
    machine.run(10)
    assert num + 1 == len(machine.told)


def test_what_a_person_paused_stays_paused():
    """
    However calm it is.
    """
    machine = Machine().submit("a").run(100)
    machine.pause("a", ADA)
    machine.run(40, **BUSY).run(600, **CALM)

    assert [] == machine.told
    assert "a person resumes it" in machine.why("a").next


def test_a_window_of_time_pauses_and_lets_go():
    """
    Weekdays from nine to six.
    """
    office = Rule(
        name="office", when=(Condition(clock="mon-fri 09:00-18:00"),), pause_after_s=0.0, resume_after_s=0.0
    )
    machine = Machine(office).submit("a").run(100, weekday=0, second_of_day=8 * 3600)
    machine.run(2, second_of_day=9 * 3600)
    assert [("pause", "a", "office", Depth.HOLD)] == machine.told
    assert "it is no longer mon-fri 09:00-18:00" == machine.why("a").next
    machine.run(20, second_of_day=18 * 3600)

    assert JobState.RUNNING is machine.state("a")


def test_a_program_pauses_and_lets_go():
    """
    While it runs; whether it runs may be unknown for a while.
    """
    game = Rule(name="game", when=(Condition(program="steam"),), pause_after_s=2.0, resume_after_s=5.0)
    machine = Machine(game).submit("a").run(100).run(4, programs=("steam",))
    assert [("pause", "a", "game", Depth.HOLD)] == machine.told
    machine.run(50, programs=Missing("cannot look"))
    assert JobState.PAUSED is machine.state("a")
    machine.run(30, programs=())

    assert JobState.RUNNING is machine.state("a")


def test_jobs_come_back_where_rules_are_switched_off():
    """
    Also those whose rule is no more.
    """
    machine = Machine().submit("a").run(100).run(40, **BUSY)
    machine.settings = replace(machine.settings, policy=PolicyConfig(enabled=False))
    machine.run(30)

    assert JobState.RUNNING is machine.state("a")


def test_a_clock_that_goes_back_has_not_moved():
    """
    Nothing is decided twice, and nothing breaks.
    """
    machine = Machine().submit("a").run(100).run(29, **BUSY)
    machine.now -= 50.0
    machine.run(40)
    assert [] == machine.told
    machine.run(15)

    assert 1 == len(machine.told)


def test_between_the_thresholds_nobody_yields_whose_rule_is_on():
    """
    One job has made room; the load falls below the one threshold only: the next job stays.
    """
    machine = Machine(CPU).submit("a").submit("b").run(100).run(31, **BUSY)
    assert 1 == len(machine.told)
    machine.run(600, cpu_foreign_pct=35.0)

    assert 1 == len(machine.told)
    assert machine.rule("cpu").is_on
    machine.run(1, **BUSY)
    assert 2 == len(machine.told)


def test_the_reason_of_a_window_or_a_program_is_a_clause():
    """
    Not a bare name with a time behind it.
    """
    film = Rule(name="film", when=(Condition(program="filmedit"),), pause_after_s=1.0, resume_after_s=9.0)
    office = replace(film, name="office", when=(Condition(clock="mon-fri 09:00-18:00"),))
    cut = Machine(film).submit("a").run(100).run(2, programs=("filmedit",))
    work = Machine(office).submit("a").run(100).run(2, weekday=2, second_of_day=43200)

    assert "`filmedit` runs, for 1 s" == cut.verdicts[-1][1].reason
    assert "it is mon-fri 09:00-18:00, for 1 s" == work.verdicts[-1][1].reason


def test_where_nothing_is_there_is_nothing_to_decide():
    """
    The time is remembered, and nothing else.
    """
    assert ((), Memory(at=5.0)) == decide((), Sample(at=5.0), Settings(), Memory(), 5.0)


def test_the_same_is_decided_each_time_and_nothing_is_written_into_what_was_given():
    """
    So a recording can be replayed.
    """
    jobs = (a_job("a"), a_job("b"), a_job("new", JobState.QUEUED, protected=True))
    scene = moment(*jobs, rules=(a_rule(),), memory=remembered(on("mine")), cpu_foreign_pct=90.0)
    before = scene.memory
    stored = msgspec.json.encode(before)
    first, second = (decide(jobs, scene.sample, scene.settings, before, NOW) for _ in range(2))

    assert first == second
    assert [("start", "new"), ("pause", "a")] == [(verdict.kind, verdict.job) for verdict in first[0]]
    assert stored == msgspec.json.encode(before)
    assert (NOW, {"new", "a"}) == (first[1].acted_at, {*first[1].last})


@pytest.mark.parametrize(
    ("job", "acted_ago_s", "says"),
    [
        (a_job(), 14.0, "the last verdict was 14 s ago, of 15 s that it has to show its effect"),
        (a_job(), 15.0, ""),
        (a_job(), None, ""),
        (a_job(state=JobState.PAUSING, since=NOW - 500.0), None, "a is pausing"),
        (a_job(state=JobState.PAUSING, late=True), None, ""),
        (paused(since=NOW - 14.0), None, "the pause of a was 14 s ago"),
        (paused(since=NOW - 15.0), None, ""),
    ],
)
def test_what_was_done_last_has_its_time_to_show_an_effect(job, acted_ago_s, says):
    """
    To the second; a pause that is late is waited for no longer.
    """
    acted_at = None if acted_ago_s is None else NOW - acted_ago_s
    told = waits_for(moment(job, memory=replace(remembered(), acted_at=acted_at)))

    assert told.startswith(says)
    assert bool(says) is bool(told)


@pytest.mark.parametrize("is_urgent", [False, True])
@pytest.mark.parametrize("other", [a_job("bob/b"), a_job("grace/a"), a_job("grace/a", JobState.QUEUED)])
@pytest.mark.parametrize(
    "job",
    [
        paused("bob/a", by=ADA, depth=Depth.EXIT, since=NOW - 1.0),
        a_job("bob/a", JobState.PAUSING, by=ADA, since=NOW - 1.0),
    ],
)
def test_nobody_holds_up_what_is_decided_for_others_by_pausing_the_own_job(job, other, is_urgent):
    """
    The pause of a person is waited for where all jobs are of one user, that of a rule by everybody.
    """
    ruled = paused("bob/c", depth=Depth.EXIT, since=NOW - 1.0)
    told, by_rule = (
        waits_for(moment(*jobs, memory=remembered()), is_urgent=is_urgent)
        for jobs in ((job, other), (job, other, ruled))
    )

    assert other.name.startswith("bob/") is bool(told)
    assert "bob/" in by_rule


@pytest.mark.parametrize(
    ("job", "urgent_ago_s", "waits"),
    [
        (a_job(), None, False),
        (a_job(), 14.0, True),
        (a_job(state=JobState.PAUSING, since=NOW - 14.0), None, True),
        (a_job(state=JobState.PAUSING, since=NOW - 15.0), None, False),
        # A job that holds has given no memory back.
        (paused(since=NOW - 1.0), None, False),
        (paused(depth=Depth.EXIT, since=NOW - 1.0), None, True),
    ],
)
def test_an_emergency_waits_only_for_what_gives_memory_back(job, urgent_ago_s, waits):
    """
    And for the last emergency; not for other verdicts.
    """
    urgent_at = None if urgent_ago_s is None else NOW - urgent_ago_s
    memory = replace(remembered(), acted_at=NOW - 1.0, urgent_at=urgent_at)

    assert waits is bool(waits_for(moment(job, memory=memory), is_urgent=True))


def test_the_evidence_is_what_was_seen_for_how_long():
    """
    Of a rule that is on: its holding time and the time since; of one that is not yet, what it has held.
    """
    rule = a_rule(above("cpu_foreign_pct", 50.0, 20.0), Condition(program="steam"))
    readings = {"cpu_foreign_pct": 83.0, "programs": ("steam",)}
    scene = moment(rules=(rule,), memory=remembered(on("mine", ago_s=5.0)), **readings)
    load, program = evidence(scene.instances["mine"], NOW)
    fresh = moment(rules=(rule,), **readings).instances["mine"]

    assert ("cpu_foreign_pct", 83.0, "%", "> 50", 15.0) == (
        load.what, load.reading, load.unit, load.threshold, load.for_s,
    )  # fmt: skip
    assert ("steam", 1.0, "", "") == (program.what, program.reading, program.unit, program.threshold)
    assert [0.0, 0.0] == [seen.for_s for seen in evidence(fresh, NOW)]


def test_what_is_remembered_of_jobs_and_rules_that_are_no_more_is_forgotten():
    """
    A clock that seems to go back has not moved.
    """
    memory = remembered(on("old"), gone={}, a={})
    known = look_around((a_job("a"),), Sample(at=NOW), Settings(), memory, NOW - 500.0)

    assert (NOW, NOW, ["a"], {}) == (known.now, known.memory.at, [*known.memory.jobs], known.memory.triggers)


@pytest.mark.parametrize(
    ("paused_by", "of", "policy", "reason"),
    [
        ("mine", {}, PolicyConfig(), "rule mine is over, and it fits"),
        ("mine", {"enabled": False}, PolicyConfig(), "rule mine is no longer in force, and it fits"),
        ("mine", {"name": "other"}, PolicyConfig(), "rule mine is no longer in force, and it fits"),
        ("mine", {}, PolicyConfig(enabled=False), "rule mine is no longer in force, and it fits"),
        (QUEUE, {}, PolicyConfig(), "there is room for it again"),
    ],
)
def test_why_a_job_comes_back_is_said(paused_by, of, policy, reason):
    """
    A rule that was switched off, or renamed, is not said to be over.
    """
    job, rules = paused(rule=paused_by), (a_rule(**of),)
    memory = remembered({"mine": Trigger(turned_at=NOW - 99.0)}, a={"last_state": JobState.PAUSED})
    scene = moment(job, rules=rules, memory=memory, policy=policy)
    (verdict,), _ = decide((job,), scene.sample, scene.settings, scene.memory, NOW)

    assert ("resume", "a", paused_by, reason) == (verdict.kind, verdict.job, verdict.rule, verdict.reason)
