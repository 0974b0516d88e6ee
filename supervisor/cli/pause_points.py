"""Where a run that is proved is paused: spread over the run, by a seed. Pure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Literal

from trainer_shim.trace import Point

__all__ = ["Depth", "choose"]

Depth = Literal["hold", "exit", "mixed"]


def choose(wheres: Sequence[tuple[int, int]], num_pauses: int, depth: Depth, seed: int) -> list[Point]:
    """Return the pauses in order: one in each equal part of the run, one of several at the end of an epoch.

    `wheres` are the boundaries of the run, each as step and epoch.
    """
    wheres = sorted(wheres)
    rng = random.Random(seed)
    num_pauses = min(num_pauses, len(wheres))
    edges = [index * len(wheres) // num_pauses for index in range(num_pauses + 1)] if num_pauses else []
    parts = [wheres[first:last] for first, last in itertools.pairwise(edges)]
    picks = [rng.choice(part) for part in parts]
    ends = _ends_of_epochs(wheres)
    if num_pauses > 1 and ends and not ends.intersection(picks):
        end = rng.choice(sorted(ends))
        picks[next(index for index, part in enumerate(parts) if end in part)] = end
    return [
        Point(step, epoch, how) for (step, epoch), how in zip(picks, _depths(depth, picks, rng), strict=True)
    ]


def _ends_of_epochs(wheres: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """The boundaries that have the step of the one before; the last epoch's if there is no other."""
    ends = {after for before, after in itertools.pairwise(wheres) if after[0] == before[0]}
    return ends - {wheres[-1]} or ends


def _depths(depth: Depth, picks: Sequence[object], rng: random.Random) -> list[Literal["hold", "exit"]]:
    if depth != "mixed":
        return [depth] * len(picks)
    both: list[Literal["hold", "exit"]] = [("exit", "hold")[index % 2] for index in range(len(picks))]
    rng.shuffle(both)
    return both
