"""What two runs of one training say about each other. Pure.

Covers: reading a trace, the first number and every leaf of the final state
that differ, counting what was compared.
Does not cover: why they differ (cause.py), running anything (proving.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from trainer_shim import trace
from trainer_shim.state_digests import STRIDES

__all__ = [
    "Comparison",
    "TraceDifference",
    "TracedRun",
    "changed",
    "compare",
    "first_number",
    "is_layout_only",
    "run_of",
]

#: Step and epoch of a boundary: the end of an epoch has the step of its last batch.
Where = tuple[int, int]


@dataclass
class TracedRun:
    """A trace by what is looked up in it."""

    #: The boundary before them -> name -> numbers in the order they were reported.
    metrics: dict[Where, dict[str, list[trace.TracedMetric]]] = field(default_factory=dict)
    steps: dict[Where, trace.Step] = field(default_factory=dict)
    looks: dict[Where, trace.TracedLook] = field(default_factory=dict)
    #: What each checkpoint brought back, by where it was taken.
    restored: dict[Where, dict[str, str]] = field(default_factory=dict)
    #: What stood where a run got back the memory that it had given back.
    returned: dict[Where, dict[str, str]] = field(default_factory=dict)
    paused: list[trace.Paused] = field(default_factory=list)
    not_paused: list[trace.NotPaused] = field(default_factory=list)
    #: attach() was called; False: the script ended before, or has none.
    has_begun: bool = False
    #: Where later processes began: up to the next boundary a loop may first report again what it did before.
    restarted: set[Where] = field(default_factory=set)
    has_left: bool = False
    #: What the shim said may keep it from going on exactly.
    said: list[str] = field(default_factory=list)
    end: trace.End | None = None

    @property
    def num_steps(self) -> int:
        """Boundaries passed, those at the ends of epochs not counted."""
        return max((step for step, _ in self.steps), default=0)


class TraceDifference(msgspec.Struct, frozen=True):
    """One thing that is not the same; `without` and `paused` are None where a run does not have it."""

    name: str
    without: str | None
    paused: str | None
    #: None: it is a leaf of the final state.
    step: int | None = None


class Comparison(msgspec.Struct, frozen=True):
    """Everything that was compared, and what differs: numbers by step, then leaves of the final state."""

    num_steps: int
    num_numbers: int
    num_tensors: int
    num_values: int
    numbers: list[TraceDifference]
    state: list[TraceDifference]

    @property
    def is_identical(self) -> bool:
        """Whether nothing at all differs."""
        return not self.numbers and not self.state


def run_of(records: Iterable[trace.Record]) -> TracedRun:  # noqa: C901  # A case for each record.
    """Return a trace, ordered; what a repeated boundary says counts last."""
    run = TracedRun()
    behind: Where = (0, 0)
    for record in records:
        run.has_left = False
        match record:
            case trace.TracedStart(step=step, epoch=epoch, state=state):
                behind = (step, epoch)
                run.restarted |= {behind} if run.has_begun else set()
                run.has_begun = True
                run.restored |= {} if state is None else {behind: state}
            case trace.TracedMetric(name=name):
                run.metrics.setdefault(behind, {}).setdefault(name, []).append(record)
            case trace.Step(step=step, epoch=epoch):
                behind = (step, epoch)
                run.steps[behind] = record
            case trace.Said(text=text):
                run.said.append(text)
            case trace.TracedLook(step=step, epoch=epoch):
                run.looks[step, epoch] = record
            case trace.Paused():
                run.paused.append(record)
                run.has_left = record.depth == "exit"
            case trace.Returned(step=step, epoch=epoch, state=state):
                run.returned[step, epoch] = state
            case trace.NotPaused():
                run.not_paused.append(record)
            case trace.End():
                run.end = record
    return run


def compare(without: TracedRun, paused: TracedRun) -> Comparison:
    """Return how a run with pauses differs from one without."""
    final, other = _final(without), _final(paused)
    tensors = [leaf for leaf in final.values() if _is_tensor(leaf)]
    return Comparison(
        num_steps=without.num_steps,
        num_numbers=sum(len(values) for named in without.metrics.values() for values in named.values()),
        num_tensors=len(tensors),
        num_values=len(final) - len(tensors),
        numbers=sorted((one for _, one in _numbers(without, paused)), key=lambda one: one.step or 0),
        state=changed(final, other),
    )


def first_number(without: TracedRun, paused: TracedRun) -> Where | None:
    """Return the boundary before the first number that differs, None where all are the same."""
    return next((behind for behind, _ in _numbers(without, paused)), None)


def changed(before: dict[str, str], after: dict[str, str]) -> list[TraceDifference]:
    """Return the leaves that differ, in the order of the first."""
    names = [*before, *(name for name in after if name not in before)]
    return [
        TraceDifference(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def is_layout_only(leaf: TraceDifference) -> bool:
    """Whether the same numbers lie in memory in another order."""
    before, after = leaf.without, leaf.paused
    if before is None or after is None or not (_is_tensor(before) and _is_tensor(after)):
        return False
    return before.partition(STRIDES)[0] == after.partition(STRIDES)[0]


def _final(run: TracedRun) -> dict[str, str]:
    end = run.end
    return {} if end is None else {**end.state, "step": str(end.step), "epoch": str(end.epoch)}


def _numbers(without: TracedRun, paused: TracedRun) -> Iterator[tuple[Where, TraceDifference]]:
    """Yield the numbers that differ, each with the boundary before it."""
    for behind in sorted({*without.metrics, *paused.metrics}):
        expected, actual = without.metrics.get(behind, {}), paused.metrics.get(behind, {})
        for name in [*expected, *(name for name in actual if name not in expected)]:
            before, after = expected.get(name, []), actual.get(name, [])
            if behind in paused.restarted:
                # What is reported again comes first.
                after = after[max(0, len(after) - len(before)) :]
            for one, other in itertools.zip_longest(before, after):
                if one is None or other is None or one.value != other.value:
                    values = (one.value if one else None, other.value if other else None)
                    yield behind, TraceDifference(name, *values, step=(one or other).step)
                    break


def _is_tensor(leaf: str) -> bool:
    """Whether the leaf is a digest: only plain values are JSON, and only of those some begin like it."""
    return leaf[:1] not in '"[{-0123456789' and leaf not in ("null", "true", "false")
