"""The answers: why a job is where it is, and what has to happen for that to change."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.events import ProcessEnded
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, GoAhead
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.explain import WentOn, explain, explain_all, for_want_of_a_shim, waiting
from supervisor.core.policy.rules import Condition, Rule, Selector
from supervisor.core.readings.sample import Missing
from tests.fakes.moment import NOW, a_job, a_rule, moment, on, paused, remembered
from tests.fakes.steered_machine import CPU, Machine

ADA = Asker("person", "ada")


def test_why_of_a_paused_job_names_rule_reading_threshold_and_what_has_to_happen():
    """
    All from one answer.
    """
    machine = Machine().submit("a").submit("b", protected=True).run(100).run(50, cpu_foreign_pct=83.0)
    answer = machine.why("a")
    (seen,) = answer.verdict.evidence

    assert ("paused (hold) by rule cpu", "cpu", "rule") == (answer.summary, answer.by, answer.by_kind)
    assert ("cpu_foreign_pct", 83.0, "> 50") == (seen.what, seen.reading, seen.threshold)
    assert "cpu_foreign_pct 83 % > 50 % for 30 s" == answer.verdict.reason
    assert [("a", True), ("b", False)] == [(c.job, c.is_chosen) for c in answer.verdict.candidates]
    assert "cpu_foreign_pct < 20 for 180 s" == answer.next
    assert "rule cpu is on" in answer.waits_for
    (rule,) = machine.run(60, cpu_foreign_pct=5.0).why("a").rules
    assert (59.0, 180.0) == (rule.held_s, rule.hold_s)


def test_why_of_a_running_job_names_the_nearest_rule():
    """
    Also that there is none.
    """
    machine = Machine().submit("a").run(100, cpu_foreign_pct=35.0)
    assert "nothing asks it to yield; nearest is rule cpu: " in machine.why("a").next
    alone = Machine(replace(CPU, jobs=Selector(names=("x",)))).submit("a").run(5)

    assert "no rule is about it" in alone.why("a").next


def test_why_of_a_job_that_is_settling_says_so():
    """
    A clear rule is not enough where the machine has yet to show what the last verdict did.
    """
    machine = Machine().submit("a").submit("b").run(100).run(90, cpu_foreign_pct=90.0)
    machine.run(185, cpu_foreign_pct=5.0)
    waiting = next(name for name in "ab" if machine.state(name) is JobState.PAUSED)

    assert "the last verdict was" in machine.why(waiting).waits_for[0]
    assert "has to show its effect" in machine.why(waiting).next


def test_why_of_jobs_that_persons_paused_and_of_those_on_their_way():
    """
    With the time that is left.
    """
    machine = Machine().submit("a").submit("b").submit("c").run(100)
    machine.pause("a", ADA, for_s=50.0)
    machine.pause("b", ADA)
    machine.slow = {"c"}
    machine.pause("c", ADA)

    assert ("the time that it was paused for ends", 50.0) == (
        machine.why("a").next,
        machine.why("a").wakes_in_s,
    )
    assert "`supervisorctl resume b`" in machine.why("b").next
    assert ("it reaches its next batch boundary and saves", 300.0) == (
        machine.why("c").next,
        machine.why("c").deadline_in_s,
    )


def test_why_of_a_job_that_is_over():
    """
    Its end is the answer.
    """
    machine = Machine().submit("a").run(5)
    machine.happen("a", ProcessEnded(incarnation=1, exit=Exit(code=3)))

    assert "failed: exit code 3" == machine.why("a").summary


def test_how_near_the_rules_are_is_said_only_where_one_is():
    """
    Nothing of the way is no distance.
    """
    machine = Machine(CPU).submit("a").run(100)

    assert "nothing asks it to yield, and no rule is near" == machine.why("a").next


def test_what_has_to_end_is_said_as_a_clause():
    """
    A program that no longer runs, a window that is no longer open, for some time.
    """
    film = Rule(name="film", when=(Condition(program="filmedit"),), pause_after_s=1.0, resume_after_s=9.0)
    machine = Machine(film).submit("a").run(100).run(2, programs=("filmedit",))

    assert "`filmedit` no longer runs, for 9 s" == machine.why("a").next


def told(job, *others, **of):
    scene = moment(job, *others, **of)
    return explain(job, (job, *others), scene.sample, scene.settings, scene.memory, NOW)


@pytest.mark.parametrize(
    ("of", "next_"),
    [
        ({"state": JobState.STARTING, "depths": ()}, "its training shim connects"),
        (
            {"state": JobState.STARTING, "depths": (), "start_grace_at": NOW + 9.0},
            "its training shim connects; without one it counts as running in 9 s",
        ),
        ({"state": JobState.RESUMING}, "its training shim tells that it goes on"),
        ({"state": JobState.STOPPING}, "it reaches its next batch boundary, saves and ends"),
        ({"state": JobState.STOPPING, "yielded": True}, "its process ends"),
        ({"state": JobState.STOPPING, "depths": ()}, "its process ends"),
        (
            {"state": JobState.FAILED, "restart_at": NOW + 5.0, "num_failures": 2},
            "it is started again in 5 s, restart 2 of 3",
        ),
        ({"state": JobState.FAILED}, "a person restarts it: `supervisorctl restart a`"),
        (
            {"state": JobState.FAILED, "checkpoint": CheckpointRef(step=7, epoch=0, path="/c", digest="d")},
            "a person restarts it, from its newest checkpoint: `supervisorctl restart a`",
        ),
        ({"state": JobState.COMPLETED}, ""),
        ({"state": JobState.PAUSING}, "it reaches its next batch boundary and saves"),
        ({"state": JobState.PAUSING, "yielded": True}, "its process ends; its checkpoint is durable"),
        (
            {"state": JobState.PAUSING, "insisted": "TERM"},
            "its process ends; it reached no batch boundary in time",
        ),
        (
            {"state": JobState.PAUSING, "held_depth": Depth.HOLD, "depth": Depth.EXIT},
            "it goes from hold to exit; its checkpoint is durable",
        ),
        (
            {"state": JobState.PAUSING, "frozen_at": 5.0},
            "a person resumes it: `supervisorctl resume a`; until then it stands still",
        ),
    ],
)
def test_what_comes_next_is_said_of_every_state(of, next_):
    """
    Nothing comes of a job that is over.
    """
    assert next_ == told(a_job(**of)).next


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (
            {"state": JobState.PAUSING, "depths": (), "start_grace_at": NOW + 9.0},
            "without one the pause is called off in 9 s, and it runs on",
        ),
        (
            {"state": JobState.PAUSING, "depths": (), "start_grace_at": NOW - 9.0},
            "without one the pause is called off in 0 s, and it runs on",
        ),
        ({"state": JobState.PAUSING, "depths": ()}, ""),
        ({"state": JobState.PAUSING, "start_grace_at": NOW + 9.0}, ""),
        ({"state": JobState.STARTING, "depths": (), "start_grace_at": NOW + 9.0}, ""),
    ],
)
def test_a_pause_of_a_job_without_a_shim_is_called_off_in_time(of, text):
    """
    Only where none has come, and somebody waits for one.
    """
    assert text == for_want_of_a_shim(a_job(**of), NOW)


def test_each_job_that_waits_is_told_what_for():
    """
    Not that of which the rule that paused it is still on: there is nothing else to know.
    """
    jobs = (
        paused("kept", rule="mine"),
        paused("free", rule="gone"),
        a_job("big", JobState.QUEUED, memory_bytes=99 << 30, protected=True),
        a_job("runs"),
    )
    free = {"paused_by": ("gone",), "last_state": JobState.PAUSED}
    scene = moment(*jobs, rules=(a_rule(),), memory=remembered(on("mine"), free=free))
    waits = waiting(jobs, scene.sample, scene.settings, scene.memory, NOW)

    assert {"big": "needs 99.0 GiB of memory, the machine has 24.0 GiB", "free": "rule mine is on"} == waits
    assert {} == waiting((), scene.sample, scene.settings, scene.memory, NOW)


def test_some_are_explained_among_all_with_their_place_in_the_line():
    """
    A job that runs has none.
    """
    jobs = (a_job("z", JobState.QUEUED, priority=1, num_cpus=9.0), a_job("a", JobState.QUEUED), a_job("runs"))
    scene = moment(*jobs)
    found = tuple(explain_all(jobs, scene))

    assert [(1, 2), (2, 2), (None, 0)] == [(one.position, one.line_length) for one in found]
    assert ["needs 9 CPUs, there are 4", "it goes on with the next tick"] == [one.next for one in found[:2]]
    assert () == tuple(explain_all((), scene))


@pytest.mark.parametrize(
    ("job", "went_on"),
    [
        (
            a_job(went_on=GoAhead(ADA, "resumed it")),
            WentOn("ada", "person", "resumed it"),
        ),
        (a_job(went_on=GoAhead(None, "its pause was over")), WentOn(did="its pause was over")),
        (a_job(), None),
        (paused(went_on=GoAhead(None, "its pause was over")), None),
    ],
)
def test_how_a_job_came_to_run_is_told_while_it_runs(job, went_on):
    """
    Once it has yielded that is past.
    """
    assert went_on == told(job).went_on


def test_the_verdict_that_led_here_is_told_and_no_other():
    """
    Not a pause to whoever runs by a person's word.
    """
    pause, resume = (Verdict(kind=kind, job="a", rule="mine", reason="r") for kind in ("pause", "resume"))
    by_rule = a_job(went_on=GoAhead(Asker("rule", "mine")))

    def verdict(job, last):
        return told(job, memory=replace(remembered(), last={"a": last})).verdict

    assert (pause, None) == (verdict(paused(), pause), verdict(paused(), resume))
    assert (resume, None) == (verdict(by_rule, resume), verdict(by_rule, pause))
    assert None is verdict(a_job(went_on=GoAhead(ADA)), resume)
    assert pause == verdict(paused(verdict=pause), resume)


def test_a_rule_without_a_reading_is_named_to_a_job_that_runs():
    """
    Who is left alone is told so as well.
    """
    answer = told(a_job(protected=True), rules=(a_rule(),), cpu_foreign_pct=Missing("no file"))

    assert answer.next.endswith("; without a reading: mine; this job is left alone: it is protected")
