"""The answers: why a job is where it is, and what has to happen for that to change."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.events import ProcessEnded
from supervisor.core.jobs.job import Asker, Exit
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.rules import Condition, Rule, Selector
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
