"""Which checkpoints go, and why each of the others stays.

Covers: the decision, over what is known of each without reading its tensors.
Does not cover: learning that (survey.py), removing (removal.py).

Pure. Several rules may keep one checkpoint; it goes when none does. A metric
that is missing, NaN or infinite never makes a checkpoint one of the best: a
number that says nothing must not cost one that says something its place.
Checkpoints with equal values are taken for saves after one evaluation, so the
value counts once and its oldest checkpoint has it: that is the one nearest to
the weights that were measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from trainer_shim.checkpoint.layout import Name

__all__ = ["Keep", "KeepDecision", "Known", "best_first", "decide"]

_HOUR_S = 3600.0


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """What a run keeps, besides what never goes: `attach(keep=Keep(last=3, best=2, metric="val_loss"))`."""

    #: So many steps, the newest ones.
    last: int = 3
    #: So many by `metric`, a name given to `shim.report()`.
    best: int = 0
    metric: str = ""
    #: Which values of the metric are good.
    mode: Literal["min", "max"] = "min"
    #: The first of every so many hours, counted from 1970 UTC; these stay for ever.
    every_h: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.last < 1:
            raise ValueError(f"cannot keep the last {self.last} checkpoints: the newest one always stays")
        if self.best < 0 or bool(self.best) != bool(self.metric):
            raise ValueError(f"cannot keep the best {self.best} by `{self.metric}`: give both, or neither")
        if self.mode not in ("min", "max"):
            raise ValueError(f"cannot tell the best by `{self.mode}`: it is `min` or `max`")
        if self.every_h is not None and not (math.isfinite(self.every_h) and self.every_h > 0):
            raise ValueError(f"cannot keep one every {self.every_h} hours")


class Known(msgspec.Struct, frozen=True):
    """What can be known of a checkpoint at a glance."""

    name: Name
    #: Unix time.
    saved_s: float | None = None
    metrics: Mapping[str, float] = msgspec.field(default_factory=dict)
    #: Its manifest is there and cannot be true.
    is_damaged: bool = False
    #: Why it cannot be judged here and now, or "".
    doubt: str = ""
    #: The note of its pin; None: not pinned.
    pin: str | None = None
    is_read: bool = False


class KeepDecision(msgspec.Struct, frozen=True):
    """One checkpoint's fate and its reason, in words for a person."""

    name: Name
    stays: bool
    why: str


def decide(known: Iterable[Known], keep: Keep, *, saved: Name | None = None) -> list[KeepDecision]:
    """One verdict per checkpoint, newest first; `saved` is the one just written, which is known to be good.

    Never go: that one, the newest good one, pinned ones, those being read, those that cannot be judged.
    """
    ordered = sorted(known, key=lambda one: one.name, reverse=True)
    good = _newest_of_each_step(ordered)
    ranks = {one.name: rank for rank, one in enumerate(best_first(good, keep)[: keep.best], 1)}
    firsts = _first_of_each_slot(good, keep)
    verdicts = []
    for one in ordered:
        age = sum(other.name > one.name for other in good)
        is_good = one in good
        why = [
            *_never_goes(one, saved, good),
            *([f"among the last {keep.last}"] if is_good and age < keep.last else []),
            *([_rank(one, ranks[one.name], keep)] if one.name in ranks else []),
            *([f"first of its {keep.every_h:g} h"] if one.name in firsts else []),
            *([f"damaged, and not older than the last {keep.last}"] if _lingers(one, age, keep) else []),
        ]
        verdicts.append(KeepDecision(one.name, bool(why), "; ".join(why) or _why_it_goes(one, good, keep)))
    return verdicts


def best_first(known: Sequence[Known], keep: Keep) -> list[Known]:
    """Those with a finite value of the metric, one for each value."""
    of_value: dict[float, Known] = {}
    for one in sorted(known, key=lambda one: one.name):
        value = one.metrics.get(keep.metric, math.nan)
        if math.isfinite(value):
            of_value.setdefault(value, one)
    return [of_value[value] for value in sorted(of_value, reverse=keep.mode == "max")]


def _newest_of_each_step(ordered: Sequence[Known]) -> list[Known]:
    """Those that can be restored from, as far as is known, newest first."""
    newest: dict[int, Known] = {}
    for one in ordered:
        if not one.is_damaged and not one.doubt:
            newest.setdefault(one.name.step, one)
    return list(newest.values())


def _first_of_each_slot(good: Sequence[Known], keep: Keep) -> set[Name]:
    """The oldest of every `every_h` hours. Slots lie where they lie, so later checkpoints change nothing."""
    firsts: dict[float, Name] = {}
    if keep.every_h is not None:
        for one in reversed(good):
            if one.saved_s is not None:
                firsts.setdefault(one.saved_s // (keep.every_h * _HOUR_S), one.name)
    return set(firsts.values())


def _never_goes(one: Known, saved: Name | None, good: Sequence[Known]) -> Iterable[str]:
    if one.name == saved:
        yield "saved last"
    if good and one is good[0]:
        yield "newest"
    if one.pin is not None:
        yield f"pinned: {one.pin}" if one.pin else "pinned"
    if one.is_read:
        yield "being read"
    if one.doubt:
        yield f"cannot be judged: {one.doubt}"


def _lingers(one: Known, age: int, keep: Keep) -> bool:
    """Whether a damaged one is young enough that a person may want to look at it."""
    return one.is_damaged and age < keep.last


def _rank(one: Known, rank: int, keep: Keep) -> str:
    return f"best {rank} of {keep.best} by {keep.metric} ({one.metrics[keep.metric]:.4g})"


def _why_it_goes(one: Known, good: Sequence[Known], keep: Keep) -> str:
    if one.is_damaged:
        return f"damaged, and older than the last {keep.last}"
    of_step = next(other for other in good if other.name.step == one.name.step)
    if of_step is not one:
        return f"saved again as `{of_step.name}`"
    why = f"older than the last {keep.last}"
    if keep.best:
        has_value = math.isfinite(one.metrics.get(keep.metric, math.nan))
        why += f", not among the best by {keep.metric}" if has_value else f", no {keep.metric}"
    return why
