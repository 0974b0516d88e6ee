"""What one object of the data keeps: reading its state, and setting it.

Covers: generators of random numbers, things that stand somewhere, objects that tell their state themselves,
and the plain values of any other.
Does not cover: where the objects are and who shares them (carried.py).

A value is kept if the run changed it: if it is another than it was when the object was first seen, which
is as the script made it. It is put back where a fresh process made the same as before; where it made
another, the script was changed, which is for its owner to decide. Data that stays what it is costs nothing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from trainer_shim import reach, rng, standing, values
from trainer_shim.script_code import Globals, is_a

__all__ = ["ITSELF", "Held", "HeldGenerator", "HeldOwn", "HeldPlace", "HeldValues"]


class Held:
    """The state of one object, also after it is gone."""

    #: Whether it comes to its state by being iterated again; told its place too, it might begin there next.
    comes_by_itself = False

    def __init__(self, thing: Any) -> None:
        self._thing = _reference(thing)
        self._last: Any = None
        #: What it is in the run that it belongs to (shared.py).
        self.place: Any = None

    def thing(self) -> Any:
        """The object, None once it is gone."""
        return self._thing()

    def take(self) -> Any:
        """The state now, as plain values; None where there is nothing to keep."""
        thing = self.thing()
        if thing is not None:
            self._last = self._taken(thing)
        return self._last

    def put(self, state: Any, *, is_open: bool) -> list[str]:
        """Set the state; says which values stay as the script made them. `is_open`: a pass is being made."""
        thing = self.thing()
        if thing is None or state is None or (is_open and self.comes_by_itself):
            return []
        return self._put(thing, state)

    def fits(self, state: Any) -> bool:
        """Whether it is a state of this kind."""
        raise NotImplementedError

    def _taken(self, thing: Any) -> Any:
        raise NotImplementedError

    def _put(self, thing: Any, state: Any) -> list[str]:
        raise NotImplementedError


class HeldGenerator(Held):
    """A generator of random numbers."""

    def fits(self, state: Any) -> bool:
        """Whether it is such a state."""
        return isinstance(state, bytes)

    def _taken(self, thing: Any) -> Any:
        return rng.dump(thing)

    def _put(self, thing: Any, state: Any) -> list[str]:
        rng.load(thing, state)
        return []


#: Stands for a thing where one of its attributes is named.
ITSELF = ""


class HeldPlace(Held):
    """A counter, an iterator, a file, or numbers in shared memory."""

    def __init__(self, thing: Any) -> None:
        super().__init__(thing)
        self._first = standing.trace(thing)

    def fits(self, state: Any) -> bool:
        """Whether it is such a state."""
        return isinstance(state, Mapping) and "at" in state

    def went_on(self, *, is_seen: bool) -> bool:
        """Whether the run moved what does not tell where it stands; not `is_seen`: if it did, elsewhere."""
        thing = self.thing()
        if thing is None or not standing.stands(thing) or standing.place(thing) is not None:
            return False
        now = standing.trace(thing)
        return now is None or now != self._first or (not is_seen and now != "over")

    def _taken(self, thing: Any) -> Any:
        where = standing.place(thing)
        return None if where is None else {"at": where, "is_file": standing.is_file(thing)}

    def _put(self, thing: Any, state: Any) -> list[str]:
        return [] if standing.go(thing, state["at"]) else [ITSELF]


class HeldOwn(Held):
    """An object that tells its state itself: a sampler or a dataset with `state_dict()`."""

    def __init__(self, thing: Any) -> None:
        super().__init__(thing)
        self.comes_by_itself = not hasattr(thing, "__getitem__")

    def _taken(self, thing: Any) -> Any:
        # Copied, because what it returns may be the living thing.
        return {"own": values.copied(thing.state_dict())}

    def fits(self, state: Any) -> bool:
        """Whether it is such a state."""
        return isinstance(state, Mapping) and state.keys() == {"own"}

    def _put(self, thing: Any, state: Any) -> list[str]:
        thing.load_state_dict(values.copied(state["own"]))
        return []


class HeldValues(Held):
    """The plain attributes of any other object."""

    def __init__(self, thing: Any, *, is_small: bool) -> None:
        super().__init__(thing)
        self._is_small = is_small
        #: The prints of long values, and the glimpses that they belong to.
        self._glimpses: dict[str, tuple[Any, str | None]] = {}
        self._made = self._prints(thing)
        self._ids = {name: id(value) for name, value in reach.attributes(thing) if name in self._made}
        #: What is not plain, by the objects in it, as the script made it.
        self._identities = self._not_plain(thing)
        #: Short values as the script made them, and longer ones as soon as they are replaced.
        self._first = {
            name: values.copied(value)
            for name, value in reach.attributes(thing)
            if name in self._made and values.is_short(value)
        }
        #: Whether each value of a checkpoint may be put back, once that was asked.
        self._may_put: dict[str, bool] = {}

    def made(self) -> Iterator[tuple[str, str]]:
        """The containers and arrays that it was made with: what tells each from others."""
        thing = self.thing()
        for name, value in [] if thing is None else reach.attributes(thing):
            if name in self._made and values.is_container(value):
                yield name, self._made[name]

    def fits(self, state: Any) -> bool:
        """Whether it is such a state."""
        return isinstance(state, Mapping) and "now" in state

    def reset(self, kept: Collection[str]) -> None:
        """Make all values but some what the script made them, as far as that is known."""
        thing = self.thing()
        if thing is None or not self._first.keys() - set(kept):
            return
        present, prints = dict(reach.attributes(thing)), self._prints(thing)
        for name, first in self._first.items():
            if name not in kept and prints.get(name) != self._made.get(name):
                values.assign(thing, name, present.get(name), values.copied(first))

    def _prints(self, thing: Any) -> dict[str, str]:
        """What tells each value from others, in any process."""
        found = ((name, self._print(name, value)) for name, value in reach.attributes(thing))
        return {name: one for name, one in found if one is not None}

    def _not_plain(self, thing: Any) -> dict[str, Any]:
        if self._is_small:
            return {}
        found = {
            name: values.identity(value)
            for name, value in reach.attributes(thing)
            if name not in self._made and not reach.is_generator(value)
        }
        return {name: one for name, one in found.items() if one is not None}

    def unkept(self) -> list[str]:
        """The attributes that the run changed and that cannot be kept."""
        thing = self.thing()
        if thing is None or self._is_small or is_a(thing, type | Globals):
            return []
        present, prints = dict(reach.attributes(thing)), self._prints(thing)
        changed = []
        for name, value in present.items():
            now = None if name in prints or reach.is_generator(value) else values.identity(value)
            before = self._identities.get(name)
            # Made when it was first needed, or filled by key: a handle, or a cache.
            is_lazy = self._made.get(name, "NoneType").startswith("NoneType") and before is None
            if now is not None and now != before and not is_lazy and not is_a(value, dict):
                changed.append(name)
        return changed

    def _print(self, name: str, value: Any) -> str | None:
        glimpse = values.glimpsed(value)
        if glimpse is None:
            return values.printed(value, is_small=self._is_small)
        known = self._glimpses.get(name)
        if known is None or known[0] != glimpse:
            known = self._glimpses[name] = (glimpse, values.printed(value, is_small=self._is_small))
        return known[1]

    def _taken(self, thing: Any) -> Any:
        present = dict(reach.attributes(thing))
        changed = {name: one for name, one in self._prints(thing).items() if one != self._made.get(name)}
        if not changed:
            return None
        return {
            "made": {name: self._made.get(name) for name in changed},
            "print": changed,
            "now": {name: values.packed(present[name]) for name in changed},
            # Another object than it was made with: what else holds that one keeps it as it is.
            "replaced": [name for name in changed if id(present[name]) != self._ids.get(name)],
        }

    def _put(self, thing: Any, state: Any) -> list[str]:
        present, prints = dict(reach.attributes(thing)), self._prints(thing)
        odd, replaced = [], state.get("replaced", ())
        for name, packed in state["now"].items():
            here = prints.get(name)
            may_put = self._may_put.setdefault(name, here in (state["made"][name], state["print"][name]))
            if here == state["print"][name]:
                continue
            if may_put and packed is not None:
                self._first.setdefault(name, values.copied(present.get(name)))
                there = None if name in replaced else present.get(name)
                values.assign(thing, name, there, values.unpacked(packed))
            elif not is_a(thing, Globals):  # There it may be a time of day, or what a start chooses.
                odd.append(name)
        return odd


def _reference(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:  # Some generators, and objects with slots; they are small.
        return lambda: thing
