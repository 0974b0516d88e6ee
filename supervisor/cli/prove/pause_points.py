"""Where a run that is proved is paused: where most goes wrong first, the rest spread over the run. Pure.

What a loop carries and nobody saves shows after a restart only, when enough was carried before it and enough
steps follow. So exits have the first choice of places: in the middle of an epoch half-way through the run,
late, and in the first steps.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from trainer_shim.trace import Point

__all__ = ["Depth", "choose"]

Depth = Literal["hold", "offload", "exit"]
#: A boundary, as step and epoch.
_Where = tuple[int, int]

#: Parts of the run, in which one place each is chosen; behind the last one enough steps follow.
_MIDDLE: Final = (0.3, 0.5)
_LATE: Final = (0.65, 0.85)
#: The first steps are so many, or fewer of a short run.
_NUM_FIRST: Final = 3
#: So often places are drawn again that a counter modulo something could not tell from one another.
_MAX_DRAWS: Final = 50


def choose(wheres: Sequence[_Where], num_pauses: int, depths: Sequence[Depth], seed: int) -> list[Point]:
    """Return the pauses in order; `wheres` are the boundaries of the run, each as step and epoch.

    Of several depths `exit` comes first: of few pauses most are exits, of many each depth gets as many as the
    others, or a few less. One of four or more is at the end of an epoch.
    """
    run = _Boundaries(wheres)
    rng = random.Random(seed)
    num_pauses = min(num_pauses, len(run.all))
    turns = list(itertools.islice(_turns(depths), num_pauses))
    # Exits first: they lose the most, so they get the places where a loss would show.
    turns.sort(key=lambda depth: depth != "exit")
    places = run.places(num_pauses, turns.count("exit"), rng)
    return sorted(Point(step, epoch, depth) for (step, epoch), depth in zip(places, turns, strict=True))


def _turns(depths: Sequence[Depth]) -> Iterator[Depth]:
    """The depths of the first pause, of the second, and so on."""
    if "exit" in depths and len(depths) > 1:
        # More restarts than one: two losses may hide each other, or lie where nothing was carried.
        if "offload" in depths:
            yield from ("exit", "exit", "offload", "exit", "hold")
        else:
            yield from ("exit", "exit", "exit", "hold", "hold")
    yield from itertools.cycle(depths)


class _Boundaries:
    """The boundaries of a run, in order."""

    def __init__(self, wheres: Sequence[_Where]) -> None:
        self.all = sorted(wheres)
        self._index = {where: index for index, where in enumerate(self.all)}
        ends = {after for before, after in itertools.pairwise(self.all) if after[0] == before[0]}
        #: The ends of epochs, which have the step of the boundary before; the last one if there is no other.
        self._ends = ends - set(self.all[-1:]) or ends
        steps = [one for one in self.all if one not in ends]
        #: The number of each step in its epoch, from 1.
        self._number = {
            one: number
            for _, epoch in itertools.groupby(steps, key=lambda one: one[1])
            for number, one in enumerate(epoch, start=1)
        }
        lasts = {max(epoch) for _, epoch in itertools.groupby(steps, key=lambda one: one[1])}
        #: In the middle of an epoch: neither its first step nor its last one.
        self._inner = {one for one, number in self._number.items() if number > 1 and one not in lasts}

    def places(self, num_places: int, num_exits: int, rng: random.Random) -> list[_Where]:
        """Return so many different boundaries, the most telling first."""
        for _ in range(_MAX_DRAWS):
            chosen = self._draw(num_places, rng)
            if self._are_odd(chosen[:num_exits]):
                break
        return chosen

    def _draw(self, num_places: int, rng: random.Random) -> list[_Where]:
        num = len(self.all)
        middle, late = (self.all[int(a * num) : int(b * num)] for a, b in (_MIDDLE, _LATE))
        first = self.all[: max(1, min(_NUM_FIRST, num // 6))]
        # Between two epochs a run holds other things than between two batches.
        between = [one for one in late if one in self._ends]
        is_between = between and rng.random() < 1 / 3
        wanted: list[list[Iterable[_Where]]] = [
            [self._inner.intersection(middle), self._inner, middle],
            [between if is_between else self._inner.intersection(late), late],
            [first],
        ]
        chosen: list[_Where] = []
        for ways in wanted[:num_places]:
            free = (sorted(set(way).difference(chosen)) for way in (*ways, self.all))
            chosen.append(rng.choice(next(filter(None, free))))
        if num_places > len(chosen) and self._ends and not self._ends.intersection(chosen):
            chosen.append(rng.choice(sorted(self._ends)))
        while len(chosen) < num_places:
            chosen.append(self._in_widest_gap(chosen, rng))
        return chosen

    def _in_widest_gap(self, chosen: Sequence[_Where], rng: random.Random) -> _Where:
        """A boundary about half-way between two that are chosen and have most others between them."""
        edges = sorted([-1, len(self.all), *(self._index[one] for one in chosen)])
        before, after = max(itertools.pairwise(edges), key=lambda gap: gap[1] - gap[0])
        side = max(1, 7 * (after - before) // 16)
        return self.all[rng.randint(before + side, after - side)]

    def _are_odd(self, places: Sequence[_Where]) -> bool:
        """Whether a count of steps that begins anew at each of them is told from one that goes on."""
        if len(places) < 2:
            return True
        numbers = [self._number.get(one, 0) for one in places]
        return math.gcd(*(step for step, _ in places)) == 1 and math.gcd(*numbers) == 1
