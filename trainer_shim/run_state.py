"""All that a run needs to go on exactly: out of the script's objects as one state, and into them again.

Covers: parts, what the script made of them, variables, `extra`, random numbers, the place of the loop; what a
checkpoint could not hold; what the script does again on its way to where the loop goes on.
Does not cover: when it is saved (session.py), files (checkpoint/), each of these by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_shim.checkpoint import Live, Loaded, Store, load, record, resolve
from trainer_shim.errors import CannotRestore, CannotSave, ShimError
from trainer_shim.handing_over import GeneratorPart
from trainer_shim.light_values import LightValues
from trainer_shim.made import Made
from trainer_shim.parts import Stateful, asked, states
from trainer_shim.position import Cursor
from trainer_shim.reach import is_generator
from trainer_shim.storable import but_loaders, undisturbed
from trainer_shim.variables import Variables

if TYPE_CHECKING:
    from trainer_shim.redone import Redone

__all__ = ["RunState"]

#: Without these there is nothing to go on from.
_WRITTEN = ("parts", "position", "rng")


class RunState:
    """Belongs to one session, and to the thread that trains. `parts` is a view of what is attached by now."""

    def __init__(
        self, parts: Mapping[str, Stateful], cursor: Cursor, store: Store, say: Callable[[str], None]
    ) -> None:
        self._parts, self._cursor, self._store = parts, cursor, store
        #: Plain values of the script's own.
        self.extra: dict[str, Any] = {}
        self.variables = Variables(lambda: store.live)
        self.made = Made(parts, say, lambda: store.live)
        #: What stood where the script began its way back to where the loop goes on; None when it is there.
        self._redone: Redone | None = None
        self._is_on_way = False
        self._light = LightValues(parts, self.variables, lambda: self.extra)
        cursor.marks.own, cursor.marks.light = self._generators, self._light
        store.live = self._live()

    # --- out ------------------------------------------------------------------------------------

    def whole(self) -> dict[str, Any]:
        """Return everything; the tensors are the live ones."""
        # A part that draws when it is asked for its state draws in no run that is not saved.
        with undisturbed() as numbers:
            position = asked("the place of the data loader", self._cursor.state_dict)
            made = asked("what the script made", self.made.state_dict)
            return {**self.own(), "made": made, "rng": numbers, "position": position}

    def own(self, parts: Mapping[str, Stateful] | None = None) -> dict[str, Any]:
        """Return all that is the script's own, with all parts or with these."""
        asked_for = states(self._parts if parts is None else parts)
        return {"parts": asked_for, "extra": self.extra, **self.variables.state_dict()}

    def values(self) -> dict[str, Any]:
        """Return the script's own values by name, wherever it keeps them."""
        own = self._generator_parts()
        return {**own, **self.variables.values, **self.extra, "extra": self.extra}

    def check(self, facts: Mapping[str, Any], *, is_begun: bool = True) -> None:
        """Raise ShimError where a save would, of all that is there by now."""
        parts = self._parts if is_begun else but_loaders(self._parts)
        with undisturbed():
            state = self.own(parts)
            if is_begun:
                state["position"] = asked("the place of the data loader", self._cursor.state_dict)
                state["made"] = asked("what the script made", self.made.state_dict)
            self._store.check(state, facts=facts)

    def refuse_now(self, facts: Mapping[str, Any]) -> None:
        """Raise CannotStore for what is there already and cannot be saved."""
        with suppress(CannotSave):  # Some parts have a state only when they were used.
            self.check(facts, is_begun=False)

    def take_in_parts(self) -> None:
        """Get to know what parts hold that came in mid-run."""
        self._store.live.take_in(self._live())

    def _live(self) -> Live:
        """Return what the parts hold before anything is restored, so that it can be found again there."""
        try:
            with undisturbed():
                return record({"parts": states(but_loaders(self._parts)), "extra": self.extra})
        except ShimError:  # Asked for the second time, it is an error.
            return Live()

    def _generator_parts(self) -> dict[str, Any]:
        return {name: one.generator for name, one in self._parts.items() if isinstance(one, GeneratorPart)}

    def _generators(self) -> dict[str, Any]:
        """Return the generators that the script handed over."""
        found = {f"parts.{name}": one for name, one in self._generator_parts().items()}
        for name, value in self.variables.values.items():
            if is_generator(value):
                found[f"state.{name}"] = value
        return found

    # --- in again -------------------------------------------------------------------------------

    def take(self, loaded: Loaded) -> None:
        """Bring everything back; raises CannotRestore where it does not fit."""
        state = loaded.state
        if missing := [key for key in _WRITTEN if not isinstance(state.get(key), Mapping)]:
            raise CannotRestore(
                f"cannot restore `{loaded.path}`: it has no `{missing[0]}` as a training session writes it",
                hint="another program wrote it; give this run a checkpoint folder of its own",
            )
        self.made.restore(state["parts"], state.get("made", {}), loaded.path)
        self.extra = resolve(state["extra"], "extra", self._store.live)
        self._cursor.load_state_dict(state["position"], state["rng"])
        self.variables.load_state_dict(state, is_in_loop=self._cursor.is_pending)
        self._cursor.on_way, self._cursor.on_settled = partial(self._be_on_way, loaded.path), self._settle
        if self._cursor.is_pending:
            self._redone = self._stand(loaded.path)

    def _be_on_way(self, checkpoint: Path, is_head: bool) -> None:  # noqa: FBT001
        """The script runs again what leads to where the loop goes on."""
        if is_head and not self._is_on_way:
            # What it did since attach() stands; a loop that counts epochs by itself has no such moment.
            self._redone = self._stand(checkpoint)
        self._is_on_way = True

    def _stand(self, checkpoint: Path) -> Redone:
        from trainer_shim.redone import Redone

        def give(names: Collection[str]) -> None:
            self.made.give_again(names, load(checkpoint).state["parts"])

        return Redone(self._parts, lambda: self.extra, self._light, self._store.live, give)

    def _settle(self) -> None:
        """The loop goes on: all is as the checkpoint has it, whatever was done on the way."""
        redone, self._redone = self._redone, None
        if redone is not None and self._is_on_way:
            redone.undo()
        self._is_on_way = False
        self.variables.settle()
