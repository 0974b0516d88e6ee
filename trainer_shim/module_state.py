"""What modules have and no `state_dict()` holds: flags, plain attributes, buffers that are not persistent.

Covers: `training`, `requires_grad`, dropout's `p` and all plain attributes, tensors that are no part of the
state; as the script made them, what the run made of them since, and putting that back.
Does not cover: which modules these are, and saying what comes of it (made.py).

Three values decide: what the script made before, what the run had made of it, and what the script makes now.
Where the script makes the same as before, what the run had made is put back. Where it makes another value,
somebody changed the script: that value stands, and it is said. What raises when it is looked at is left out.

At a save, values that are the very objects of before are unchanged, which costs a comparison each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from trainer_shim.module_tree import ODD, Tree
from trainer_shim.seen_tensor import SeenTensor, digest_of

__all__ = ["Fingerprint", "Layouts"]

#: Strides by name, of what does not lie in plain order.
Layouts = dict[str, list[int]]

_MISSING = object()
#: Attributes of that size at most are plain; longer texts and tuples are data.
_MAX_TEXT, _MAX_ITEMS = 1000, 64
#: A tensor in an attribute may be anything, as the last activations; a larger one is not kept.
_MAX_ATTRIBUTE_BYTES = 1 << 20


class Fingerprint:
    """One module with all that is inside it, as it was when this was made."""

    def __init__(self, module: Any) -> None:
        self._root = module
        self._tree = Tree(module)
        self._places = {path: _Place(one) for path, one in self._tree.modules}
        self._first = self._tree

    def refresh(self) -> bool:
        """See which modules and parameters are there now; return whether they are those of before."""
        is_current = self._tree.is_current()
        if not is_current:
            self._tree = Tree(self._root)
        return is_current

    def changes(self) -> dict[str, Any]:
        """Return what differs by now, as plain values and live tensors; empty where nothing does.

        By path of the module, then by kind and name: `[before, now]`, or `[now]` where there was nothing.
        """
        found = {}
        for path, module in self._tree.modules:
            place = self._places.get(path, _NOWHERE)
            if not place.is_same(module) and (changed := place.changes(module)):
                found[path] = changed
        return found

    def parameters(self) -> list[tuple[str, Any]]:
        """Return all parameters that are there now by name, each once."""
        return self._tree.parameters

    def came(self) -> list[str]:
        """Return the names of parameters that are there now and were not at first."""
        return [] if self._tree is self._first else sorted(self._tree.names - self._first.names)

    def make_room(self, saved: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Register the buffers that the run had come to have, as they are in its `state_dict()`."""
        for path, module in self._tree.modules:
            for name in saved.get(path, {}).get("buffers", ()):
                tensor: Any = state.get(f"{path}.{name}" if path else name)
                with suppress(*ODD):
                    if _is_tensor(tensor) and module._buffers.get(name) is None:  # noqa: SLF001
                        module.register_buffer(name, tensor.to(_device(module, None), copy=True))

    def layouts(self) -> Layouts:
        """Return the strides of all parameters and buffers that do not lie in plain order."""
        named = [*self._tree.parameters, *self._tree.buffers()]
        with suppress(*ODD):
            return {name: list(one.stride()) for name, one in named if not one.is_contiguous()}
        found: Layouts = {}  # One of them cannot be asked; so each by itself.
        for name, one in named:
            with suppress(*ODD):
                if not one.is_contiguous():
                    found[name] = list(one.stride())
        return found

    def undo(self) -> None:
        """Make flags and plain attributes what they were when this was made."""
        modules = dict(self._tree.modules)
        for path, changed in self.changes().items():
            module = modules[path]
            parameters = module._parameters  # noqa: SLF001
            for name, pair in {**changed.get("flags", {}), **changed.get("attributes", {})}.items():
                with suppress(*ODD):
                    if len(pair) > 1:
                        setattr(module, name, pair[0])
                    else:
                        delattr(module, name)
            for name, pair in changed.get("requires_grad", {}).items():
                with suppress(*ODD):
                    if len(pair) > 1:
                        parameters[name].requires_grad = pair[0]

    def put_back(self, saved: Mapping[str, Any]) -> list[str]:
        """Make of the modules what the run had made of them; return what could not be, in words."""
        modules = dict(self._tree.modules)
        said = []
        for path, changed in saved.items():
            if path in modules:
                place = self._places.get(path, _NOWHERE)
                said += [
                    f"{path}.{text}" if path else text for text in place.put_back(modules[path], changed)
                ]
            else:
                names = ", ".join(name for kind in changed.values() for name in kind)
                said.append(
                    f"{path} is not there now, and what the run had changed in it is left out: {names}"
                )
        return said


