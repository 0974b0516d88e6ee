"""Where a training loop is: step, epoch, and the passes over its data loaders.

Covers: counting, and taking up each pass where a checkpoint left it.
Does not cover: what is done at a boundary (boundaries.py), how a loader is taken
up (loader.py).

An epoch may make several passes (`shim.batches` called more than once); they
are told apart by their order. The random numbers are restored at the very
point where the loop goes on: inside the pass that was left, or between passes.
A pass inside another one belongs to the step of the outer one, as all that the
body of a loop does: it has no place of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from trainer_shim import rng
from trainer_shim.births import Births
from trainer_shim.epoch_marks import HEAD, EpochMarks
from trainer_shim.errors import CannotSave
from trainer_shim.link_report import LinkReport
from trainer_shim.parts import asked
from trainer_shim.shared import Shared, SharedPlace, Table
from trainer_shim.streams import Streams

if TYPE_CHECKING:
    from trainer_shim.carried import Carried
    from trainer_shim.held import Held
    from trainer_shim.loader import Pass
    from trainer_shim.way_back import WayBack

__all__ = ["Cursor"]

#: Of loaders that are gone, so many passes are remembered: their generators may live on in other loaders.
_MAX_GONE = 32

_NOT_REACHED = (
    "the epoch is over, and the pass that the checkpoint had left was not made again: the rest of it "
    "was not trained on; let the script make the same passes after a restart as before"
)

_OUTSIDE = (
    "a data loader is iterated outside of shim.batches(): after a restart its data begins anew; write "
    "`for batch in shim.batches(loader)`, or `it = shim.batches(loader)` and `next(it)` "
    "[outside]"
)


class Near(msgspec.Struct, frozen=True):
    """A loader that is known before its passes, and the places of what it reaches, which this keeps."""

    loader: Callable[[], Any]
    held: Mapping[str, Held]


class Record:
    """A pass that was left or is over, as a checkpoint has it: its state, and the places of what it uses."""

    def __init__(
        self,
        state: Mapping[str, Any],
        places: Mapping[str, SharedPlace],
        name: str = "",
        after: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.state, self.places, self.name = state, places, name
        #: What is true of it when the checkpoint is written.
        self._after = after

    def out(self, table: Table) -> dict[str, Any]:
        """The record as plain values."""
        return {"held": table.numbers(self.places), "name": self.name, **self.state, **self._after()}

    @classmethod
    def read(cls, saved: Mapping[str, Any], places: list[SharedPlace]) -> Record:
        """The record that `out` gave, or a version before there was a table."""
        held = saved["held"]
        if isinstance(held, list):
            return cls(saved, {})
        state = {name: value for name, value in saved.items() if name not in ("held", "name")}
        return cls(state, {path: places[number] for path, number in held.items()}, saved["name"])

    def to_resume(self, shared: Shared, carried: Carried) -> dict[str, Any]:
        """What `open_pass` takes up, with the objects where they have to be now."""
        if "held" in self.state:
            return dict(self.state)
        return {**self.state, "held": shared.states(carried, self.places)}


class Cursor:
    """Belongs to the training thread.

    Passes are numbered from 0 within an epoch. After a restore the loop makes
    the passes of the epoch again, in order: those that were over yield
    nothing, the one that was left goes on, and the rest are new. `way` is told when the script runs again
    what leads there, and when the loop goes on.
    """

    def __init__(self, report: LinkReport, marks: EpochMarks, way: WayBack) -> None:
        self._report, self._marks, self._way = report, marks, way
        self._num_begun = 0
        self._open: Pass | None = None
        self._open_loader: Any = None
        self._open_carried: Carried | None = None
        self._shared = Shared()
        self._births = Births(self._shared.objects)
        self._streams = Streams(self._births)
        #: Loaders that the script held when it called, by the names of the places where they lay.
        self._near: dict[str, Near] = {}
        #: How the last pass of each number ended, for what lives on between passes: the generators of a
        #: sampler, persistent workers. Only the newest of a loader is kept.
        self._ended: dict[int, Record] = {}
        #: The loader of each of them, as long as it lives.
        self._loader_of: dict[int, Callable[[], Any]] = {}
        self._notes: list[str] = []
        #: After a restore: passes of this epoch that were over, and the one that was left.
        self._num_over = 0
        self._left: Record | None = None
        self._from_before: set[int] = set()
        #: Whether the boundary that the loop is at was made by the script itself.
        self.is_by_hand = False
        #: Whether the open pass is one of which no turn is a boundary: its loop has no other than by hand.
        self._is_followed = False
        #: Random numbers to set where the loop goes on.
        self._pending_rng: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain values."""
        table = Table()
        opened = None
        if self._open is not None and self._open_carried is not None:
            state = self._open.place()
            opened = Record(state, self._shared.places(self._open_carried), self._name_of(self._open_loader))
        return {
            "step": self._report.step,
            "epoch": self._report.epoch,
            "num_begun": self._num_begun,
            "open": None if opened is None else opened.out(table),
            "by_hand": self.is_by_hand and not self._is_followed,
            "ended": {number: record.out(table) for number, record in self._ended.items()},
            "objects": table.states,
            "marks": self._marks.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], random_numbers: Mapping[str, Any]) -> None:
        """Go to a saved position; random numbers are set where the loop goes on, or now if that is unseen.

        What a script draws between attach() and its loop (a split, synthetic data) it drew there before, too:
        from the generators as the script begins with them.
        """
        places = [SharedPlace(pending=one) for one in state.get("objects", ())]
        self._report.step = state["step"]
        self._report.epoch = state["epoch"]
        self._left = None if state["open"] is None else Record.read(state["open"], places)
        self._num_over = state["num_begun"] - (self._left is not None)
        self._ended = {
            number: Record.read(ended, places)
            for number, ended in state["ended"].items()
            if ended is not None
        }
        self._from_before = set(self._ended)
        self._marks.load_state_dict(state.get("marks", {}))
        is_in_loop = self._left is not None or state["num_begun"] or state["epoch"] or self._ended
        if is_in_loop and not state.get("by_hand", False):
            # It has been in epochs(), or in a pass, and will be again.
            self._pending_rng = random_numbers
            rng.check(random_numbers)
        else:
            # From here on all belongs to the training: also what is drawn, and what a step does to the
            # network, before the next batch is asked for.
            rng.restore(random_numbers)

    @property
    def is_pending(self) -> bool:
        """Whether the loop has yet to come to where it goes on."""
        return self._pending_rng is not None

    def holds(self, thing: Any) -> bool:
        """Whether an object is restored with the data."""
        return any(one.thing() is thing for one in self._shared.objects.living())

    def meet(self, loaders: Mapping[str, Any]) -> None:
        """Get to know loaders before their passes, as the script made them; bring their objects back."""
        self._births.watch()
        for name, loader in loaders.items():
            known = self._near.get(name)
            if known is not None and known.loader() is loader:
                continue
            carried = self._births.reached(loader)
            self._near[name] = Near(_reference(loader), carried.held)
            for record in (*self._ended.values(), *filter(None, [self._left])):
                if record.name == name and record.places:
                    self._shared.bind(carried, record.places)
                    self._notes += carried.put(self._shared.states(carried, record.places), is_open=False)
        if self._pending_rng is None:
            self._shared.settle()

    def epochs(self, num_epochs: int) -> Iterator[int]:
        """Yield the epochs that are left; the caller checks the boundary after each."""
        report = self._report
        report.num_epochs = num_epochs
        while report.epoch < num_epochs:
            if self._left is None and self._num_over == 0:
                self._settle()
                self._marks.begin()
            else:
                self._be_on_way(HEAD)
            yield report.epoch
            if self._left is not None:
                self._notes = [_NOT_REACHED]
            report.epoch += 1
            self._num_begun = self._num_over = 0
            self._left = None
        # Of a run that was over, the generators of its end are what comes after it begins with.
        self._settle()

    def begin(self, loader: Any, accumulate: int, *, is_followed: bool = False) -> Pass | None:
        """Start the next pass or take it up; None when it was over before the checkpoint."""
        self._is_followed = is_followed
        number = self._num_begun
        self._num_begun += 1
        self._births.watch()
        carried = self._reached(loader)
        if number < self._num_over and not self._goes_beyond(loader, number):
            self._bring_back(loader, carried, number)
            if number == self._num_over - 1 and self._left is None:
                self._settle()
            else:
                self._be_on_way(number + 1)
            return None
        if self._left is not None:
            record, self._left = self._left, None
            self._shared.bind(carried, record.places)
            now = rng.capture()
            self._open = self._opened(loader, record.to_resume(self._shared, carried), carried)
            rng.restore(now)
            self._settle(carried)
        else:
            self._bring_back(loader, carried, number)
            self._shared.settle()
            self._open = self._opened(loader, None, carried)
        self._open_loader, self._open_carried = loader, carried
        self._estimate(self._open, accumulate)
        return self._open

    def _reached(self, loader: Any) -> Carried:
        return loader.reach(self._births) if _is_rounds(loader) else self._births.reached(loader)

    def _opened(self, loader: Any, resume: Mapping[str, Any] | None, carried: Carried) -> Pass:
        from trainer_shim.loader import open_pass
        from trainer_shim.rounds import Rounds, open_rounds

        if isinstance(loader, Rounds):
            return open_rounds(loader, resume, carried, self._births, self._streams)
        return open_pass(loader, resume, carried, self._streams)

    def _goes_beyond(self, loader: Any, number: int) -> bool:
        """Whether a pass that was over is one to take up, because the script allows more of it now."""
        record = self._ended.get(number)
        if not _is_rounds(loader) or record is None or not loader.goes_beyond(record.state):
            return False
        self._left = Record({**record.state, "ended": False}, record.places, record.name)
        self._num_over = number
        self._from_before.discard(number)
        self._forget([number])
        return True

    def is_inside(self) -> bool:
        """Whether a pass is being made."""
        return self._open is not None

    def end(self, made: Pass) -> None:
        """Note that a pass is over: it ran out, or the script left it."""
        if made is not self._open or self._open_carried is None:
            return  # The session is over, or an error left this pass.
        loader, number = self._open_loader, self._num_begun - 1
        self._marks.make(self._num_begun)
        # Not by the id of a loader: another one may lie where one lay that is gone.
        self._forget(before for before, its_loader in self._loader_of.items() if its_loader() is loader)
        self._forget_gone()
        self._loader_of[number] = _reference(loader)
        try:
            state = {**asked("the place of the data loader", made.place), "ended": True}
            places, name = self._shared.places(self._open_carried), self._name_of(loader)
            self._ended[number] = Record(state, places, name, made.let_go())
        except CannotSave as error:
            # Its passes need not depend on each other.
            self._notes = [f"{error}; its next pass begins as a new one after a restart"]
            self._forget([number])
        self.close()

    def notes(self) -> list[str]:
        """Return what a person should know about taking up the pass that is being made."""
        outside = [_OUTSIDE] if self._births.under_way() else []
        found = [*self._notes, *(self._open.notes if self._open is not None else [])]
        return [*(f"{one} [data]" for one in found), *outside]

    def let_go(self) -> None:
        """A pass is over, and whoever made it has let go of what it was made over."""
        self._streams.let_go()

    def leave(self) -> None:
        """The session is over."""
        self.close()
        self._streams = Streams(self._births)
        self._ended.clear()
        self._births.unwatch()

    def close(self) -> None:
        """Let go of the loader: its workers end with the loop, not when this session is collected."""
        self._open = self._open_loader = self._open_carried = None
        self._is_followed = False

    def _forget_gone(self) -> None:
        """Keep what loaders left that are gone, but not for ever: a loop may make one for each pass."""
        gone = [number for number, its_loader in self._loader_of.items() if its_loader() is None]
        self._forget(number for number in gone if not _lives_on(self._ended[number]))
        self._forget(gone[:-_MAX_GONE])

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            self._loader_of.pop(number, None)
            self._ended.pop(number, None)

    def _bring_back(self, loader: Any, carried: Carried, number: int) -> None:
        """Put what lives on between passes where the process before left it; once for each pass number."""
        if number not in self._from_before:
            return
        self._from_before.discard(number)
        self._loader_of[number] = _reference(loader)
        record = self._ended[number]
        self._shared.bind(carried, record.places)
        now = rng.capture()
        self._opened(loader, record.to_resume(self._shared, carried), carried)
        rng.restore(now)

    def _be_on_way(self, mark: int) -> None:
        """The script runs again what it ran behind a mark before."""
        if self._pending_rng is not None:
            self._way.begin(is_head=mark == HEAD)
            self._marks.go_to(mark)

    def _settle(self, opened: Carried | None = None) -> None:
        """The loop goes on from here: what was drawn and moved on the way is put back, for the last time."""
        self._shared.settle(opened)
        if self._pending_rng is not None:
            self._marks.leave()
            self._way.end()
            rng.restore(self._pending_rng)
            self._pending_rng = None

    def _name_of(self, loader: Any) -> str:
        return next((name for name, near in self._near.items() if near.loader() is loader), "")

    def _estimate(self, made: Pass, accumulate: int) -> None:
        """Say how many steps there are in all, where one pass an epoch makes that known."""
        report = self._report
        if self._num_begun > 1:
            report.num_steps = None
        elif report.num_epochs is not None and made.length is not None:
            report.num_steps = report.num_epochs * -(-made.length // accumulate)


def _lives_on(ended: Record) -> bool:
    """Whether a pass that is over says anything about later ones of other loaders."""
    # Rounds that are over go on where the script allows more of them.
    if ended.state["kind"] in ("stateful", "rounds"):
        return True
    return any(one.state() is not None for one in ended.places.values())


def _reference(loader: Any) -> Callable[[], Any]:
    """A look at a loader that does not keep it; a list, of which there is none, counts as gone."""
    try:
        return weakref.ref(loader)
    except TypeError:
        return _gone


def _gone() -> None:
    pass


def _is_rounds(loader: Any) -> bool:
    """Whether it is what `steps()` makes its pass over."""
    from trainer_shim.rounds import Rounds

    return isinstance(loader, Rounds)
