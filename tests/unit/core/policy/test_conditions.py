"""What one reading says about a condition, and what all conditions of a rule say together."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.policy.conditions import least_short_s, look_at_all
from supervisor.core.policy.rules import Condition, Rule
from supervisor.core.readings.sample import Missing, Sample
from tests.fakes.steered_machine import CPU, Machine


@pytest.mark.parametrize(
    ("pct", "above", "least_s"),
    [(75.0, 50.0, 5.0), (100.0, 50.0, 10.0), (50.0, 50.0, 0.0), (60.0, 20.0, 5.0), (100.0, 100.0, 0.0)],
)
def test_a_mean_says_how_long_it_was_short_at_least(pct, above, least_s):
    """
    CPU use is never more than 100 %; a verdict came up to one look too late (seen 2026-11-22).
    """
    when = (Condition(metric="cpu_foreign_pct", above=above, clear_below=10.0),)
    sample = Sample(at=100.0, cpu_foreign_pct=pct, cpu_over_s=10.0)

    assert pytest.approx(least_s) == least_short_s(when, look_at_all(when, sample, ""), sample)


@pytest.mark.parametrize(
    "other",
    [
        Condition(metric="memory_available_pct", below=8.0, clear_above=16.0),
        Condition(clock="00:00-24:00"),
        Condition(metric="cpu_foreign_pct", below=100.0, clear_above=101.0),
    ],
)
def test_what_is_read_at_one_moment_says_nothing_of_the_time_before(other):
    """
    Neither does a rule that needs such a reading, nor a mean that nobody knows the time of.
    """
    when = (Condition(metric="cpu_pct", above=50.0, clear_below=10.0), other)
    sample = Sample(at=100.0, cpu_pct=100.0, cpu_foreign_pct=80.0, cpu_over_s=10.0)
    timeless = replace(sample, cpu_over_s=0.0)
    missing = replace(sample, cpu_pct=Missing("it takes two readings"))

    assert 0.0 == least_short_s(when, look_at_all(when, sample, ""), sample)
    assert 0.0 == least_short_s(when[:1], look_at_all(when[:1], timeless, ""), timeless)
    assert 0.0 == least_short_s(when[:1], look_at_all(when[:1], missing, ""), missing)


@pytest.mark.parametrize("reading", [float("nan"), Missing("gone")])
def test_what_is_no_number_is_no_reading(reading):
    """
    It never counts as short or clear.
    """
    machine = Machine(CPU).submit("a").run(100, cpu_foreign_pct=reading)

    assert "unknown" == machine.rule("cpu").side


def test_two_conditions_are_short_together_and_over_together():
    """
    A circumstance that is over ends the rule by itself; one that nobody can tell ends nothing.
    """
    rule = Rule(
        name="both",
        when=(
            Condition(program="steam"),
            Condition(metric="cpu_foreign_pct", above=50.0, clear_below=20.0),
            Condition(metric="load_per_cpu", above=2.0, clear_below=1.0),
        ),
        pause_after_s=1.0,
        resume_after_s=1.0,
    )

    def side(programs, cpu_pct, load):
        machine = Machine(rule).submit("a")
        machine.run(1, programs=programs, cpu_foreign_pct=cpu_pct, load_1min=load)
        return machine.rule("both").side

    unknown = Missing("x")
    assert "short" == side(("steam",), 60.0, 12.0)
    assert "clear" == side((), 60.0, 12.0)
    assert "clear" == side(("steam",), 10.0, 1.0)
    assert "between" == side(("steam",), 10.0, 12.0)
    assert "between" == side(("steam",), 30.0, 12.0)
    assert "unknown" == side(("steam",), unknown, 12.0)
    assert "unknown" == side(unknown, 60.0, 12.0)
    assert "clear" == side(unknown, 10.0, 1.0)
