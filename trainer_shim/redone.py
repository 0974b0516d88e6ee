"""What the script does to its parts again, on its way back to where the loop goes on, is undone there.

Covers: parts, plain attributes of networks, options of optimizers, `shim.extra`.
Does not cover: random numbers (epoch_marks.py), variables (variables.py).

A restart in the middle of an epoch runs what stands at its head once more: a scheduler steps there, a target
network is made equal, a forward pass moves running statistics. The checkpoint has all that already.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

from trainer_shim.checkpoint import Live
from trainer_shim.errors import CannotSave
from trainer_shim.light_values import LightValues
from trainer_shim.module_state import Fingerprint
from trainer_shim.parts import Stateful, is_of_torch, states
from trainer_shim.script_names import is_module
from trainer_shim.state_digests import digests
from trainer_shim.storable import undisturbed
from trainer_shim.variables import as_it_was

__all__ = ["Redone"]


class Redone:
    """How all stood when the way began. `give` loads the states of parts from the checkpoint, by name.

    Digests tell which of torch's parts changed on the way, and only they are given again: weights that are
    written to, though with what they are, break a graph that a script may have made of them.
    """

    def __init__(
        self,
        parts: Mapping[str, Stateful],
        extra: Callable[[], dict[str, Any]],
        light: LightValues,
        live: Live,
        give: Callable[[Collection[str]], None],
    ) -> None:
        self._parts, self._extra, self._light, self._live, self._give = parts, extra, light, live, give
        #: Which object each was.
        self._objects = dict(parts)
        self._before, self._light_before = self._stand(), light.now()
        self._extra_before = self._stand_of_extra()
        #: The objects in it, and copies of them.
        self._values = {key: (value, copy.deepcopy(value)) for key, value in extra().items()}
        self._attributes = [Fingerprint(part) for part in parts.values() if is_module(part)]

    def undo(self) -> None:
        """Put back what changed; raises CannotRestore where the checkpoint cannot be read any more."""
        now = self._stand()
        # One that came on the way got its state when it came, and may have been changed since.
        changed = {
            name
            for name, stand in now.items()
            if not self._is_of_before(name) or self._before.get(name) != stand
        }
        if changed:
            self._give(changed)
        # What the script set between attach() and the loop stands: a rate from its command line.
        self._light.put({kind: self._of_before(self._light_before[kind]) for kind in ("parts", "options")})
        for one in self._attributes:
            one.undo()
        extra, before, after = self._extra(), self._extra_before, self._stand_of_extra()
        for key in before:
            if after.get(key) != before[key]:
                extra[key] = as_it_was(extra.get(key), *self._values[key])

    def _is_of_before(self, name: str) -> bool:
        return name in self._objects and self._parts.get(name) is self._objects[name]

    def _of_before(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if self._is_of_before(name)}

    def _stand(self) -> dict[str, dict[str, str]]:
        found = {}
        with undisturbed():
            for name, part in self._parts.items():
                if not is_of_torch(part):
                    continue
                try:
                    found[name] = digests(states({name: part}), self._live)
                except CannotSave:  # Some have a state only when they were used.
                    continue
        return found

    def _stand_of_extra(self) -> dict[str, dict[str, str]]:
        return {key: digests({key: value}, self._live) for key, value in self._extra().items()}
