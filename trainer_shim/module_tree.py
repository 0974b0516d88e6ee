"""The modules inside a module, and their parameters: one walk, and whether it still holds.

Covers: paths and names as torch gives them, each module and parameter once.
Does not cover: what modules have besides (module_state.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

__all__ = ["ODD", "Tree", "walk"]

#: What modules made of other things raise when they are looked at.
ODD = (RuntimeError, TypeError, AttributeError, ValueError, LookupError, NotImplementedError)


class Tree:
    """The modules inside a module, and their parameters, as found by one walk."""

    def __init__(self, root: Any) -> None:
        self.modules = list(walk(root))
        self.parameters: list[tuple[str, Any]] = []
        #: Of all parameters; one that is in two modules has two.
        self.names: set[str] = set()
        self._members: list[tuple[Any, Any, list[int], list[int]]] = []
        self._buffers: list[tuple[str, Any]] = []
        seen = set()
        for path, module in self.modules:
            with suppress(*ODD):
                children, parameters = module._modules, module._parameters  # noqa: SLF001
                self._members.append((children, parameters, _ids(children), _ids(parameters)))
                prefix = f"{path}." if path else ""
                self.names |= {prefix + name for name, one in parameters.items() if one is not None}
                for name, one in parameters.items():
                    if one is not None and id(one) not in seen:
                        seen.add(id(one))
                        self.parameters.append((prefix + name, one))
                self._buffers.append((prefix, module._buffers))  # noqa: SLF001

    def is_current(self) -> bool:
        """Whether every module has the members that it had; they are kept, so no other has their place."""
        with suppress(*ODD):
            return all(
                ([*map(id, children.values())] == inner if children else not inner)
                and ([*map(id, parameters.values())] == own if parameters else not own)
                for children, parameters, inner, own in self._members
            )
        return False

    def buffers(self) -> Iterator[tuple[str, Any]]:
        """Yield the buffers that are there now."""
        for prefix, buffers in self._buffers:
            for name, one in buffers.items():
                if one is not None:
                    yield prefix + name, one


def _ids(members: Any) -> list[int]:
    return [*map(id, members.values())]


def walk(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and module, each module once; as `named_modules()`, with less to do for each."""
    seen, todo = set(), [("", root)]
    while todo:
        path, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        with suppress(*ODD):
            prefix = f"{path}." if path else ""
            inner = [(prefix + name, one) for name, one in module._modules.items() if one is not None]  # noqa: SLF001  # as torch.
            todo += reversed(inner)
