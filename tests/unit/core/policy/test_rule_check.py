"""What is wrong with a set of rules, and what can never be so in one."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.policy.rule_check import check_rules, unreachable
from supervisor.core.policy.rules import Rule


def never(*conditions):
    """What can never be so in a rule with these conditions."""
    rule = msgspec.convert(
        {"name": "mine", "when": conditions, "pause_after_s": 1.0, "resume_after_s": 1.0}, Rule
    )
    check_rules([rule])
    return [f"{error} ({error.hint})" for error in unreachable([rule])]


def metric(name, above=None, clear_below=None, **other):
    return {"metric": name, "above": above, "clear_below": clear_below} | other


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ([{"program": "/usr/games/steam"}], "no program is called `/usr/games/steam` (write the name as"),
        ([{"program": "games/steam"}], "`ps -o comm` shows it: `steam`"),
        ([{"program": "steam*"}], "no program is called `steam*`"),
        ([{"program": " steam"}], "no program is called ` steam`"),
        ([metric("cpu_foreign_pct", 150.0, 20.0)], "cpu_foreign_pct is never more than 150"),
        ([metric("cpu_pct", 100.0, 20.0)], "no job would ever yield: above: cpu_pct is never more than 100"),
        ([metric("on_battery", 1.0, 0.5)], "on_battery is never more than 1, it goes from 0 to 1"),
        ([metric("load_per_cpu", 2.0, 0.0)], "no job would ever come back: clear_below"),
        ([metric("disk_free_gib", below=0.0, clear_above=9.0)], "below: disk_free_gib is never less than 0"),
        ([metric("battery_pct", below=9.0, clear_above=100.0)], "clear_above: battery_pct is never more"),
        ([{"clock": "mon"}, {"clock": "tue 09:00-12:00"}], "have no moment in common"),
        (
            [metric("cpu_pct", 80.0, 70.0), metric("cpu_pct", below=20.0, clear_above=30.0)],
            "cpu_pct is never above 80 and below 20 at once",
        ),
    ],
)
def test_what_can_never_be_met_is_named(conditions, says):
    """
    With what it would lead to, the key, and what would be right.
    """
    (told,) = never(*conditions)

    assert told.startswith("rule `mine`, when")
    assert says in told


@pytest.mark.parametrize(
    "conditions",
    [
        [{"program": "a-name-longer-than-fifteen"}],
        [{"program": "Web Content"}],
        [metric("gpu_temperature_c", 150.0, -5.0)],
        [metric("load_per_cpu", 1e6, 0.5)],
        [metric("cpu_foreign_pct", 99.9, 0.1)],
        # A window ends the rule, so nothing has to be clear.
        [{"clock": "mon"}, metric("cpu_pct", 0.0, -1.0)],
        [{"clock": "22:00-06:00"}, {"clock": "tue 05:59-12:00"}],
        [metric("cpu_pct", 20.0, 10.0), metric("cpu_pct", below=80.0, clear_above=90.0)],
    ],
)
def test_what_can_be_met_is_not_complained_about(conditions):
    """
    However odd it is.
    """
    assert [] == never(*conditions)
