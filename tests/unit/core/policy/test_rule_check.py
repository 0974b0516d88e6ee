"""What is wrong with a set of rules, and what can never be so in one."""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.policy.rule_check import RuleError, check_rules, unreachable
from supervisor.core.policy.rules import Condition, Rule
from tests.fakes.moment import a_rule, above, below


def never_so(*conditions):
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
        (
            [metric("cpu_pct", 50.0, 40.0), metric("cpu_pct", below=50.0, clear_above=60.0)],
            "cpu_pct is never above 50 and below 50 at once",
        ),
    ],
)
def test_what_can_never_be_met_is_named(conditions, says):
    """
    With what it would lead to, the key, and what would be right.
    """
    (told,) = never_so(*conditions)

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
    assert [] == never_so(*conditions)


def wrong(*rules):
    with pytest.raises(RuleError) as caught:
        check_rules(rules)
    return f"{caught.value} ({caught.value.hint})"


def test_no_rules_are_sound():
    """
    Nothing yields then.
    """
    check_rules(())

    assert [] == list(unreachable(()))


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (Condition(), "rule `mine`, when: says nothing (a condition is one of metric, clock, program;"),
        (Condition(clock="mon", program="x"), "has clock and program"),
        (Condition(metric="cpu_pct", clock="mon", program="x"), "has metric and clock and program"),
        (Condition(metric="cpu_pc"), "metric: there is no `cpu_pc` (did you mean `cpu_pct`?)"),
        (Condition(program="x", clear_above=1.0), "clear_above: a program has no thresholds"),
        (Condition(clock="mon", below=1.0), "below: a clock has no thresholds"),
        (
            Condition(metric="cpu_pct", above=5.0, clear_above=4.0),
            "needs above and clear_below, or",
        ),
        (above("cpu_pct", 5.0, 6.0), "clear_below: 6 is not below above = 5"),
        (below("cpu_pct", 5.0, 5.0), "clear_above: 5 is not above below = 5"),
        (below("cpu_pct", 5.0, float("inf")), "clear_above: inf is no threshold"),
        (below("cpu_pct", float("nan"), 5.0), "below: nan is no threshold"),
    ],
)
def test_a_condition_that_cannot_work_is_named(condition, says):
    """
    With what is wrong in it, and what would be right.
    """
    assert says in wrong(a_rule(condition))


def test_the_first_thing_that_is_wrong_is_said():
    """
    With the number of the condition, where there are several.
    """
    good, bad = above("cpu_pct", 5.0, 4.0), Condition(metric="zzz")

    assert wrong(a_rule(good, name="fine"), a_rule(good, bad), a_rule(name="queue")).startswith(
        "rule `mine`, when 2: metric: there is no `zzz`"
    )


def test_two_rules_of_one_name_are_refused():
    """
    Also where they are not neighbours.
    """
    assert "rule `mine`: name: two rules have it" in wrong(a_rule(), a_rule(name="other"), a_rule())


def test_what_can_never_be_is_named_for_each_rule_and_condition():
    """
    All of it, not the first; it does no harm.
    """
    odd = a_rule(above("cpu_pct", 100.0, 0.0), Condition(program="/bin/sh"), name="odd")
    told = [str(error) for error in unreachable((a_rule(), odd, a_rule(below("battery_pct", 0.0, 100.0))))]

    never = "no job would ever"

    assert [
        f"rule `odd`, when 1: {never} yield: above: cpu_pct is never more than 100, it goes from 0 to 100 %",
        f"rule `odd`, when 2: {never} yield: program: no program is called `/bin/sh`",
        f"rule `mine`, when: {never} yield: below: battery_pct is never less than 0, it goes from 0 to 100 %",
    ] == told[:3]
    assert told[3].startswith(f"rule `mine`, when: {never} come back: clear_above: battery_pct is never more")
    assert 4 == len(told)