class _Place:
    """One module of its own, without those inside it."""

    def __init__(self, module: Any | None) -> None:
        own = {} if module is None else _own(module)
        #: Of all attributes. Plain values are kept, so that no other has their place.
        self._ids = [] if module is None else [*map(id, vars(module).values())]
        self._plain = {name: value for name, value in own.items() if _is_plain(value)}
        #: What held tensors that cannot be kept, by identity.
        self._caches = {name: id(value) for name, value in own.items() if _is_cache(value)}
        self._training = _training(module)
        self._grads = dict(_grads(module))
        self._tensors = {name: SeenTensor(one) for name, one in _tensors(module, own)}
        self._buffers = [*_buffers(module)]

    def is_same(self, module: Any) -> bool:
        """Whether nothing can differ: all attributes are the objects of before, no tensor was written to."""
        if [*map(id, vars(module).values())] != self._ids:
            return False
        if self._grads and any(
            one is not None and one.requires_grad is not self._grads.get(name)
            for name, one in module._parameters.items()  # noqa: SLF001
        ):
            return False
        if self._tensors or module._non_persistent_buffers_set:  # noqa: SLF001
            return False
        if module._buffers and [*_buffers(module)] != self._buffers:  # noqa: SLF001
            return False
        # What is made of other things there, as in a script module.
        return self._training is vars(module).get("training", self._training)

    def changes(self, module: Any) -> dict[str, dict[str, Any]]:
        """Return what differs from here in a module that stands in this place."""
        found: dict[str, dict[str, Any]] = {}
        training = _training(module)
        if training is not None and training is not self._training:
            found["flags"] = {"training": _pair(self._training, training)}
        grads = {
            name: _pair(self._grads.get(name), flag)
            for name, flag in _grads(module)
            if flag is not self._grads.get(name)
        }
        if grads:
            found["requires_grad"] = grads
        if buffers := [name for name in _buffers(module) if name not in self._buffers]:
            found["buffers"] = dict.fromkeys(buffers)
        own = _own(module)
        if [*map(id, vars(module).values())] != self._ids:
            attributes, unkept = self._attributes(own)
            if unkept:
                # A length without the cache that it is the length of would be worse than neither.
                found["unkept"] = dict.fromkeys(sorted({*attributes, *unkept}))
            elif attributes:
                found["attributes"] = attributes
        tensors = {}
        for name, one in _tensors(module, own):
            seen = self._tensors.get(name)
            if seen is None or not seen.is_same(one):
                tensors[name] = {"before": "" if seen is None else seen.digest, "now": one}
        if tensors and "unkept" not in found:
            found["tensors"] = tensors
        return found

    def _attributes(self, own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the plain attributes that are others now, and those that came and cannot be kept."""
        changed, unkept = {}, []
        for name, value in own.items():
            before = self._plain.get(name, _MISSING)
            if _is_plain(value):
                if before is _MISSING or not _is_equal(before, value):
                    changed[name] = [value] if before is _MISSING else [before, value]
            elif self._caches.get(name) != id(value) and _is_cache(value):
                unkept.append(name)
        return changed, unkept

    def put_back(self, module: Any, changed: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        """Put back what is the run's; yield what stays as the script makes it."""
        parameters = getattr(module, "_parameters", {})
        for name, pair in changed.get("flags", {}).items():
            yield from _decide(module, name, name, self._training, pair)
        for name, pair in changed.get("requires_grad", {}).items():
            if parameters.get(name) is None:
                yield f"{name} is not there now; its requires_grad was {pair[-1]}"
            else:
                label = f"{name}.requires_grad"
                yield from _decide(parameters[name], "requires_grad", label, self._grads.get(name), pair)
        for name, pair in changed.get("attributes", {}).items():
            yield from _decide(module, name, name, self._plain.get(name, _MISSING), pair)
        for name, tensor in changed.get("tensors", {}).items():
            yield from self._put_tensor(module, name, tensor)
        if changed.get("unkept"):
            names = ", ".join(changed["unkept"])
            yield f"{names}: changed by the run together with what cannot be kept; as the script makes it now"

    def _put_tensor(self, module: Any, name: str, saved: Mapping[str, Any]) -> Iterator[str]:
        seen = self._tensors.get(name)
        now = saved["now"]
        digest = "" if seen is None else seen.digest
        if digest not in (saved["before"], digest_of(now)):
            yield f"{name} is another tensor than the script made before; the present one stays"
            return
        buffers = getattr(module, "_buffers", {})
        live: Any = buffers.get(name) if name in buffers else getattr(module, name, None)
        with suppress(*ODD):
            if _is_tensor(live) and (live.shape, live.dtype) == (now.shape, now.dtype):
                _no_grad_copy(live, now)
            elif name in buffers:
                buffers[name] = now.to(_device(module, live), copy=True)
            else:
                setattr(module, name, now.to(_device(module, live), copy=True))


def _decide(owner: Any, name: str, label: str, made: Any, pair: list[Any]) -> Iterator[str]:
    """Set an attribute to what the run made of it; or say why it stays as the script makes it now."""
    now = pair[-1]
    live = getattr(owner, name, _MISSING)
    if live is not _MISSING and _is_equal(live, now):
        return
    if len(pair) == 2 and (made is _MISSING or not _is_equal(made, pair[0])):
        made = "not there" if made is _MISSING or made is None else repr(made)
        yield (
            f"{label} is {made} in the script now and was {pair[0]!r} before, "
            f"{now!r} in the run; the script's value stands"
        )
        return
    try:
        setattr(owner, name, now)
    except ODD as error:
        yield f"{label} cannot be set to {now!r} again: {error}"


def _own(module: Any) -> dict[str, Any]:
    """Return the attributes that a module has for itself, without the tables of torch's own."""
    try:
        is_foreign = not type(module).__module__.startswith("torch.")
        return {
            name: value
            for name, value in vars(module).items()
            if name not in _TABLES and (is_foreign or name[0] != "_")
        }
    except ODD:
        return {}


# What torch keeps in each module for itself.
_TABLES = frozenset(
    {"training", "_backward_hooks", "_backward_pre_hooks", "_buffers", "_forward_hooks", "_modules"}
    | {"_forward_hooks_always_called", "_forward_hooks_with_kwargs", "_forward_pre_hooks", "_parameters"}
    | {"_forward_pre_hooks_with_kwargs", "_is_full_backward_hook", "_load_state_dict_post_hooks"}
    | {"_load_state_dict_pre_hooks", "_non_persistent_buffers_set", "_state_dict_hooks"}
    | {"_state_dict_pre_hooks"}
)


def _training(module: Any) -> bool | None:
    with suppress(*ODD):
        value = module.training
        return value if type(value) is bool else None
    return None


def _grads(module: Any) -> Iterator[tuple[str, bool]]:
    with suppress(*ODD):
        for name, one in module._parameters.items():  # noqa: SLF001
            if one is not None:
                yield name, one.requires_grad


def _buffers(module: Any) -> Iterator[str]:
    """Yield the names of the buffers that are part of the state."""
    with suppress(*ODD):
        for name, one in module._buffers.items():  # noqa: SLF001
            if one is not None and name not in module._non_persistent_buffers_set:  # noqa: SLF001
                yield name


def _tensors(module: Any, own: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a module that its state_dict() leaves out."""
    with suppress(*ODD):
        buffers = module._buffers  # noqa: SLF001
        for name in sorted(module._non_persistent_buffers_set):  # noqa: SLF001
            if _is_tensor(buffers.get(name)):
                yield name, buffers[name]
    for name, value in own.items():
        if type(value) not in _PLAIN and _is_kept(value):
            yield name, value


def _is_kept(value: Any) -> bool:
    """Whether a tensor in an attribute is kept by value."""
    with suppress(*ODD):
        return (
            _is_tensor(value)
            and not value.requires_grad
            and value.numel() * value.element_size() <= _MAX_ATTRIBUTE_BYTES
        )
    return False


def _is_cache(value: Any) -> bool:
    """Whether it keeps tensors from step to step that are not kept here; activations have a graph instead."""
    if _is_tensor(value):
        return not _is_kept(value) and not value.requires_grad
    items = value.values() if isinstance(value, dict) else value if type(value) in (list, tuple) else ()
    return any(_is_tensor(item) and not item.requires_grad for item in islice(items, _MAX_ITEMS))


_PLAIN = frozenset({bool, int, float, complex, str, type(None)})


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _MAX_TEXT
    if kind in _PLAIN:
        return True
    if kind is tuple:
        return len(value) <= _MAX_ITEMS and all(_is_plain(item) for item in value)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and kind in (torch.dtype, torch.Size):
        return True
    return numpy is not None and isinstance(value, numpy.number | numpy.bool_)


def _is_equal(one: Any, other: Any) -> bool:
    """Whether two plain values are the same, NaN and the type included."""
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def _pair(before: Any, now: Any) -> list[Any]:
    return [now] if before is None else [before, now]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _no_grad_copy(live: Any, now: Any) -> None:
    import torch

    with torch.no_grad():
        live.copy_(now)


def _device(module: Any, live: Any) -> Any:
    """Where a tensor of a module is to be: where it is, or where the module's others are."""
    if _is_tensor(live):
        return live.device
    with suppress(*ODD):
        for one in (*module._parameters.values(), *module._buffers.values()):  # noqa: SLF001
            if one is not None:
                return one.device
    return "cpu"


_NOWHERE = _Place(None)
