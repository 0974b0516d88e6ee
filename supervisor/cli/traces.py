"""What two runs of one training say about each other. Pure.

Covers: reading a trace, the first number and every leaf of the final state
that differ, counting what was compared.
Does not cover: why they differ (cause.py), running anything (proving.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from trainer_shim import trace

__all__ = ["Comparison", "Difference", "Run", "changed", "compare", "is_layout_only", "run_of"]

#: Step and epoch of a boundary: the end of an epoch has the step of its last batch.
Where = tuple[int, int]


@dataclass
class Run:
    """A trace by what is looked up in it."""

    #: Step -> name -> values in the order they were reported.
    metrics: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    steps: dict[Where, trace.Step] = field(default_factory=dict)
    looks: dict[Where, trace.Look] = field(default_factory=dict)
    #: What each checkpoint brought back, by where it was taken.
    restored: dict[Where, dict[str, str]] = field(default_factory=dict)
    #: What stood where a run got back the memory that it had given back.
    returned: dict[Where, dict[str, str]] = field(default_factory=dict)
    paused: list[trace.Paused] = field(default_factory=list)
    not_paused: list[trace.NotPaused] = field(default_factory=list)
    #: Where processes began. There a loop may report again what it did at the head of its epoch.
    started_at: set[int] = field(default_factory=set)
    has_left: bool = False
    end: trace.End | None = None

    @property
    def has_begun(self) -> bool:
        """Whether attach() was called at all."""
        return bool(self.started_at)

    @property
    def num_steps(self) -> int:
        """Boundaries passed, those at the ends of epochs not counted."""
        return max((step for step, _ in self.steps), default=0)


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not the same; `without` and `paused` are None where a run does not have it."""

    name: str
    without: str | None
    paused: str | None
    #: None in the final state.
    step: int | None = None


class Comparison(msgspec.Struct, frozen=True):
    """Everything that was compared, and what differs: numbers by step, then leaves of the final state."""

    num_steps: int
    num_numbers: int
    num_tensors: int
    num_values: int
    numbers: list[Difference]
    state: list[Difference]

    @property
    def is_identical(self) -> bool:
        """Whether nothing at all differs."""
        return not self.numbers and not self.state


def run_of(records: Iterable[trace.Record]) -> Run:
    """Return a trace, ordered; what a repeated boundary says counts last."""
    run = Run()
    for record in records:
        run.has_left = False
        match record:
            case trace.Start(step=step, epoch=epoch, state=state):
                run.started_at.add(step)
                run.restored |= {} if state is None else {(step, epoch): state}
            case trace.Metric(step=step, name=name, value=value):
                run.metrics.setdefault(step, {}).setdefault(name, []).append(value)
            case trace.Step(step=step, epoch=epoch):
                run.steps[step, epoch] = record
            case trace.Look(step=step, epoch=epoch):
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


def compare(without: Run, paused: Run) -> Comparison:
    """Return how a run with pauses differs from one without."""
    final, other = _final(without), _final(paused)
    tensors = [leaf for leaf in final.values() if _is_tensor(leaf)]
    return Comparison(
        num_steps=without.num_steps,
        num_numbers=sum(len(values) for named in without.metrics.values() for values in named.values()),
        num_tensors=len(tensors),
        num_values=len(final) - len(tensors),
        numbers=list(_numbers(without, paused)),
        state=changed(final, other),
    )


def changed(before: dict[str, str], after: dict[str, str]) -> list[Difference]:
    """Return the leaves that differ, in the order of the first."""
    names = [*before, *(name for name in after if name not in before)]
    return [
        Difference(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def is_layout_only(leaf: Difference) -> bool:
    """Whether the same numbers lie in memory in another order."""
    before, after = leaf.without, leaf.paused
    if before is None or after is None or not (_is_tensor(before) and _is_tensor(after)):
        return False
    return before.partition(trace.STRIDES)[0] == after.partition(trace.STRIDES)[0]


def _final(run: Run) -> dict[str, str]:
    end = run.end
    return {} if end is None else {**end.state, "step": str(end.step), "epoch": str(end.epoch)}


def _numbers(without: Run, paused: Run) -> Iterator[Difference]:
    for step in sorted({*without.metrics, *paused.metrics}):
        expected, actual = without.metrics.get(step, {}), paused.metrics.get(step, {})
        for name in [*expected, *(name for name in actual if name not in expected)]:
            before, after = expected.get(name, []), actual.get(name, [])
            if step - 1 in paused.started_at:
                after = after[-len(before) :] if before else []
            elif step in paused.started_at:
                after = after[: len(before)]
            if before != after:
                yield Difference(name, *_first_pair(before, after), step=step)


def _first_pair(before: list[str], after: list[str]) -> tuple[str | None, str | None]:
    """The first two values that differ; None for the one that is missing."""
    for index in range(max(len(before), len(after))):
        pair = (
            before[index] if index < len(before) else None,
            after[index] if index < len(after) else None,
        )
        if pair[0] != pair[1]:
            return pair
    raise AssertionError("the lists are equal")


def _is_tensor(leaf: str) -> bool:
    """Whether the leaf is a digest: only plain values are JSON, and only of those some begin like it."""
    return leaf[:1] not in '"[{-0123456789' and leaf not in ("null", "true", "false")
