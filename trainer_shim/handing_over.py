"""What a script hands to attach(), under names: parts by position, in lists and maps, generators, objects.

Covers: the name of each part, what stands for a generator, for attributes of an object; what is refused.
Does not cover: their states (parts.py), variables of the script (variables.py).
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainer_shim import rng
from trainer_shim.determinism import is_scheduler
from trainer_shim.optimizer_state import is_optimizer
from trainer_shim.parts import Stateful, check_parts
from trainer_shim.reach import is_generator

__all__ = ["Fields", "GeneratorPart", "is_field", "is_fields_of", "named_parts"]


class Fields:
    """Attributes of an object as its state, where it has no `state_dict()`: a replay buffer, an environment.

    `attach(replay=Fields(replay, "storage", "position"))` saves both and sets them anew. What they hold is
    stored as everything is, without pickle.
    """

    def __init__(self, thing: Any, *names: str) -> None:
        """Raises ValueError without a name, AttributeError for one that the object has not."""
        if not names:
            raise ValueError("cannot make Fields without the names of attributes")
        for name in names:
            getattr(thing, name)
        self._thing, self._names = thing, names

    def state_dict(self) -> dict[str, Any]:
        """The attributes as they are."""
        return {name: getattr(self._thing, name) for name in self._names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set them."""
        for name in self._names:
            setattr(self._thing, name, state[name])

    @property
    def thing(self) -> Any:
        """Whose attributes they are."""
        return self._thing


def is_fields_of(part: Any, thing: Any) -> bool:
    """Whether a part is attributes of this object."""
    return type(part) is Fields and part._thing is thing  # noqa: SLF001


def is_field(part: Any, thing: Any, name: str) -> bool:
    """Whether a part is this attribute of an object, among others."""
    return is_fields_of(part, thing) and name in part._names  # noqa: SLF001


class GeneratorPart:
    """A random generator as a part, on whatever device it is."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        return {"generator": rng.dump(self.generator)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it there; raises ValueError for the state of another kind."""
        try:
            rng.load(self.generator, state["generator"])
        except struct.error as error:
            raise ValueError("the state is that of another kind of generator") from error


def named_parts(handed: Iterable[Any], named: Mapping[str, Any]) -> dict[str, Stateful]:
    """Return all parts by name; raises TypeError for what cannot be one, with the line to write instead.

    What has no name gets that of its kind, the same in each start: `model`, `optimizer`, `model_2`, ...
    Lists, tuples and maps are parts by themselves where they have a `state_dict()`; else what is in them is.
    """
    counts: Counter[str] = Counter()
    found: dict[str, Any] = {}
    for one in handed:
        kind = _kind(one)
        counts[kind] += 1
        found[kind if counts[kind] == 1 else f"{kind}_{counts[kind]}"] = one
    for name in found.keys() & named.keys():
        raise TypeError(f"cannot attach `{name}` twice: give what is handed over by position a name, too")
    parts = {name: one for top, value in {**found, **named}.items() for name, one in _inside(top, value)}
    check_parts(parts)
    return parts


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if is_generator(value):
        yield name, GeneratorPart(value)
    elif isinstance(value, Stateful):
        yield name, value
    elif isinstance(value, list | tuple) and _has_parts(value):
        for index, one in enumerate(value):
            yield from _inside(f"{name}.{index}", one)
    elif isinstance(value, dict) and _has_parts(value.values()):
        for key, one in value.items():
            yield from _inside(f"{name}.{key}", one)
    else:
        yield name, value


def _has_parts(values: Iterable[Any]) -> bool:
    return any(isinstance(one, Stateful | list | tuple | dict) or is_generator(one) for one in values)


def _kind(part: Any) -> str:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(part, torch.nn.Module):
        return "model"
    if is_optimizer(part):
        return "optimizer"
    if is_scheduler(part):
        return "scheduler"
    return type(part).__name__.lower()
