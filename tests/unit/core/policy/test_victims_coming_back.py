"""A job that has just come back stays through a shortage that would not be worth another pause.

Covers: `pause_again_after_s`, alone and beside other jobs and rules, and what `why` says of it.
Does not cover: the wait before a return (core/policy/test_returning.py), what it is worth on days of load
(tests/property/test_policy_traces.py).
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.states import JobState
from supervisor.core.policy.rules import Condition
from supervisor.core.readings.sample import Missing
from tests.fakes.steered_machine import CPU, GIB, MEMORY, Machine

STAYS = replace(CPU, resume_after_s=60.0, pause_again_after_s=300.0)
BUSY = {"cpu_foreign_pct": 90.0}
CALM = {"cpu_foreign_pct": 5.0}


def returned(*rules, **spec):
    """Return a machine on which job a has been paused once, and is back."""
    machine = Machine(*rules).submit("a", **spec).run(100).run(40, **BUSY).run(70, **CALM)
    assert ["pause", "resume"] == [kind for kind, *_ in machine.told]
    return machine


def test_it_stays_for_five_minutes_of_load_and_then_yields():
    """
    `why` says since when it is back, and how long the load has to last.
    """
    machine = returned(STAYS).run(290, **BUSY)

    assert JobState.RUNNING is machine.state("a")
    told = machine.why("a").next
    assert "rule cpu is on; a came back 2" in told
    assert "it yields only to a shortage of 300 s; this one has lasted for 289 s" in told
    assert JobState.PAUSED is machine.run(15).state("a")
    assert "for 30" in machine.verdicts[-1][1].reason


def test_loads_with_a_break_between_them_are_not_added_up():
    """
    Each of them is too short for a pause.
    """
    machine = returned(STAYS).run(200, **BUSY).run(1, **CALM)
    assert "rule cpu is on" == machine.why("a").next
    machine.run(200, **BUSY)

    assert JobState.RUNNING is machine.state("a")
    assert "has lasted for 199 s" in machine.why("a").next


def test_a_missing_reading_stops_the_five_minutes():
    """
    What nobody has seen is neither load nor a break.
    """
    machine = returned(STAYS).run(200, **BUSY).run(120, cpu_foreign_pct=Missing("no file")).run(60, **BUSY)

    assert "has lasted for 258 s" in machine.why("a").next
    assert JobState.PAUSED is machine.run(60).state("a")


def test_ten_calm_minutes_after_its_return_it_is_a_job_like_others():
    """
    Else one pause in the morning would make others wait all day.
    """
    machine = returned(STAYS).run(601, **CALM).run(31, **BUSY)

    assert JobState.PAUSED is machine.state("a")


@pytest.mark.parametrize("after_s", [0.0, 10.0])
def test_it_can_be_switched_off(after_s):
    """
    A time that is shorter than the first one changes nothing.
    """
    machine = returned(replace(STAYS, pause_again_after_s=after_s)).run(60, **CALM).run(31, **BUSY)

    assert JobState.PAUSED is machine.state("a")


def test_another_rule_does_not_wait_for_it():
    """
    Memory that is short does harm at once.
    """
    machine = returned(MEMORY, STAYS).run(60, **BUSY).run(6, memory_available_bytes=1.0 * GIB)

    assert "memory" == machine.told[-1][2]


def test_an_emergency_does_not_wait_even_where_its_rule_says_so():
    """
    The kernel says that work stands still.
    """
    machine = returned(replace(MEMORY, pause_again_after_s=300.0), STAYS)
    machine.run(60).run(1, memory_available_bytes=1.0 * GIB, is_urgent=True)

    assert "memory" == machine.told[-1][2]


def test_nobody_of_higher_priority_yields_in_its_place():
    """
    The lowest priority goes first, also where it has just come back; one that has not goes at once.
    """
    machine = returned(STAYS).submit("above", priority=1).run(70, **CALM).run(100, **BUSY)

    assert JobState.RUNNING is machine.state("above")
    assert "a came back" in machine.why("above").next
    machine.run(230)
    assert ["a", "above"] == [name for _, name, *_ in machine.told[2:]]

    other = returned(STAYS, priority=1).submit("below").run(70, **CALM).run(100, **BUSY)
    assert (JobState.PAUSED, JobState.RUNNING) == (other.state("below"), other.state("a"))


def test_a_program_has_been_there_since_the_rule_is_on():
    """
    A circumstance has no reading that could be watched.
    """
    rule = replace(STAYS, when=(Condition(program="steam"),))
    machine = Machine(rule).submit("a").run(100, programs=frozenset()).run(40, programs=frozenset({"steam"}))
    machine.run(70, programs=frozenset()).run(200, programs=frozenset({"steam"}))

    assert JobState.RUNNING is machine.state("a")
    assert JobState.PAUSED is machine.run(110).state("a")
