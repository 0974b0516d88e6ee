"""One moment of the policy: which jobs a rule is about, and what is promised to whom."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.rules import Selector
from tests.fakes.steered_machine import CPU, Machine

BUSY = {"cpu_foreign_pct": 80.0}


def test_a_rule_for_some_jobs_leaves_the_others_alone():
    """
    By name, user and label.
    """
    rule = replace(CPU, jobs=Selector(names=("night-*",), users=("ada",), labels={"team": "speech"}))
    machine = Machine(rule).submit("night-1", user="ada", labels={"team": "speech"})
    machine.submit("night-2", user="bob", labels={"team": "speech"}).submit("day", user="ada")
    machine.run(100).run(90, **BUSY)

    assert [("pause", "night-1", "cpu", Depth.HOLD)] == machine.told
