"""The weights in a checkpoint: which part of the state they are, and writing them for the stock readers.

Covers: choosing the part, names, `.safetensors` without torch, `.pt` with it.
Does not cover: the folder they go to and what is said about them (exporting.py, model_card.py).

Tied weights are written once under each of their names, so that
`load_state_dict(strict=True)` finds every name; the card says which are tied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

from supervisor.errors import UsageError
from trainer_shim.checkpoint.tensorfile import Block, make_plan
from trainer_shim.checkpoint.view import View

__all__ = ["Weights", "find_weights", "state_dict", "write_safetensors"]

#: What torch.compile puts before the names of the module that it wraps.
_COMPILED: Final = "_orig_mod."
#: Written at once: enough to keep a disk busy, and little beside a model.
_PIECE_BYTES: Final = 4 << 20


class Weights(NamedTuple):
    """A part of the state that is nothing but tensors by name."""

    part: str
    #: The part as the checkpoint describes it, with what is no tensor.
    node: Any
    #: Name -> node of the tensor, in the order of the module.
    tensors: dict[str, Any]
    #: Names that mean the same memory.
    tied: list[list[str]]

    @property
    def num_parameters(self) -> int:
        """Elements, those of tied weights once."""
        return sum(
            prod(node["shape"]) for node in {node["block"]: node for node in self.tensors.values()}.values()
        )


def find_weights(view: View, part: str | None) -> Weights:
    """Return the part named, or the only one that is a module's state; raises UsageError."""
    parts = view.skeleton.get("parts", view.skeleton)
    modules = [name for name, node in parts.items() if _is_module(node)]
    if part is None:
        if len(modules) != 1:
            which = "several parts are" if modules else "no part is"
            raise UsageError(
                f"cannot tell what to export: {which} the state of a module", hint=_parts_hint(parts, modules)
            )
        part = modules[0]
    node = _at(parts, part)
    if node is None:
        raise UsageError(f"cannot find a part `{part}` in the state", hint=_parts_hint(parts, modules))
    entries = dict(_entries(node) or ())
    other = next((name for name, item in entries.items() if not _is_tensor(item)), None)
    if not entries or other is not None:
        why = f"its `{other}` is no tensor" if entries else "it holds no tensors by name"
        raise UsageError(f"cannot export `{part}` as weights: {why}", hint=_parts_hint(parts, modules))
    return Weights(part, node, {_plain(name): item for name, item in entries.items()}, _tied(entries))


def write_safetensors(path: Path, view: View, weights: Weights) -> None:
    """Write a file for any safetensors reader."""
    blocks = []
    for name, node in weights.tensors.items():
        entry, memory = view.entries[node["block"]], view.memory(node["block"])
        if list(entry.shape) != list(node["shape"]):
            raise UsageError(
                f"cannot export `{name}` as safetensors: the format has no type {node['dtype']}",
                hint="`--format torch` has",
            )
        blocks.append(Block(name, entry.dtype, entry.shape, _fetch(memory)))
    plan = make_plan(blocks)
    with path.open("xb") as file:
        file.write(plan.header)
        for block in plan.blocks:
            memory = view.memory(weights.tensors[block.name]["block"])
            for at in range(0, memory.nbytes, _PIECE_BYTES):
                file.write(memory[at : at + _PIECE_BYTES])


def _fetch(memory: memoryview) -> Callable[[int, int], memoryview]:
    return lambda begin, end: memory[begin:end]


def state_dict(view: View, weights: Weights) -> OrderedDict[str, Any]:
    """Return the weights as torch's own `state_dict()` gives them; tied ones share memory."""
    value = view.value(weights.node)
    found = OrderedDict((_plain(name), tensor.detach()) for name, tensor in value.items())
    metadata = getattr(value, "_metadata", None)
    if isinstance(metadata, Mapping):
        found._metadata = OrderedDict((_plain(f"{key}.")[:-1], item) for key, item in metadata.items())  # type: ignore[attr-defined]  # noqa: SLF001  # torch's name.
    return found


def _plain(name: str) -> str:
    """Return the name that the module has when it is not compiled."""
    return name.replace(_COMPILED, "")


def _is_module(node: Any) -> bool:
    """Whether a node is what `Module.state_dict()` returned: tensors under a map that knows its modules."""
    if not isinstance(node, dict) or node.get("$") != "OrderedDict" or "metadata" not in node:
        return False
    entries = dict(_entries(node) or ())
    return bool(entries) and all(map(_is_tensor, entries.values()))


def _is_tensor(node: Any) -> bool:
    return isinstance(node, dict) and node.get("$") == "tensor"


def _entries(node: Any) -> list[tuple[str, Any]] | None:
    """Return the entries of a map with text keys; None for anything else."""
    if not isinstance(node, dict):
        return None
    if "$" not in node:
        return list(node.items())
    if node["$"] not in ("dict", "OrderedDict") or not all(isinstance(key, str) for key, _ in node["items"]):
        return None
    return [(key, item) for key, item in node["items"]]


def _at(node: Any, path: str) -> Any:
    """Return what lies at a path of keys joined by dots, which keys may contain themselves; None: nothing."""
    for key, item in _entries(node) or ():
        if key == path:
            return item
        if path.startswith(f"{key}.") and (found := _at(item, path[len(key) + 1 :])) is not None:
            return found
    return None


def _tied(entries: Mapping[str, Any]) -> list[list[str]]:
    of_block: dict[str, list[str]] = {}
    for name, node in entries.items():
        of_block.setdefault(node["block"], []).append(_plain(name))
    return [names for names in of_block.values() if len(names) > 1]


def _parts_hint(parts: Mapping[str, Any], modules: list[str]) -> str:
    return f"choose with --part: {', '.join(_named(parts, modules))}" if parts else "the state has no parts"


def _named(parts: Mapping[str, Any], modules: list[str]) -> Iterator[str]:
    yield from (f"`{name}` (a module)" for name in modules)
    yield from (f"`{name}`" for name in parts if name not in modules)
