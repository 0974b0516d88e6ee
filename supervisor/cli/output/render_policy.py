"""Rules, changes to them and simulations, as people see them. Pure.

Does not cover: asking the daemon, replaying (policy.py), pictures (policy_picture.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from supervisor.cli.output.render_why import hours, reading_of
from supervisor.cli.output.text import (
    Column,
    bold,
    clean,
    duration,
    has_room,
    number,
    table,
    two_lines,
    whole_table,
    wrapped,
)
from supervisor.core.policy.explanation import RuleState, Share
from supervisor.core.policy.rules import Rule, Settings
from supervisor.core.policy.simulation import Happening, SimulationReport
from supervisor.core.readings.sample import Missing
from supervisor.core.replacing import replace

__all__ = ["changes", "report_lines", "rule_lines", "share_lines", "timeline_lines"]

_COLUMNS = (
    Column("RULE"),
    Column("PLACE", spare=1),
    Column("METRIC", spare=2),
    Column("NOW"),
    Column("PAUSES AT"),
    Column("CLEARS AT", spare=3),
    Column("STATE"),
    Column("JOBS", spare=4),
)
#: In two lines: of the rule, and of each condition.
_TALL = (
    Column("RULE"),
    Column("PLACE"),
    Column("STATE"),
    Column("JOBS", spare=1),
    Column("METRIC"),
    Column("NOW"),
    Column("PAUSES AT"),
    Column("CLEARS AT"),
)
_JOBS = (
    Column("JOB"),
    Column("RAN", spare=1, right=True),
    Column("PAUSED", right=True),
    Column("QUEUED", spare=2, right=True),
    Column("PAUSES", right=True),
    Column("FLAPS", right=True),
    Column("LATE", right=True),
    Column("NEEDLESS", right=True),
)
_TIMELINE = (Column("TIME"), Column("JOB"), Column("WHAT"), Column("RULE", spare=1), Column("WHY"))
_TALL_TIMELINE = (*_TIMELINE[:3], Column("RULE  WHY"))
_SHARES = (
    Column("USER"),
    Column("WEIGHT", right=True),
    Column("SLOT HOURS", right=True),
    Column("SLOTS", right=True),
    Column("WAITING", right=True),
    Column("TURN"),
)
_MAX_JOBS = 4

#: Of a GPU's UUID: "GPU-" and the first group.
_GPU_CHARS = 12


def rule_lines(rules: Sequence[RuleState], *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return a table with a line for each condition of a rule at a place, and below it who has none.

    Where there is no room for what a rule looks at, its conditions stand on lines of their own.
    """
    blind = [rule for rule in rules if _is_blind(rule)]
    rows = [
        row for rule in _joined(rule for rule in rules if not _is_blind(rule)) for row in _rule_rows(rule)
    ]
    is_tall = bool(rows) and not has_room(_COLUMNS, rows, width, for_column="METRIC")
    if is_tall:
        tall = [(name, place, state, jobs, *condition) for name, place, *condition, state, jobs in rows]
        lines = two_lines(_TALL, tall, num_above=4, width=width)
    else:
        lines = table(_COLUMNS, rows, width=width) if rows else []
    if colour:
        lines[: 1 + is_tall] = map(bold, lines[: 1 + is_tall])
    for why in dict.fromkeys(rule.missing for rule in blind):
        names = _names(rule for rule in blind if rule.missing == why)
        told = clean(f"not watched: {', '.join(names)}: {why}")
        lines += wrapped(told, width, indent="  ") if width else [told]
    return lines


def _is_blind(rule: RuleState) -> bool:
    """Say whether it has nothing to look at; one that is on, or has just lost its reading, keeps its line."""
    return bool(rule.missing) and rule.is_enabled and not rule.is_on and not rule.alarm


def _joined(rules: Iterable[RuleState]) -> Iterable[RuleState]:
    """Make one row of those that differ in nothing but their job, as where several write to one disk.

    GPUs that are lost for one reason share a row as well.
    """
    groups: dict[object, list[RuleState]] = {}
    for rule in rules:
        is_same = _is_of_its_job(rule) or (rule.missing and rule.place)
        key = tuple(_rule_rows(replace(rule, place="", jobs=(), num_jobs=0))) if is_same else id(rule)
        groups.setdefault(key, []).append(rule)
    for first, *others in groups.values():
        if not others:
            yield first
            continue
        jobs = tuple(dict.fromkeys(job for rule in (first, *others) for job in rule.jobs))
        what = "jobs" if _is_of_its_job(first) else "GPUs"
        yield replace(first, place=f"{1 + len(others)} {what}", jobs=jobs, num_jobs=len(jobs))


def _is_of_its_job(rule: RuleState) -> bool:
    return rule.jobs == (rule.place,)


def _names(rules: Iterable[RuleState]) -> list[str]:
    """Each rule once, with its places."""
    places: dict[str, list[str]] = {}
    for rule in rules:
        places.setdefault(rule.rule, []).extend([_place(rule.place)] if rule.place else [])
    return [f"{name} of {_few(found)}" if found else name for name, found in places.items()]


