"""Whether a set of rules can work at all: what is wrong is said in words.

Covers: one rule, and a set of them; conditions that can never be met, which do no
harm but are not what anybody means. Does not cover: types and bounds of the fields
(rules.py), reading files (config.py).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence

from supervisor.core import windows
from supervisor.core.jobs.verdict import QUEUE
from supervisor.core.policy.conditions import is_circumstance, thresholds
from supervisor.core.policy.rules import Condition, Rule
from supervisor.core.readings.metric import bounds
from supervisor.core.readings.metrics import METRICS

__all__ = ["RuleError", "check_rules", "unreachable"]

_KINDS = "a condition is one of metric, clock, program; a rule is short when all its conditions are"


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
        if rule.name == QUEUE:
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
    if not (math.isfinite(short) and math.isfinite(clear)):
        key, number = ("above", short) if condition.above is not None else ("below", short)
        if math.isfinite(short):
            key, number = ("clear_below" if condition.above is not None else "clear_above"), clear
        raise RuleError(where, f"{key}: {number:g} is no threshold", "write a number")
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


def unreachable(rules: Sequence[Rule]) -> Iterator[RuleError]:
    """Yield what can never be so in these rules: no job would ever yield to them, or none come back."""
    for rule in rules:
        where = f"rule `{rule.name}`, when"
        for number, condition in enumerate(rule.when, 1):
            spot = f"{where} {number}" if len(rule.when) > 1 else where
            yield from _never_met(condition, spot)
            # Where a circumstance may end the rule, nothing has to be clear.
            if not any(map(is_circumstance, rule.when)):
                yield from _never_clear(condition, spot)
        yield from _never_together(rule.when, where)


def _never_met(condition: Condition, where: str) -> Iterator[RuleError]:
    if condition.program:
        yield from _no_program(condition.program, where)
    if condition.metric:
        short, clear = thresholds(condition)
        least, most = bounds(METRICS[condition.metric])
        if short >= most if short > clear else short <= least:
            key = "above" if short > clear else "below"
            yield _out_of_range(condition.metric, key, short, f"{where}: no job would ever yield")


def _never_clear(condition: Condition, where: str) -> Iterator[RuleError]:
    if condition.metric:
        short, clear = thresholds(condition)
        least, most = bounds(METRICS[condition.metric])
        if clear <= least if short > clear else clear >= most:
            key = "clear_below" if short > clear else "clear_above"
            yield _out_of_range(condition.metric, key, clear, f"{where}: no job would ever come back")


def _out_of_range(metric: str, key: str, value: float, where: str) -> RuleError:
    least, most = bounds(METRICS[metric])
    unit = f" {METRICS[metric].unit}" if METRICS[metric].unit else ""
    span = f"from {least:g} to {most:g}{unit}" if math.isfinite(most) else f"from {least:g}{unit} up"
    side = {"above": "more", "clear_below": "less", "below": "less", "clear_above": "more"}[key]
    what = f"{key}: {metric} is never {side} than {value:g}, it goes {span}"
    return RuleError(where, what, "choose a threshold in between; `enabled = false` switches a rule off")


def _no_program(name: str, where: str) -> Iterator[RuleError]:
    """Only the name is known of a program, without its folder, and it is compared as it stands."""
    plain = name.strip().rpartition("/")[2]
    if plain == name and "*" not in name:
        return
    hint = "write the name as `ps -o comm` shows it" + (f": `{plain}`" if plain and "*" not in plain else "")
    yield RuleError(f"{where}: no job would ever yield", f"program: no program is called `{name}`", hint)


def _never_together(when: Sequence[Condition], where: str) -> Iterator[RuleError]:
    where = f"{where}: no job would ever yield"
    for metric in dict.fromkeys(condition.metric for condition in when if condition.metric):
        ours = [condition for condition in when if condition.metric == metric]
        above = max((one.above for one in ours if one.above is not None), default=-math.inf)
        below = min((one.below for one in ours if one.below is not None), default=math.inf)
        if above >= below:
            what = f"{metric} is never above {above:g} and below {below:g} at once"
            yield RuleError(where, what, "all conditions of a rule have to be met; write two rules")
    clocks = [windows.parse(condition.clock) for condition in when if condition.clock]
    if len(clocks) > 1 and not windows.overlap(clocks):
        yield RuleError(
            where,
            "the windows of time have no moment in common",
            "all conditions of a rule have to be met; write two rules",
        )
