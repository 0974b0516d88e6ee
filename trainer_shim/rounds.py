"""Several loaders side by side, each again and again: what `Shim.steps()` makes its one pass over.

Covers: turns of each loader, `set_epoch`, where the pass ends; leaving and taking it up.
Does not cover: one turn of one loader (loader.py), which turns of the loop are boundaries (batches.py).

The pass is one for the whole run. The place in it is that of each loader's present turn, which is taken up as
a pass by itself: of a plain DataLoader no data is read again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from trainer_shim.births import Births
from trainer_shim.carried import Carried
from trainer_shim.errors import CannotRestore
from trainer_shim.loader import Pass, check_kind, open_pass
from trainer_shim.objects import Objects
from trainer_shim.streams import Streams

__all__ = ["Rounds", "check_steps", "open_rounds"]


def check_steps(num_loaders: int, **numbers: int | None) -> None:
    """Raise ValueError for what `Shim.steps()` cannot make steps of."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"cannot make steps with {name}={number}: it is 1 or more")
    if not num_loaders:
        raise ValueError("cannot make steps without a loader: `shim.steps(loader, max_steps=...)`")


class Rounds:
    """The loaders, and where the pass over them ends; `max_turns` are those of the first."""

    def __init__(
        self,
        loaders: tuple[Any, ...],
        *,
        max_items: int | None = None,
        max_turns: int | None = None,
        on_turn: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.loaders, self.max_items, self.max_turns, self.on_turn = loaders, max_items, max_turns, on_turn

    def __iter__(self) -> Iterator[Any]:
        """The same items where nobody keeps the place, as in a pass inside another one."""
        many = [self._forever(number, loader) for number, loader in enumerate(self.loaders)]
        items = many[0] if len(many) == 1 else zip(*many, strict=False)
        return itertools.islice(items, self.max_items)

    def __len__(self) -> int:
        """Items in all; raises TypeError where nothing says when it ends."""
        ends = [] if self.max_items is None else [self.max_items]
        if self.max_turns is not None:
            ends.append(self.max_turns * len(self.loaders[0]))
        if not ends:
            raise TypeError("steps() without max_steps and max_epochs has no length")
        return min(ends)

    def reach(self, births: Births) -> Carried:
        """What all the loaders reach, each below its number."""
        found = Carried({}, Objects())
        _join(found, [births.reached(loader) for loader in self.loaders])
        return found

    def goes_beyond(self, state: Mapping[str, Any]) -> bool:
        """Whether a pass that was over is not over by what this one is given."""
        lanes = state.get("lanes", [])
        more_items = self.max_items is None or state["taken"] < self.max_items
        return more_items and bool(lanes) and (self.max_turns is None or lanes[0]["turn"] < self.max_turns)

    def _forever(self, number: int, loader: Any) -> Iterator[Any]:
        for turn in itertools.count():
            if number == 0 and self.max_turns is not None and turn >= self.max_turns:
                return
            _set_epoch(loader, turn)
            yield from loader


def open_rounds(
    rounds: Rounds, resume: Mapping[str, Any] | None, carried: Carried, births: Births, streams: Streams
) -> Pass:
    """Start the pass, or take it up; as `open_pass` does."""
    check_kind(_Way.kind, resume)
    return Pass(_Way(rounds, resume, carried, births, streams), resume)


class _Way:
    """The pass: a lane for each loader. Has what a `LoaderStrategy` has."""

    kind = "rounds"

    def __init__(
        self,
        rounds: Rounds,
        resume: Mapping[str, Any] | None,
        carried: Carried,
        births: Births,
        streams: Streams,
    ) -> None:
        self._rounds = rounds
        self.notes: list[str] = []
        self.is_exact = True
        self.length: int | None = None
        #: What all loaders reach; the object stays the same when a turn reaches more.
        self.carried = carried
        self._taken = 0 if resume is None else resume["taken"]
        saved = [None] * len(rounds.loaders) if resume is None else resume["lanes"]
        if len(saved) != len(rounds.loaders):
            raise CannotRestore(
                f"cannot take up steps(): the run had {len(saved)} loaders there, the script brings "
                f"{len(rounds.loaders)}",
                hint="bring the same loaders in the same order, or start the run anew",
            )
        self._lanes: list[_Lane] = []
        for number, (loader, lane) in enumerate(zip(rounds.loaders, saved, strict=True)):
            held = {} if resume is None else _inside(resume["held"], number)
            self._lanes.append(_Lane(loader, lane, held, births, streams))

    def look(self) -> None:
        """Note what is to be known of any lane."""
        passes = [lane.now for lane in self._lanes if lane.now is not None]
        self.is_exact = self.is_exact and all(one.exact for one in passes)
        self.notes = list(dict.fromkeys([*self.notes, *(note for one in passes for note in one.notes)]))

    def fetch(self) -> Any:
        """A batch, or one of each loader; StopIteration at the end."""
        if self._rounds.max_items is not None and self._taken >= self._rounds.max_items:
            raise StopIteration
        batches = [self._fetch(number, lane) for number, lane in enumerate(self._lanes)]
        self._taken += 1
        return batches[0] if len(batches) == 1 else tuple(batches)

    def save(self) -> dict[str, Any]:
        """Turn and place of each lane."""
        return {"lanes": [lane.place() for lane in self._lanes]}

    def let_go(self) -> Callable[[], Mapping[str, Any]]:
        """The pass is over: no worker lives on."""
        for lane in self._lanes:
            lane.let_go()
        return dict

    def _fetch(self, number: int, lane: _Lane) -> Any:
        # A turn begins with its first batch: nobody draws between the two, so it can be begun again.
        if lane.now is not None:
            with suppress(StopIteration):
                return next(lane.now)
            lane.turn += 1
            if number == 0 and self._rounds.max_turns is not None and lane.turn >= self._rounds.max_turns:
                raise StopIteration
        turn = lane.begin()
        _join(self.carried, [one.carried for one in self._lanes])
        if number == 0:
            self._rounds.on_turn(lane.turn)
        try:
            return next(turn)
        except StopIteration:
            raise RuntimeError(
                f"cannot begin turn {lane.turn} of loader {number} of steps(): it gives no batch; an "
                "iterator can be gone through once only, hand over what `iter()` can be called on again"
            ) from None


class _Lane:
    """One loader, in its present turn."""

    def __init__(
        self, loader: Any, saved: Any, held: dict[str, Any], births: Births, streams: Streams
    ) -> None:
        self._loader, self._births, self._streams = loader, births, streams
        self.carried = births.reached(loader)
        self.turn = 0
        #: None before the first batch of all.
        self.now: Pass | None = None
        if saved is not None and saved["place"] is not None:
            # One that was through counts for the next turn already.
            self.turn = saved["turn"] - saved["place"]["ended"]
            _set_epoch(loader, self.turn)
            self.now = open_pass(loader, {**saved["place"], "held": held}, self.carried, streams)

    def begin(self) -> Pass:
        """Begin a turn, as `iter(loader)` does."""
        self.let_go()
        _set_epoch(self._loader, self.turn)
        self.carried = self._births.reached(self._loader)
        self.now = open_pass(self._loader, None, self.carried, self._streams)
        return self.now

    def place(self) -> dict[str, Any]:
        return {"turn": self.turn, "place": None if self.now is None else self.now.place()}

    def let_go(self) -> None:
        """No worker of the turn lives on."""
        if self.now is not None:
            self.now.let_go()
            self._streams.let_go()


def _join(whole: Carried, lanes: list[Carried]) -> None:
    """Let one reach what several do."""
    whole.held, whole.generators = {}, []
    for number, lane in enumerate(lanes):
        whole.held.update({f"{number}.{path}": held for path, held in lane.held.items()})
        whole.generators += [f"{number}.{path}" for path in lane.generators]


def _inside(states: Mapping[str, Any], number: int) -> dict[str, Any]:
    head = f"{number}."
    return {path.removeprefix(head): state for path, state in states.items() if path.startswith(head)}


def _set_epoch(loader: Any, turn: int) -> None:
    """Say which turn it is to whoever orders the data by it, as torch's DistributedSampler does."""
    for name in ("", "sampler", "batch_sampler", "dataset"):
        one = getattr(loader, name, None) if name else loader
        set_epoch = getattr(type(one), "set_epoch", None)
        if set_epoch is not None:
            set_epoch(one, turn)