def _few(names: Sequence[str], num: int = 0) -> str:
    """Return the first names; of more than were named `num` tells how many there are."""
    more = max(num, len(names)) - _MAX_JOBS
    return " ".join(names[:_MAX_JOBS]) + (f" and {more} more" if more > 0 else "")


def _place(place: str) -> str:
    """A GPU by the beginning of its UUID, which is what the driver takes as well."""
    return clean(place[:_GPU_CHARS] if place.startswith("GPU-") else place)


def _rule_rows(rule: RuleState) -> Iterable[tuple[str, ...]]:
    """The first line has what is so of the whole rule."""
    common = [_state(rule), clean(_few(rule.jobs, rule.num_jobs))]
    name, place = clean(rule.rule), _place(rule.place)
    for condition in rule.conditions:
        if isinstance(condition.reading, Missing):
            now = "missing"
        elif condition.short:
            now = reading_of(condition.reading, condition.unit)
        else:
            now = "yes" if condition.reading else "no"
        yield (
            name,
            place,
            clean(condition.what),
            clean(now),
            condition.short or "yes",
            condition.clear or "no",
            *common,
        )
        name, place, common = "", "", ["", ""]
    if not rule.conditions:
        yield (name, place, "", "", "", "", *common)


def _state(rule: RuleState) -> str:
    if not rule.is_enabled:
        return "disabled"
    if rule.missing:
        return f"{'on' if rule.is_on else 'off'}, no reading"
    if rule.held_s:
        word = "on, clear" if rule.is_on else "off, short"
        return f"{word} for {duration(rule.held_s)} of {duration(rule.hold_s)}"
    if rule.is_on:
        return f"on for {duration(rule.for_s)}" if rule.for_s else "on"
    return f"off, {rule.near_pct:.0f} % near"


def share_lines(shares: Sequence[Share], *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return a table of users, with a line for each: who has had least for his weight first."""
    rows = [
        (
            clean(one.user),
            number(one.weight),
            hours(one.slot_h),
            number(one.num_slots),
            str(one.num_waiting),
            "next" if one.is_next else "-",
        )
        for one in shares
    ]
    return whole_table(_SHARES, rows, width=width, colour=colour)


def changes(before: Settings, after: Settings) -> list[str]:
    """Return in words what another set of settings would change."""
    lines = [
        f"[{section}] {name}: {_toml(old)} -> {_toml(new)}"
        for section in ("policy", "queue", "shares")
        for name, old, new in _differences(getattr(before, section), getattr(after, section))
    ]
    old_rules = {rule.name: rule for rule in before.rules}
    new_rules = {rule.name: rule for rule in after.rules}
    lines += [f"rule {name}: gone" for name in old_rules if name not in new_rules]
    for name, rule in new_rules.items():
        if name not in old_rules:
            lines.append(f"rule {name}: new, {_conditions(rule)}")
            continue
        lines += [
            f"rule {name}: {key}: {_toml(old)} -> {_toml(new)}"
            for key, old, new in _differences(old_rules[name], rule)
        ]
    common = [name for name in new_rules if name in old_rules]
    if common != [name for name in old_rules if name in new_rules]:
        lines.append(f"the order of importance: {', '.join(common)}")
    return lines


def _differences(before: msgspec.Struct, after: msgspec.Struct) -> Iterable[tuple[str, Any, Any]]:
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield name, old, new


def _conditions(rule: Rule) -> str:
    return " and ".join(_toml(condition) for condition in rule.when)


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, msgspec.Struct):
        said = msgspec.to_builtins(value)
        return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in said.items())} }}" if said else "all"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:g}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def report_lines(report: SimulationReport, *, width: int | None = None, colour: bool = False) -> list[str]:
    """Return what a simulation did to each job."""
    rows = [
        (
            clean(job.name),
            duration(job.ran_s),
            duration(job.paused_s),
            duration(job.queued_s),
            str(job.num_pauses),
            str(job.num_flaps),
            duration(job.late_s),
            duration(job.needless_s),
        )
        for job in report.jobs.values()
    ]
    lines = table(_JOBS, rows, width=width)
    return [bold(lines[0]), *lines[1:]] if colour else lines


def timeline_lines(
    timeline: Sequence[Happening], *, width: int | None = None, colour: bool = False
) -> list[str]:
    """Return a line for each verdict of a simulation, by the wall clock."""
    rows = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at)),
            clean(one.job),
            f"{one.kind} ({one.depth})" if one.depth else one.kind,
            clean(one.rule),
            clean(one.reason),
        )
        for one in timeline
    ]
    if not rows or has_room(_TIMELINE, rows, width, for_column="RULE"):
        return whole_table(_TIMELINE, rows, width=width, colour=colour)
    joined = [(*row[:3], f"{row[3]}  {row[4]}") for row in rows]
    return whole_table(_TALL_TIMELINE, joined, width=width, colour=colour)
