"""What the script does to its parts again, on its way back to where the loop goes on, is undone there.

Covers: parts, options of optimizers, `shim.extra`.
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
from trainer_shim.handing_over import GeneratorPart
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.parts import Stateful, states
from trainer_shim.state_digests import digests
from trainer_shim.storable import but_loaders, undisturbed
from trainer_shim.variables import filled

__all__ = ["Redone"]


class Redone:
    """Belongs to one session. `give` loads the states of parts from the checkpoint, by name."""

    def __init__(
        self,
        parts: Mapping[str, Stateful],
        extra: Callable[[], dict[str, Any]],
        live: Live,
        give: Callable[[Collection[str]], None],
    ) -> None:
        self._parts, self._extra, self._live, self._give = parts, extra, live, give
        #: Which object each was: one that came on the way got its state when it came.
        self._objects = dict(parts)
        stand = self._stand()
        #: How all stood when the way began, by digests.
        self._parts_before, self._extra_before = stand, self._stand_of_extra()
        self._values = copy.deepcopy(extra())
        self._options = {
            name: [_options(group) for group in part.param_groups]
            for name, part in self._optimizers().items()
        }

    def undo(self) -> None:
        """Put back what changed; raises CannotRestore where the checkpoint cannot be read any more."""
        now = self._stand()
        changed = {
            name
            for name, stand in self._parts_before.items()
            if now.get(name) != stand and self._parts.get(name) is self._objects[name]
        }
        if changed:
            self._give(changed)
            # What the script set between attach() and the loop stands: a rate from its command line.
            for name in changed & self._options.keys():
                _set_options(self._parts[name], self._options[name])
        extra = self._extra()
        before, after = self._extra_before, self._stand_of_extra()
        for key in before:
            if after.get(key) != before[key]:
                extra[key] = filled(extra.get(key), self._values[key])

    def _stand(self) -> dict[str, dict[str, str]]:
        found = {}
        with undisturbed():
            for name, part in but_loaders(self._parts).items():
                if isinstance(part, GeneratorPart):
                    continue
                try:
                    found[name] = digests(states({name: part}), self._live)
                except CannotSave:  # Some have a state only when they were used.
                    continue
        return found

    def _stand_of_extra(self) -> dict[str, dict[str, str]]:
        return {key: digests({key: value}, self._live) for key, value in self._extra().items()}

    def _optimizers(self) -> dict[str, Any]:
        return {name: part for name, part in self._parts.items() if is_optimizer(part)}


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}


def _set_options(optimizer: Any, options: list[dict[str, Any]]) -> None:
    for group, before in zip(optimizer.param_groups, options, strict=False):
        for key, value in before.items():
            now = group.get(key)
            if hasattr(now, "copy_") and hasattr(value, "device"):
                now.copy_(value)  # Others may hold the tensor.
            else:
                group[key] = value
