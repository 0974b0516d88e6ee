"""Where a run that is proved is paused: spread over the run, by a seed. Pure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Literal

from trainer_shim.trace import Point

__all__ = ["Depth", "choose"]

Depth = Literal["hold", "offload", "exit"]


def choose(
    wheres: Sequence[tuple[int, int]], num_pauses: int, depths: Sequence[Depth], seed: int
) -> list[Point]:
    """Return the pauses in order: one in each equal part of the run, one of several at the end of an epoch.

    `wheres` are the boundaries of the run, each as step and epoch. Of several depths each gets as many as
    the others, or one more, in an order by the seed.
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
    turns = list(itertools.islice(itertools.cycle(depths), len(picks)))
    rng.shuffle(turns)
    return [Point(step, epoch, depth) for (step, epoch), depth in zip(picks, turns, strict=True)]


def _ends_of_epochs(wheres: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """The boundaries that have the step of the one before; the last epoch's if there is no other."""
    ends = {after for before, after in itertools.pairwise(wheres) if after[0] == before[0]}
    return ends - {wheres[-1]} or ends
