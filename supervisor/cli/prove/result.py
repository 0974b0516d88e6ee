"""What a proof came to, and how people and programs are told.

Covers: the verdict, its lines.
Does not cover: how it is reached (prove.py), the causes (cause.py).

No word of it says more than what was tried: that nothing differed at these pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from supervisor.cli.output.screen import data, hint
from supervisor.cli.output.text import clean
from supervisor.cli.prove.traces import TraceDifference
from trainer_shim.trace import Point

__all__ = ["ProofResult", "show"]

_MAX_SHOWN: Final = 8


class ProofResult(msgspec.Struct, frozen=True, kw_only=True):
    """The row of `--json`."""

    #: `identical`, `doubtful`, `different`, `not-repeatable` or `failed`.
    verdict: str
    seed: int
    pauses: list[Point]
    #: How many of `pauses` the run came to; the others lie behind a way that it did not take.
    num_reached: int = 0
    num_steps: int = 0
    num_numbers: int = 0
    num_tensors: int = 0
    num_values: int = 0
    #: Reported numbers that differ, ordered by step; empty: none does.
    numbers: list[TraceDifference] = []
    #: Leaves of the final state that differ, without a step; empty: none does.
    state: list[TraceDifference] = []
    cause: str = ""
    hint: str = ""
    #: Why `mixed` went without `offload`, where the run seemed able to do it; "": it did not go without.
    left_out: str = ""
    #: What the shim said may not be exact.
    said: list[str] = []
    #: Global generators that stood elsewhere at some later step.
    strays: list[str] = []


def show(verdict: ProofResult) -> None:
    """Print it for people."""
    if verdict.verdict in ("identical", "doubtful"):
        _show_nothing_differed(verdict)
        return
    head = f"{verdict.verdict.replace('-', ' ')}: "
    if verdict.num_steps:
        num_leaves = verdict.num_tensors + verdict.num_values
        head += (
            f"{len({one.step for one in verdict.numbers})} of {verdict.num_steps} steps "
            f"and {len(verdict.state)} of {num_leaves} leaves of the final state, "
        )
    data(f"{head}at {_pauses(verdict)}{_left_out(verdict)}")
    data(f"likely cause: {clean(verdict.cause)}")
    for difference in _first_of_each(verdict.numbers)[:_MAX_SHOWN]:
        data(f"step {difference.step}: {_pair(difference)}")
    for difference in verdict.state[:_MAX_SHOWN]:
        data(f"final state: {_pair(difference)}")
    if len(verdict.state) > _MAX_SHOWN:
        data(f"final state: {len(verdict.state) - _MAX_SHOWN} more")
    _show_said([one for one in verdict.said if one not in verdict.cause])
    hint(clean(verdict.hint))


def _show_nothing_differed(verdict: ProofResult) -> None:
    is_doubtful = verdict.verdict == "doubtful"
    data(
        f"{'doubtful: ' if is_doubtful else ''}nothing differed at {_pauses(verdict)} of {verdict.num_steps} "
        f"steps: {verdict.num_numbers} reported numbers, {verdict.num_tensors} tensors and "
        f"{verdict.num_values} values of the final state{_left_out(verdict)}"
    )
    if not is_doubtful:
        return
    if verdict.num_reached < len(verdict.pauses):
        data("the run with pauses took another way: it did not come to the others")
    for name in verdict.strays:
        data(f"the generator `{name}` stood elsewhere later on in the run with pauses")
    _show_said(verdict.said)
    hint("what is lost there may show at other steps, or only in what is no part and is not reported")


def _show_said(said: Sequence[str]) -> None:
    for text in said:
        data(f"the shim said: {clean(text)}")


def _pauses(verdict: ProofResult) -> str:
    """How many pauses there were of each depth."""
    depths = [point.depth for point in verdict.pauses]
    counts = [(depths.count(one), one) for one in ("exit", "offload", "hold") if one in depths]
    *most, last = [f"{num} {depth}{'s' if num > 1 else ''}" for num, depth in counts]
    text = f"{', '.join(most)} and {last}" if most else last
    if verdict.verdict == "doubtful" and verdict.num_reached < len(depths):
        return f"{verdict.num_reached} of {text}"
    return text


def _left_out(verdict: ProofResult) -> str:
    """Which depth there was none of, and why."""
    return f"; none by offload: {clean(verdict.left_out)}" if verdict.left_out else ""


def _first_of_each(differences: Sequence[TraceDifference]) -> list[TraceDifference]:
    """The first difference of every metric."""
    first: dict[str, TraceDifference] = {}
    for difference in differences:
        first.setdefault(difference.name, difference)
    return list(first.values())


def _pair(difference: TraceDifference) -> str:
    kinds = {(value or "").rpartition(" ")[0] for value in (difference.without, difference.paused)}
    if len(kinds) == 1 and "" not in kinds:
        return clean(f"{difference.name}, {kinds.pop()}, holds other numbers")
    return clean(
        f"{difference.name} is {_readable(difference.without)} without and "
        f"{_readable(difference.paused)} with pauses"
    )


def _readable(value: str | None) -> str:
    if value is None:
        return "missing"
    try:
        return repr(float.fromhex(value)) if "0x" in value else value
    except ValueError:
        return value
