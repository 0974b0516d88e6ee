"""Whether a set of rules can work at all: what is wrong is said in words.

Covers: one rule, and a set of them. Does not cover: types and bounds of the
fields (rules.py), reading files (config.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from supervisor.core import windows
from supervisor.core.conditions import thresholds
from supervisor.core.metrics import METRICS
from supervisor.core.rules import Condition, Rule

__all__ = ["RuleError", "check_rules"]

_KINDS = "a condition is one of metric, clock, program; a rule is short when all its conditions are"

#: Stands for the queue where a verdict or a pause names its rule.
_RESERVED = "queue"


class RuleError(ValueError):
    """`where` names the rule and the key; `hint` says what would be right."""

    def __init__(self, where: str, what: str, hint: str) -> None:
        super().__init__(f"{where}: {what}")
        self.hint = hint


def check_rules(rules: Sequence[Rule]) -> None:
    """Raise RuleError for the first thing that is wrong with one of them."""
    names: set[str] = set()
    for rule in rules:
        where = f"rule `{rule.name}`"
        if rule.name == _RESERVED:
            raise RuleError(where, "name: `queue` stands for the queue itself", "choose another name")
        if rule.name in names:
            raise RuleError(where, "name: two rules have it", "the name says which rule paused a job")
        names.add(rule.name)
        for number, condition in enumerate(rule.when, 1):
            _check_condition(condition, f"{where}, when {number}" if len(rule.when) > 1 else f"{where}, when")
        _check_places(rule, where)


def _check_condition(condition: Condition, where: str) -> None:
    kinds = [kind for kind in ("metric", "clock", "program") if getattr(condition, kind)]
    if len(kinds) != 1:
        what = f"has {' and '.join(kinds)}" if kinds else "says nothing"
        raise RuleError(where, what, _KINDS)
    if kinds != ["metric"]:
        _check_no_thresholds(condition, kinds[0], where)
        if condition.clock:
            _check_clock(condition.clock, where)
        return
    if condition.metric not in METRICS:
        nearest = difflib.get_close_matches(condition.metric, METRICS, n=1)
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"metrics are: {', '.join(METRICS)}"
        raise RuleError(where, f"metric: there is no `{condition.metric}`", hint)
    _check_thresholds(condition, where)


def _check_no_thresholds(condition: Condition, kind: str, where: str) -> None:
    for key in ("above", "clear_below", "below", "clear_above"):
        if getattr(condition, key) is not None:
            raise RuleError(where, f"{key}: a {kind} has no thresholds", "only a metric has")


def _check_clock(text: str, where: str) -> None:
    try:
        windows.parse(text)
    except ValueError as error:
        hint = 'write it like "mon-fri 09:00-18:00", "22:00-06:00" or "sat,sun"'
        raise RuleError(where, f"clock: {error}", hint) from None


def _check_thresholds(condition: Condition, where: str) -> None:
    metric, high = condition.metric, (condition.above, condition.clear_below)
    low = (condition.below, condition.clear_above)
    if (high == (None, None)) == (low == (None, None)) or None in (high if low == (None, None) else low):
        raise RuleError(
            where,
            f"metric `{metric}` needs above and clear_below, or below and clear_above",
            "two thresholds: between them nothing changes, so a job is not paused and resumed for ever",
        )
    short, clear = thresholds(condition)
    if condition.above is not None and clear >= short:
        what = f"clear_below: {clear:g} is not below above = {short:g}"
        raise RuleError(where, what, "it is over only when it is clearly less than what it began with")
    if condition.below is not None and clear <= short:
        what = f"clear_above: {clear:g} is not above below = {short:g}"
        raise RuleError(where, what, "it is over only when there is clearly more than what it began with")


def _check_places(rule: Rule, where: str) -> None:
    places = {METRICS[c.metric].place for c in rule.when if c.metric} - {"host"}
    if len(places) > 1:
        raise RuleError(
            where,
            "when: has metrics of GPUs and of jobs",
            "a rule holds for each GPU or for each job; write two rules",
        )
