"""What the parts of a data loader keep between batches, under the paths that lead there.

Covers: the states of all that a loader reaches, out and in.
Does not cover: one place for each object (objects.py), the state of one (held.py), when that is done
(loader_strategies.py, position.py), torch's global generators (rng.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from trainer_shim import reach, standing
from trainer_shim.held import ITSELF, Held, HeldPlace, HeldValues
from trainer_shim.objects import Objects

__all__ = ["Carried"]


#: The parts of torch's loaders, in the order in which they are looked through.
_PARTS = ("generator", "batch_sampler", "sampler", "dataset", "collate_fn")


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
        # What is handed over as it is is read again, with all that stands somewhere in it.
        found = reach.walk(self._roots, (lambda _: False) if "loader" in self._roots else self._stands)
        bare = {
            f"{name}()": self._objects.bare(one) for name, one in self._roots.items() if type(one) is list
        }
        things = {**found.generators, **found.owners, **found.others, **bare}
        self.held = {path: self._objects.held(thing, path) for path, thing in things.items()}
        self.generators, self.unseen = list(found.generators), found.unseen
        self.took_s = time.monotonic() - began

    def _stands(self, thing: Any) -> bool:
        return standing.stands(thing) and not (self._objects.is_small and standing.is_shared(thing))

    def went_on(self, *, has_workers: bool) -> list[str]:
        """What the run moved and no checkpoint brings back there, by path; see HeldPlace."""
        places = [(path, held) for path, held in self.held.items() if isinstance(held, HeldPlace)]
        here = ("sampler", "batch_sampler", "generator")  # No worker has them.
        return [
            path for path, held in places if held.went_on(is_seen=not has_workers or path.startswith(here))
        ]

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
            if held is None and isinstance(state, Mapping) and state.get("is_file"):
                continue  # It is opened when it is first needed, by those who go to each item's place.
            if held is None or not held.fits(state):
                said.append(f"the data does not carry `{path}` any more, or something else there")
                continue
            odd = held.put(state, is_open=is_open)
            said += [
                f"`{path}.{name}` is neither what the run made of it nor what it was before"
                if name is not ITSELF
                else f"`{path}` cannot be brought to where it stood: it is another one now"
                for name in odd
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
