"""Tensors and arrays as plain memory, and back.

Covers: torch tensors, numpy arrays, and the small values of both libraries.
Does not cover: containers and Python's own values (tree.py), files.

A library is imported here only when a value of it is met in a file. While
encoding, it is looked up among the imported modules: a value of torch cannot
exist before torch is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import msgspec

from trainer_shim.checkpoint.libraries import (
    check_numpy_dtype,
    empty_tensor,
    name_of,
    numpy_dtype,
    the_numpy,
    the_torch,
    torch_dtype,
)
from trainer_shim.checkpoint.strides import check, kept_by_numpy, kept_by_torch
from trainer_shim.checkpoint.tensorfile import ITEM_BYTES
from trainer_shim.devices import TorchMemory
from trainer_shim.errors import CannotSave, CannotStore

__all__ = [
    "ArrayPlace",
    "DeviceBytes",
    "Leaf",
    "encode_leaf",
    "finish_tensor",
    "make_place",
    "pin",
    "settle",
]

# Types that the file format has no name for are stored under the name of
# their parts, with one more dimension; the true type stands in the skeleton.
_TORCH_STORED = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
    "bool": "BOOL", "complex64": "C64",
}  # fmt: skip
_NUMPY_STORED = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "<i2": "I16", "|i1": "I8",
    "<u8": "U64", "<u4": "U32", "<u2": "U16", "|u1": "U8", "|b1": "BOOL", "<c8": "C64",
}  # fmt: skip
_IN_PARTS = {"complex128": "F64", "complex32": "F16", "<c16": "F64"}


class Leaf(msgspec.Struct, frozen=True):
    """A value whose bytes go to the tensor file; leaves of one `identity` are one piece of memory."""

    identity: Hashable
    node: dict[str, Any]
    dtype: str
    shape: tuple[int, ...]
    fetch: Callable[[int, int], memoryview]
    is_costly: bool = False
    stamp: Hashable = None
    copy_to: Callable[[memoryview, int], None] | None = None


class ArrayPlace(msgspec.Struct, frozen=True):
    """Memory for a block that is about to be read, and the value that owns it."""

    memory: memoryview
    value: Any


def encode_leaf(value: Any, path: str) -> Leaf | None:
    """A tensor or array as memory, None for anything else; raises CannotStore for the odd ones."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        _refuse_tensor(torch, value, path)
        return _tensor_leaf(torch, value)
    if numpy is not None and isinstance(value, numpy.ndarray):
        _refuse_array(numpy, value, path)
        return _array_leaf(numpy, value)
    return None


def settle() -> None:
    """Return when no device is still computing: threads that fetch do not wait for each other's streams."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)


def pin(memory: memoryview) -> Callable[[], None]:
    """Make copies from devices to this memory fast where there are any; returns how to undo it."""
    torch = sys.modules.get("torch")
    if torch is None or not memory.nbytes:
        return lambda: None
    return TorchMemory(torch).pin(torch.frombuffer(memory, dtype=torch.uint8))


def make_place(node: dict[str, Any], dtype: str, shape: tuple[int, ...]) -> ArrayPlace:
    """Memory for the block behind a skeleton's node, which stands in the file as `dtype` and `shape`."""
    if node["$"] in ("bytes", "bytearray"):
        _agree(("U8", (node["size"],)), (dtype, shape))
        raw = bytearray(node["size"])
        return ArrayPlace(memoryview(raw), raw)
    true_shape = tuple(node["shape"])
    if "strides" in node:
        check(true_shape, node["strides"])
    if node["$"] == "tensor":
        of_tensor = torch_dtype(node["dtype"])
        _agree(_stored(node["dtype"], true_shape, of_tensor.itemsize), (dtype, shape))
        tensor = empty_tensor(true_shape, of_tensor)
        return ArrayPlace(_tensor_memory(tensor), tensor)
    of_array = numpy_dtype(node["dtype"])
    _agree(_stored(node["dtype"], true_shape, of_array.itemsize), (dtype, shape))
    array = the_numpy().empty(true_shape, of_array)
    return ArrayPlace(_array_memory(array), array)


def _agree(said: tuple[str, tuple[int, ...]], found: tuple[str, tuple[int, ...]]) -> None:
    """Raise ValueError before memory is taken for more than the file holds."""
    if said != found:
        raise ValueError(f"the state says {said}, the tensor file {found}")


