"""What the checkpoints of a session have, asked about the objects of the script.

Covers: parts, attributes that are parts, variables of the script, what goes with the data, what is ignored.
Does not cover: what is not kept and is told (strays.py, loop_state.py).
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from trainer_shim.handing_over import Fields, is_field, is_fields_of
from trainer_shim.script_code import is_a
from trainer_shim.script_names import is_module
from trainer_shim.variables import State

__all__ = ["Kept"]

#: Whoever holds the session or its variables in an attribute holds nothing that is lost.
_OURS = "trainer_shim."


class Kept:
    """`extra` gives the script's own values by name, and its whole map as "extra"."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        extra: Callable[[], Mapping[str, Any]],
        goes_with_data: Callable[[Any], bool],
        ignore: Collection[str] = (),
    ) -> None:
        self.parts = parts
        self._extra, self._goes_with_data = extra, goes_with_data
        #: Names, whole or their last part, of which nothing is said.
        self._ignore = ignore

    def is_ignored(self, name: str) -> bool:
        """Whether the script said that it knows."""
        return bool(self._ignore) and (name in self._ignore or name.rpartition(".")[2] in self._ignore)

    def is_part(self, thing: Any) -> bool:
        """Whether its `state_dict()` is saved."""
        return any(thing is part for part in self.parts.values())

    def is_of_run(self, thing: Any) -> bool:
        """Whether what is put into it reaches the training or its data."""
        return self.is_part(thing) or self._goes_with_data(thing)

    def has_of(self, owner: Any, name: str) -> bool:
        """Whether an attribute of an object is saved with the object."""
        if type(owner) is State or type(owner).__module__.startswith(_OURS):
            return True
        if self.is_part(owner):
            from trainer_shim.own_states import left_out

            # Lists and tables of a network go with no checkpoint; docs/EXACTNESS.md says what does.
            is_apart = is_module(owner) and is_a(vars(owner).get(name), list | dict | set | deque)
            return not is_apart and name not in left_out(owner)
        return any(is_field(part, owner, name) for part in self.parts.values())

    def has_fields_of(self, thing: Any) -> bool:
        """Whether attributes of an object are saved, those that the script named."""
        return any(is_fields_of(part, thing) for part in self.parts.values())

    def has(self, name: str, value: Any) -> bool:
        """Whether a variable is among the script's own values, or what it stands for is."""
        own = self._extra()
        if name in own["extra"] or self._goes_with_data(value):
            return True
        return is_a(value, list | dict | set | deque) and any(value is one for one in own.values())

    def has_object(self, thing: Any) -> bool:
        """Whether an object with a state of its own is saved: a generator, an iterator."""
        fields = (
            one for part in self.parts.values() if type(part) is Fields for one in part.state_dict().values()
        )
        return (
            any(thing is one for one in (*self._extra().values(), *fields))
            or self._goes_with_data(thing)
            or any(thing is one for one in _global_generators())
        )


def _global_generators() -> list[Any]:
    """Those that every checkpoint has."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    known: list[Any] = [random._inst]  # noqa: SLF001
    if torch is not None:
        known.append(torch.default_generator)
    if numpy is not None:
        known += [numpy.mtrand._rand, numpy.mtrand._rand._bit_generator]  # noqa: SLF001
    return known
