"""A rule that is on while its thresholds are changed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.states import JobState
from supervisor.core.policy.rules import Condition
from supervisor.core.readings.sample import Missing
from tests.fakes.steered_machine import CPU, Machine


class TestChangedThresholds:
    def changed(self, above, clear_below, reading):
        machine = Machine(CPU).submit("a").run(100).run(40, cpu_foreign_pct=70.0)
        assert machine.rule("cpu").is_on
        condition = Condition(metric="cpu_foreign_pct", above=above, clear_below=clear_below)
        machine.settings = replace(machine.settings, rules=(replace(CPU, when=(condition,)),))
        return machine.run(1, cpu_foreign_pct=reading)

    @pytest.mark.parametrize(
        ("above", "clear_below", "reading", "is_on"),
        [
            (90.0, 60.0, 70.0, False),
            (90.0, 80.0, 70.0, False),
            (60.0, 30.0, 70.0, True),
            (90.0, 60.0, Missing("no"), True),
        ],
        ids=["between", "clear", "short", "unread"],
    )
    def test_a_rule_is_on_by_the_thresholds_that_it_has(self, above, clear_below, reading, is_on):
        """
        2026-11-28: between the new thresholds it stayed on for ever, by the old ones.
        """
        machine = self.changed(above, clear_below, reading)
        still = self.changed(50.0, 20.0, 30.0)

        assert is_on is machine.rule("cpu").is_on
        assert still.rule("cpu").is_on

    def test_what_could_not_be_read_at_the_change_counts_when_it_can(self):
        """
        Between the new thresholds it is over, however late that shows.
        """
        machine = self.changed(90.0, 60.0, Missing("no")).run(5)
        assert machine.rule("cpu").is_on

        assert not machine.run(1, cpu_foreign_pct=70.0).rule("cpu").is_on

    def test_the_job_comes_back(self):
        """
        Nothing keeps it any more.
        """
        assert JobState.RUNNING is self.changed(90.0, 60.0, 70.0).run(20).state("a")

    def test_a_holding_time_of_other_thresholds_does_not_count(self):
        """
        Short for 20 s by the old ones is not short for 20 s by the new ones.
        """
        machine = Machine(CPU).submit("a").run(100).run(21, cpu_foreign_pct=70.0)
        when = (Condition(metric="cpu_foreign_pct", above=60.0, clear_below=30.0),)
        machine.settings = replace(machine.settings, rules=(replace(CPU, when=when),))

        machine.run(15)
        assert not machine.rule("cpu").is_on
        # Nor as a shortage that a job which has just come back would yield to.
        assert machine.scene().instances["cpu"].short_s(machine.now) < 20
        assert machine.run(20).rule("cpu").is_on
