"""Which checkpoints go, and why each of the others stays.

Covers: the decision, over names. Does not cover: removing (commit.py).

Pure. It runs only after a commit, so the checkpoint just saved is known to be
good; it is never among those that go, whatever its step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer_shim.checkpoint.layout import Name

__all__ = ["Verdict", "decide"]


@dataclass(frozen=True)
class Verdict:
    """One checkpoint's fate and its reason, in words for a person."""

    name: Name
    stays: bool
    why: str


def decide(names: Iterable[Name], *, saved: Name, keep_last: int) -> list[Verdict]:
    """One verdict per checkpoint, newest first."""
    ordered = sorted({*names, saved}, reverse=True)
    steps = sorted({name.step for name in ordered}, reverse=True)
    newest_of = {name.step: name for name in reversed(ordered)}
    return [_judge(name, newest_of[name.step], steps.index(name.step), saved, keep_last) for name in ordered]


def _judge(name: Name, newest_of_step: Name, age: int, saved: Name, keep_last: int) -> Verdict:
    """The fate of one checkpoint, the `age`-th newest step."""
    if name == saved:
        return Verdict(name, stays=True, why="it was saved last")
    if name != newest_of_step:
        return Verdict(name, stays=False, why=f"`{newest_of_step}` is of the same step and newer")
    if age < keep_last:
        return Verdict(name, stays=True, why=f"it is among the last {keep_last}")
    return Verdict(name, stays=False, why=f"it is older than the last {keep_last}")
