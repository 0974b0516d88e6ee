"""What the parts of a data loader keep between batches: their generators, and values that the run changed.

Covers: reading and setting the states of the objects that reach.py finds; one place for each object, whoever
uses it.
Does not cover: when that is done (loader_ways.py, position.py), torch's global generators (rng.py).

A value is kept if the run changed it: if it is another than it was when the object was first seen, which
is as the script made it. It is put back where a fresh process made the same as before; where it made
another, the script was changed, which is for its owner to decide. Data that stays what it is costs nothing.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from trainer_shim import reach, rng, values
from trainer_shim.parts import ODD

__all__ = ["Carried", "Held", "Objects"]


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
        if thing is None or self._is_small or isinstance(thing, type):
            return []
        present, prints = dict(reach.attributes(thing)), self._prints(thing)
        changed = []
        for name, value in present.items():
            now = None if name in prints or reach.is_generator(value) else values.identity(value)
            before = self._identities.get(name)
            # Made when it was first needed, or filled by key: a handle, or a cache.
            is_lazy = self._made.get(name, "NoneType").startswith("NoneType") and before is None
            if now is not None and now != before and not is_lazy and not isinstance(value, dict):
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
        }

    def _put(self, thing: Any, state: Any) -> list[str]:
        present, prints = dict(reach.attributes(thing)), self._prints(thing)
        odd = []
        for name, packed in state["now"].items():
            here = prints.get(name)
            may_put = self._may_put.setdefault(name, here in (state["made"][name], state["print"][name]))
            if here == state["print"][name]:
                continue
            if may_put and packed is not None:
                self._first.setdefault(name, values.copied(present.get(name)))
                values.assign(thing, name, present.get(name), values.unpacked(packed))
            else:
                odd.append(name)
        return odd


class Bare:
    """Holds a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items


_MAX_BARE = 16


class Objects:
    """All objects that loaders share or do not share, each with one state."""

    def __init__(self, *, is_small: bool = False) -> None:
        self._held: weakref.WeakValueDictionary[int, Held] = weakref.WeakValueDictionary()
        self._is_small = is_small
        self._bare: list[Bare] = []

    def held(self, thing: Any, path: str) -> Held:
        """The one place for an object's state."""
        found = self._held.get(id(thing))
        if found is None or found.thing() is not thing:  # Another object may lie where one lay that is gone.
            found = self._held[id(thing)] = self._new(thing, path)
        return found

    def bare(self, items: list[Any]) -> Bare:
        """What stands for a list that is a part of a loader by itself, and has no attributes."""
        known = next((one for one in self._bare if one.items is items), None)
        if known is None:
            known = Bare(items)
            # A loop may make one for each pass.
            self._bare = [*self._bare[-_MAX_BARE:], known]
        return known

    def living(self) -> list[Held]:
        """All that somebody still holds."""
        return list(self._held.values())

    def _new(self, thing: Any, path: str) -> Held:
        if reach.is_generator(thing):
            return HeldGenerator(thing)
        if path in _STATEFUL and not self._is_small and _tells(thing):
            return HeldOwn(thing)
        return HeldValues(thing, is_small=self._is_small)


#: The parts of torch's loaders, in the order in which they are looked through.
_PARTS = ("generator", "batch_sampler", "sampler", "dataset", "collate_fn")
#: Parts of a loader whose own word on their state is taken.
_STATEFUL = frozenset({"sampler", "batch_sampler", "dataset"})


def _tells(thing: Any) -> bool:
    """Whether an object tells its state itself, and can: some refuse while nobody iterates."""
    if not (hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict")):
        return False
    try:
        thing.state_dict()
    except ODD:
        return False
    return True


class Carried:
    """What one loader, or any iterable, can reach, by path."""

    def __init__(self, roots: Mapping[str, Any], objects: Objects) -> None:
        self._roots, self._objects = roots, objects
        self.held: dict[str, Held] = {}
        self.generators: list[str] = []
        #: Where the walk came to its bounds.
        self.unseen: list[str] = []
        #: How long the look took.
        self.took_s = 0.0
        self.look_again()

    @classmethod
    def of(cls, loader: Any, objects: Objects) -> Carried:
        """What decides what a loader gives, never a living iterator of it; any other iterable as it is."""
        data = sys.modules.get("torch.utils.data")
        if data is None or not isinstance(loader, data.DataLoader):
            return cls({"loader": loader}, objects)
        return cls({name: getattr(loader, name, None) for name in _PARTS}, objects)

    def look_again(self) -> None:
        """Find also what was made since."""
        began = time.monotonic()
        found = reach.walk(self._roots)
        bare = {
            f"{name}()": self._objects.bare(one) for name, one in self._roots.items() if type(one) is list
        }
        things = {**found.generators, **found.owners, **bare}
        self.held = {path: self._objects.held(thing, path) for path, thing in things.items()}
        self.generators, self.unseen = list(found.generators), found.unseen
        self.took_s = time.monotonic() - began

    def made(self) -> dict[str, str]:
        """What tells the containers and arrays that the script made for the data from others, by path."""
        found = {}
        for path, held in self.held.items():
            if isinstance(held, HeldValues):
                found.update(
                    {f"{path}.{name}": one for name, one in held.made() if not path.startswith("loader")}
                )
        return found

    def unkept(self) -> list[str]:
        """What the run changed and cannot be kept, by path."""
        holders = [(path, held) for path, held in self.held.items() if isinstance(held, HeldValues)]
        return [f"{path}.{name}" for path, held in holders for name in held.unkept()]

    def take(self) -> dict[str, Any]:
        """The state of each object that has one to keep."""
        states = {path: held.take() for path, held in self.held.items()}
        return {path: state for path, state in states.items() if state is not None}

    def put(self, states: Any, *, is_open: bool = True) -> list[str]:
        """Set the states; what cannot be put back is said, a sentence each."""
        states = self._by_path(states)
        said = []
        for path, state in states.items():
            held = self.held.get(path)
            if held is None or not held.fits(state):
                said.append(f"the data does not carry `{path}` any more, or something else there")
                continue
            odd = held.put(state, is_open=is_open)
            said += [
                f"`{path}.{name}` is neither what the run made of it nor what it was before" for name in odd
            ]
        missing = [path for path in self.generators if path not in states]
        if missing:
            said.append(f"the data carries another random generator than before: `{missing[0]}`")
        return said

    def put_start(self, states: Any) -> list[str]:
        """The same, for the beginning of a pass: what had not changed by then is as it was made, too."""
        states = self._by_path(states)
        for path, held in self.held.items():
            if isinstance(held, HeldValues):
                state = states.get(path)
                held.reset(state["now"] if held.fits(state) else ())
        return self.put(states, is_open=False)

    def _by_path(self, states: Any) -> Mapping[str, Any]:
        if isinstance(states, list):  # As versions before paths wrote them: the generators, in their order.
            return dict(zip(self.generators, states, strict=False))
        by_path: Mapping[str, Any] = states
        return by_path


def _reference(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:  # Some generators, and objects with slots; they are small.
        return lambda: thing
