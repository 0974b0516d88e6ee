"""All that a run needs to go on exactly: out of the script's objects as one state, and into them again.

Covers: parts, what the script made of them, variables, `extra`, random numbers, the place of the loop; what a
checkpoint could not hold.
Does not cover: when it is saved (saving.py), files (checkpoint/), each of these by itself, what the script
does again on its way to where the loop goes on (way_back.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from trainer_shim.checkpoint import Live, Loaded, Store, resolve
from trainer_shim.epoch_marks import EpochMarks
from trainer_shim.errors import CannotRestore, CannotSave
from trainer_shim.light_values import LightValues
from trainer_shim.made import Made
from trainer_shim.parts import Stateful, asked
from trainer_shim.position import Cursor
from trainer_shim.script_values import ScriptValues
from trainer_shim.storable import but_loaders, undisturbed
from trainer_shim.way_back import WayBack

__all__ = ["RunState"]

#: Without these there is nothing to go on from.
_WRITTEN = ("parts", "position", "rng")


class RunState:
    """Belongs to one session, and to the thread that trains. `parts` is a view of what is attached by now.

    `new_cursor` makes the place of the loop, with the marks of its epochs and the way back to it.
    """

    def __init__(
        self,
        parts: Mapping[str, Stateful],
        store: Store,
        say: Callable[[str], None],
        new_cursor: Callable[[EpochMarks, WayBack], Cursor],
    ) -> None:
        self._store = store

        def live() -> Live:
            return store.live

        self.values = values = ScriptValues(parts, live)
        self.made = Made(parts, say, live)
        light = LightValues(parts, values.variables, lambda: values.extra)
        self._way = WayBack(values, self.made, light, live)
        self.cursor = new_cursor(EpochMarks(values.generators, light), self._way)
        # Before anything is restored.
        store.live = values.recorded()

    # --- out ------------------------------------------------------------------------------------

    def whole(self) -> dict[str, Any]:
        """Return everything; the tensors are the live ones."""
        # A part that draws when it is asked for its state draws in no run that is not saved.
        with undisturbed() as numbers:
            position = asked("the place of the data loader", self.cursor.state_dict)
            made = asked("what the script made", self.made.state_dict)
            return {**self.values.state_dict(), "made": made, "rng": numbers, "position": position}

    def check(self, facts: Mapping[str, Any], *, is_begun: bool = True) -> None:
        """Raise ShimError where a save would, of all that is there by now."""
        parts = self.values.parts if is_begun else but_loaders(self.values.parts)
        with undisturbed():
            state = self.values.state_dict(parts)
            if is_begun:
                state["position"] = asked("the place of the data loader", self.cursor.state_dict)
                state["made"] = asked("what the script made", self.made.state_dict)
            self._store.check(state, facts=facts)

    def refuse_now(self, facts: Mapping[str, Any]) -> None:
        """Raise CannotStore for what is there already and cannot be saved."""
        with suppress(CannotSave):  # Some parts have a state only when they were used.
            self.check(facts, is_begun=False)

    def take_in_parts(self) -> None:
        """Get to know what parts hold that came in mid-run."""
        self._store.live.take_in(self.values.recorded())

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
        self.values.extra = resolve(state["extra"], "extra", self._store.live)
        self.cursor.load_state_dict(state["position"], state["rng"])
        self.values.variables.load_state_dict(state, is_in_loop=self.cursor.is_pending)
        self._way.restored(loaded.path, is_pending=self.cursor.is_pending)
