"""How the elements of a tensor or array lie in memory, where that is not their own order.

Covers: which strides are kept, which of those in a file make sense, putting
elements there.
Does not cover: the elements themselves, which stand in a file in their order (arrays.py).

Kept is what the library itself keeps in a copy: strides without gaps and
overlaps stay, all others (slices, expanded and overlapping views) become what
`torch.empty_like` or `numpy.empty_like` gives. So every layout in a file fills
its memory exactly, and nothing else is believed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from trainer_shim.checkpoint.libraries import empty_tensor, the_numpy

__all__ = ["check", "kept_by_numpy", "kept_by_torch", "laid_out"]

#: Of a dimension with one element, where a stride decides nothing.
_MAX_STRIDE = 1 << 62


def kept_by_torch(torch: ModuleType, tensor: Any) -> list[int] | None:
    """The strides to keep, in elements; None where those are the ones of its order."""
    if not tensor.numel():
        return None
    # On the meta device a copy takes no memory.
    copy = torch.empty_like(tensor, dtype=torch.uint8, device="meta", requires_grad=False)
    strides = list(copy.stride())
    return None if strides == _in_order(tuple(tensor.shape)) else strides


def kept_by_numpy(numpy: ModuleType, array: Any) -> list[int] | None:
    """The same for an array."""
    if not array.size:
        return None
    # One byte an element, so that bytes are elements; the memory is never touched.
    strides = list(numpy.empty_like(array, dtype="u1", subok=False).strides)
    shape = tuple(array.shape)
    if _of_many(shape, strides) == _of_many(shape, _in_order(shape)):
        return None
    # numpy itself does not say the same of dimensions with one element at all times.
    return [stride if length > 1 else 1 for stride, length in zip(strides, shape, strict=True)]


def check(shape: tuple[int, ...], strides: Any) -> None:
    """Raise ValueError unless the strides fill the memory of so many elements without gap or overlap."""
    if not isinstance(strides, list) or len(strides) != len(shape):
        raise ValueError(f"{len(shape)} dimensions, and other strides: {str(strides)[:100]}")
    if not all(type(one) is int and 0 <= one < _MAX_STRIDE for one in strides):
        raise ValueError("a stride that is no number, or out of range")
    size = 1
    for stride, length in sorted(_of_many(shape, strides)):
        if stride != size:
            raise ValueError(f"strides with a gap or an overlap: {str(strides)[:100]}")
        size *= length


def laid_out(value: Any, strides: Any) -> Any:
    """A copy of a tensor or array with such strides, which are checked; without any, the value itself."""
    if strides is None:
        return value
    shape = tuple(value.shape)
    if hasattr(value, "data_ptr"):
        return empty_tensor(shape, value.dtype, strides).copy_(value)
    order = sorted(range(len(shape)), key=lambda dim: (-strides[dim], -shape[dim], dim))
    turned = the_numpy().empty([shape[dim] for dim in order], value.dtype)
    array = turned.transpose([order.index(dim) for dim in range(len(shape))])
    array[...] = value
    return array


def _in_order(shape: tuple[int, ...]) -> list[int]:
    """The strides of elements in their order."""
    strides, size = [0] * len(shape), 1
    for dim in range(len(shape) - 1, -1, -1):
        strides[dim] = size
        size *= shape[dim]
    return strides


def _of_many(shape: tuple[int, ...], strides: list[int]) -> list[tuple[int, int]]:
    """Stride and length of each dimension that has more than one element."""
    return [(stride, length) for stride, length in zip(strides, shape, strict=True) if length > 1]
