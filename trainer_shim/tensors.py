"""Which tensors of a training run live on a device.

Covers: everything that can be reached from the parts: parameters, buffers,
gradients, optimizer state, attributes of modules and of the script's own
objects.
Does not cover: moving them (offload.py); local variables of the script.
"""

from __future__ import annotations

import types
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec

__all__ = ["FoundTensors", "Piece", "find", "has_any"]

#: Nothing behind these is a tensor, or nothing that belongs to one run.
_ENDS = (
    str, bytes, bytearray, int, float, complex, type(None), type,
    types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.GeneratorType,
)  # fmt: skip


class Piece(msgspec.Struct, frozen=True):
    """One piece of device memory; views and tied weights share one."""

    storage: Any
    size_bytes: int

    @property
    def device(self) -> Any:
        """Return where it is."""
        return self.storage.device


class FoundTensors(msgspec.Struct):
    """What lives on devices."""

    pieces: list[Piece] = msgspec.field(default_factory=list)
    #: The tensors that see those pieces.
    tensors: list[Any] = msgspec.field(default_factory=list)
    #: How many tensors stay where they are, by the reason.
    stay: dict[str, int] = msgspec.field(default_factory=dict)


def find(torch: Any, roots: Iterable[Any], device_types: Collection[str]) -> FoundTensors:
    """Return what can be reached from the roots and lives on devices of these types."""
    found = FoundTensors()
    known: set[int] = set()
    for tensor in _tensors(torch, roots):
        if not _is_on(torch, tensor, device_types):
            continue
        if reason := _why_it_stays(torch, tensor):
            found.stay[reason] = found.stay.get(reason, 0) + 1
            continue
        storage = tensor.untyped_storage()
        found.tensors.append(tensor)
        if storage._cdata not in known and storage.nbytes():  # noqa: SLF001  # what makes two views one memory
            known.add(storage._cdata)  # noqa: SLF001
            found.pieces.append(Piece(storage, storage.nbytes()))
    return found


def has_any(torch: Any, roots: Iterable[Any], device_types: Collection[str]) -> bool:
    """Say whether there is something to find; ends with the first one."""
    return any(
        _is_on(torch, tensor, device_types) and not _why_it_stays(torch, tensor)
        for tensor in _tensors(torch, roots)
    )


def _tensors(torch: Any, roots: Iterable[Any]) -> Iterator[Any]:
    """Every tensor that can be reached, once."""
    # Holds what it has seen: the id of something that is gone may be another's.
    seen: dict[int, Any] = {}
    todo: deque[Any] = deque(roots)
    while todo:
        one = todo.pop()
        # A proxy whose object is gone raises whatever it is asked.
        if type(one) in weakref.ProxyTypes or isinstance(one, _ENDS) or id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, torch.Tensor):
            yield one
            # Asked for that of another, torch warns.
            if one.is_leaf and one.grad is not None:
                todo.append(one.grad)
            continue
        todo.extend(_inside(torch, one))


def _inside(torch: Any, one: Any) -> Iterator[Any]:
    # Other maps are seen by what they consist of: asked for their values, a data set reads its disk.
    if isinstance(one, dict | types.MappingProxyType):
        yield from tuple(one.keys())
        yield from tuple(one.values())
    elif isinstance(one, list | tuple | set | frozenset | deque):
        yield from one
    elif isinstance(one, torch.nn.Module):
        # Those of a module that was compiled to TorchScript are no attributes.
        yield from one.parameters(recurse=False)
        yield from one.buffers(recurse=False)
    yield from getattr(one, "__dict__", {}).values()


def _is_on(torch: Any, tensor: Any, device_types: Collection[str]) -> bool:
    # One that has no shape yet has no memory either.
    return not torch.nn.parameter.is_lazy(tensor) and tensor.device.type in device_types


def _why_it_stays(torch: Any, tensor: Any) -> str:
    """Say in words why its memory cannot be given back, or ""."""
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return f"made of other tensors ({type(tensor).__name__})"
    if tensor.layout != torch.strided:
        return f"of layout {str(tensor.layout).removeprefix('torch.')}"
    storage = tensor.untyped_storage()
    if not storage.resizable():
        return "in memory that is not torch's own"
    # Asked of a device, it says that all memory is shared.
    if storage.device.type == "cpu" and storage.is_shared():
        return "shared with other processes"
    return ""
