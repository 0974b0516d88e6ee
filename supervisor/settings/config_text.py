"""The default settings as TOML, each line with its documentation: what --print-config prints.

Covers: text. Does not cover: reading it back (config.py); a test sees that it is the same.
"""

from __future__ import annotations

import textwrap
from typing import Any, Final, get_args, get_type_hints

import msgspec
from msgspec import Meta

from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.rules import Condition, Rule
from supervisor.settings.config import Config, default_of

__all__ = ["annotated_toml"]

_WIDTH: Final = 108

_RULES: Final = """\
The rules that are in force by default, in the order of their importance. To change one, write a rule of
the same name with what differs; one with a `when` of its own replaces it; `enabled = false` switches it
off. A rule of your own stands behind them. Keys that are not used below:
  jobs = { names = ["night-*"], users = ["ada"], labels = { team = "speech" } }   only these
  deadline_s = 300             a pause that reaches no batch boundary in that time is late
  at_deadline = "wait"         what is done with a late one: wait, freeze or terminate
A condition in `when` is one of: a metric with two thresholds (`above` and `clear_below`, or `below` and
`clear_above`; docs/POLICY.md lists the metrics), clock = "mon-fri 09:00-18:00" (local time),
program = "steam" (it runs, and is not one of ours)."""

_LINES: Final = {
    "when": "short while all of this is so",
    "pause_after_s": "short for that long: a job yields",
    "pause_again_after_s": "the same where it has just come back",
    "resume_after_s": "clear for that long: jobs come back, one at a time",
    "depth": "auto: the cheapest that gives back what is short; or hold, offload, exit",
    "escalate_after_s": "still short after that long: a paused job gives back more",
}


def annotated_toml() -> str:
    """Return the default settings as TOML, each with its documentation."""
    lines = ["# Settings of training-supervisord, with their defaults.", ""]
    for section in msgspec.structs.fields(Config):
        if section.name == "rules":
            continue
        kind: Any = section.type
        lines += [f"# {(kind.__doc__ or '').strip()}", f"[{section.name}]"]
        hints = get_type_hints(kind, include_extras=True)
        for field in msgspec.structs.fields(kind):
            lines += [f"# {_describe(hints[field.name])}", f"{field.name} = {_toml(default_of(field))}"]
        lines.append("")
    lines += [f"# {line}" for line in _RULES.splitlines()]
    for rule in DEFAULT_RULES:
        lines += ["", *_rule(rule)]
    return "\n".join([*lines, ""])


def _rule(rule: Rule) -> list[str]:
    lines = ["[[rules]]", f"name = {_toml(rule.name)}", 'about = """\\']
    lines += [" \\\n".join(textwrap.wrap(rule.about, _WIDTH)) + '"""', f"# {_LINES['when']}", "when = ["]
    lines += [f"  {_condition(condition)}," for condition in rule.when]
    lines.append("]")
    for key in ("pause_after_s", "pause_again_after_s", "resume_after_s", "depth", "escalate_after_s"):
        value = getattr(rule, key)
        if value:
            lines.append(f"{key} = {_toml(value)}".ljust(28) + f"  # {_LINES[key]}")
    return lines


def _condition(condition: Condition) -> str:
    said = msgspec.to_builtins(condition)
    return "{ " + ", ".join(f"{key} = {_toml(value)}" for key, value in said.items()) + " }"


def _describe(hint: Any) -> str:
    metas = [arg for arg in get_args(hint)[1:] if isinstance(arg, Meta)]
    text = next((meta.description for meta in metas if meta.description), "")
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    return f"{text} From {low:.12g} to {high:.12g}." if low is not None and high is not None else text


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(one)}' for key, one in value.items())}}}"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