def finish_tensor(base: Any, node: dict[str, Any]) -> Any:
    """The tensor or parameter that a node describes, over the memory of `base`."""
    needs_grad = bool(node.get("requires_grad", False))
    if node.get("parameter", False):
        return the_torch().nn.Parameter(base, requires_grad=needs_grad)
    return base.detach().requires_grad_(needs_grad)


def _refuse_tensor(torch: ModuleType, tensor: Any, path: str) -> None:
    """Raise CannotStore for a tensor that is more than one piece of memory."""
    kind = type(tensor)
    if kind not in (torch.Tensor, torch.nn.Parameter):
        if torch.nn.parameter.is_lazy(tensor):
            hint = "run one batch through the model before attach()"
            raise CannotStore(path, "a parameter that has no shape yet", hint=hint)
        hint = "store a plain tensor instead: `.full_tensor()` of a DTensor, `.dequantize()`, `.data`"
        raise CannotStore(path, f"a tensor of type `{kind.__module__}.{kind.__qualname__}`", hint=hint)
    if tensor.is_quantized:
        hint = (
            "attach the model as it was before it was quantized, and quantize a copy of it for use; a tensor "
            "of your own can be kept as its `.int_repr()`, `.q_scale()` and `.q_zero_point()`"
        )
        raise CannotStore(path, "a quantized tensor", hint=hint)
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise CannotStore(
            path, f"a tensor of layout {layout}", hint="store its indices and values, or `.to_dense()`"
        )
    if tensor.is_meta:
        raise CannotStore(
            path, "a tensor on the meta device, it has no data", hint="materialize the model first"
        )
    if tensor.numel() and tensor.untyped_storage().nbytes() == 0:
        raise CannotStore(path, "a tensor whose memory is given back", hint="save before offloading")


def _tensor_leaf(torch: ModuleType, tensor: Any) -> Leaf:
    """A strided tensor as memory."""
    name, shape = name_of(tensor.dtype), tuple(tensor.shape)
    node: dict[str, Any] = {"$": "tensor", "dtype": name, "shape": list(shape)}
    if tensor.requires_grad:
        node["requires_grad"] = True
    if type(tensor) is torch.nn.Parameter:
        node["parameter"] = True
    # Empty tensors share the null pointer without being one.
    where = tensor.data_ptr() if tensor.numel() else id(tensor)
    is_turned = tensor.is_conj() or tensor.is_neg()
    view = (tensor.device, where, shape, tensor.stride(), is_turned and (tensor.is_conj(), tensor.is_neg()))
    dtype, stored_shape = _stored(name, shape, tensor.element_size())
    is_plain = tensor.is_contiguous() and not is_turned
    # Strides of dimensions with one element may be any, and yet decide which kernel is chosen.
    if (not is_plain or 1 in shape) and (strides := kept_by_torch(torch, tensor)) is not None:
        node["strides"] = strides
    # The memory's object, not its address: that is another after it was given back and taken again.
    stamp: Hashable = (tensor.untyped_storage()._cdata, view[2:])  # noqa: SLF001  # No other name for it.
    # Tensors made for inference have no counter.
    stamp = None if tensor.is_inference() else (stamp, tensor._version)  # noqa: SLF001  # torch documents it.
    if not is_plain:
        fetch, copy_to = _Rearranged(tensor).fetch, None
    elif tensor.is_cpu:
        fetch, copy_to = _Lent(tensor).fetch, None
    else:
        fetch, copy_to = (there := DeviceBytes(torch, tensor)).fetch, there.copy_to
    return Leaf(("tensor", name, view), node, dtype, stored_shape, fetch, not is_plain, stamp, copy_to)


class _Lent:
    """The bytes of a tensor where they are."""

    def __init__(self, tensor: Any) -> None:
        # The storage, because a script may give the tensor another one at any time.
        self._where = tensor.data_ptr(), tensor.nbytes, tensor.untyped_storage()
        self._memory: memoryview | None = None

    def fetch(self, begin: int, end: int) -> memoryview:
        if self._memory is None:  # Several threads may make it; they make the same.
            self._memory = _memory(*self._where)
        return self._memory[begin:end]


