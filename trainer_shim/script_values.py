"""The script's own part of what a run needs: parts, variables of `shim.state()`, `shim.extra`.

Covers: all of it as one state, and its values and generators by name.
Does not cover: what the script made of its parts (made.py), where the loop is (position.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainer_shim.checkpoint import Live, record
from trainer_shim.errors import ShimError
from trainer_shim.handing_over import GeneratorPart
from trainer_shim.parts import Stateful, states
from trainer_shim.reach import is_generator
from trainer_shim.storable import but_loaders, undisturbed
from trainer_shim.variables import Variables

__all__ = ["ScriptValues"]


class ScriptValues:
    """Belongs to the thread that trains. `parts` is a view of what is attached by now."""

    def __init__(self, parts: Mapping[str, Stateful], live: Callable[[], Live]) -> None:
        self.parts = parts
        #: Plain values of the script's own.
        self.extra: dict[str, Any] = {}
        self.variables = Variables(live)

    def state_dict(self, parts: Mapping[str, Stateful] | None = None) -> dict[str, Any]:
        """Return all of it, with all parts or with these; the tensors are the live ones."""
        asked_for = states(self.parts if parts is None else parts)
        return {"parts": asked_for, "extra": self.extra, **self.variables.state_dict()}

    def by_name(self) -> dict[str, Any]:
        """Return the values by name, wherever the script keeps them; of parts, the generators."""
        own = self._generator_parts()
        return {**own, **self.variables.values, **self.extra, "extra": self.extra}

    def generators(self) -> dict[str, Any]:
        """Return the generators that the script handed over."""
        found = {f"parts.{name}": one for name, one in self._generator_parts().items()}
        for name, value in self.variables.values.items():
            if is_generator(value):
                found[f"state.{name}"] = value
        return found

    def recorded(self) -> Live:
        """Return what the parts hold now, so that it can be found again there."""
        try:
            with undisturbed():
                return record({"parts": states(but_loaders(self.parts)), "extra": self.extra})
        except ShimError:  # Asked for the second time, it is an error.
            return Live()

    def _generator_parts(self) -> dict[str, Any]:
        return {name: one.generator for name, one in self.parts.items() if isinstance(one, GeneratorPart)}
