"""What is learned of jobs by watching them: who overruled a rule, who flaps, what they use."""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Selector
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