class DeviceBytes:
    """The bytes of a contiguous tensor on a device, of which no more comes to the host than is wanted."""

    def __init__(self, torch: ModuleType, tensor: Any) -> None:
        self._torch = torch
        flat = tensor.detach().view(-1)
        self._flat = flat.view(torch.uint8) if tensor.numel() else flat

    def fetch(self, begin: int, end: int) -> memoryview:
        """Bytes `begin` to `end`, in host memory of their own; raises CannotSave."""
        part = memoryview(bytearray(end - begin))
        self.copy_to(part, begin)
        return part

    def copy_to(self, target: memoryview, begin: int) -> None:
        """Put the bytes from `begin` on where they are wanted; raises CannotSave."""
        if target.nbytes:
            with _told_of(self._flat):
                host = self._torch.frombuffer(target, dtype=self._torch.uint8)
                host.copy_(self._flat[begin : begin + target.nbytes])


class _Rearranged:
    """The bytes of a tensor whose elements do not lie in their order."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor.detach()

    def fetch(self, begin: int, end: int) -> memoryview:
        with _told_of(self._tensor):
            return _tensor_memory(self._tensor.resolve_conj().resolve_neg().to("cpu").contiguous())[begin:end]


@contextmanager
def _told_of(tensor: Any) -> Iterator[None]:
    """What a device raises as an error that says what could not be done: out of memory, or a lost device."""
    try:
        yield
    except RuntimeError as error:
        shape, device = list(tensor.shape), tensor.device
        raise CannotSave(
            f"cannot read a tensor of shape {shape} from {device}: {error}",
            hint="look at the device with `nvidia-smi`; the older checkpoints are untouched",
        ) from error


def _refuse_array(numpy: ModuleType, array: Any, path: str) -> None:
    """Raise CannotStore for an array that is more than one piece of memory."""
    if type(array) is not numpy.ndarray:
        kind = type(array)
        hint = "store `numpy.asarray()` of it"
        raise CannotStore(path, f"an array of type `{kind.__module__}.{kind.__qualname__}`", hint=hint)
    check_numpy_dtype(numpy, array.dtype, path)
    if array.itemsize == 0:
        raise CannotStore(path, "an array whose elements have no bytes", hint="store a list")


def _array_leaf(numpy: ModuleType, array: Any) -> Leaf:
    """An array as memory."""
    name, shape = array.dtype.str, tuple(array.shape)
    where = array.__array_interface__["data"][0] if array.size else id(array)
    dtype, stored_shape = _stored(name, shape, array.itemsize)
    node: dict[str, Any] = {"$": "numpy.ndarray", "dtype": name, "shape": list(shape)}
    identity = ("numpy", name, where, shape, array.strides)
    is_plain = array.flags.c_contiguous
    if not is_plain and (strides := kept_by_numpy(numpy, array)) is not None:
        node["strides"] = strides

    def fetch(begin: int, end: int) -> memoryview:
        return _array_memory(array if is_plain else numpy.ascontiguousarray(array))[begin:end]

    return Leaf(identity, node, dtype, stored_shape, fetch, is_costly=not is_plain)


def _stored(name: str, shape: tuple[int, ...], item_bytes: int) -> tuple[str, tuple[int, ...]]:
    """The element type and shape under which a block of dtype `name` stands in the tensor file."""
    direct = _TORCH_STORED.get(name) or _NUMPY_STORED.get(name)
    if direct is not None:
        return direct, shape
    part = _IN_PARTS.get(name, "U8")
    return part, (*shape, item_bytes // ITEM_BYTES[part])


def _memory(address: int, size_bytes: int, owner: Any) -> memoryview:
    """The bytes at an address, which stay there as long as they are used: their owner does."""
    if size_bytes == 0:
        return memoryview(bytearray())
    import ctypes

    raw = (ctypes.c_ubyte * size_bytes).from_address(address)
    raw.owner = owner  # type: ignore[attr-defined]  # ctypes does not know whose memory it is.
    return memoryview(raw).cast("B")


def _tensor_memory(tensor: Any) -> memoryview:
    """The bytes of a contiguous CPU tensor."""
    return _memory(tensor.data_ptr(), tensor.nbytes, tensor)


def _array_memory(array: Any) -> memoryview:
    """The bytes of a contiguous array."""
    # Dates and the like have no buffer of their own; bytes seen through a view have.
    return memoryview(array.reshape(-1).view("u1"))
