"""torch and numpy, imported on use, and the names of their element types.

Covers: which names a file may say. Does not cover: values of these types (arrays.py, small.py).
"""

from __future__ import annotations

import re
from functools import cache
from types import ModuleType
from typing import Any

from trainer_shim.errors import CannotRestore, CannotStore

__all__ = [
    "check_numpy_dtype",
    "empty_tensor",
    "name_of",
    "numpy_dtype",
    "the_numpy",
    "the_torch",
    "torch_dtype",
]

# What numpy writes for unstructured types; `O` (objects) is not among them.
_NUMPY_DTYPE = re.compile(r"[<>|][?bhilqefdgFDGiucmMSUV][0-9]{1,9}(\[[0-9]{0,9}[A-Za-z]{1,7}\])?")
_TORCH_DTYPE = re.compile(r"[a-z][a-z0-9_]{0,30}")


def the_torch() -> Any:
    """Import torch, or raise CannotRestore."""
    try:
        import torch
    except ImportError as error:
        raise CannotRestore(f"cannot restore tensors: {error}", hint="install torch") from error
    return torch


def the_numpy() -> Any:
    """Import numpy, or raise CannotRestore."""
    try:
        import numpy as np
    except ImportError as error:
        raise CannotRestore(f"cannot restore numpy arrays: {error}", hint="install numpy") from error
    return np


def empty_tensor(shape: tuple[int, ...], dtype: Any, strides: Any = None) -> Any:
    """A tensor to be filled; raises MemoryError where there is no room for it."""
    torch = the_torch()
    try:
        # The device is named because a script may have set another default.
        if strides is not None:
            return torch.empty_strided(shape, strides, dtype=dtype, device="cpu")
        return torch.empty(shape, dtype=dtype, device="cpu")
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # torch has no type of error for it.
            raise MemoryError from error
        raise


@cache
def name_of(dtype: Any) -> str:
    """What torch calls a type."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: str) -> Any:
    """The dtype of a name; no other attribute of torch can be reached."""
    torch = the_torch()
    # Not `getattr`: torch imports some of its parts when they are asked for.
    found = vars(torch).get(name) if _TORCH_DTYPE.fullmatch(name) else None
    if not isinstance(found, torch.dtype):
        raise CannotRestore(
            f"cannot restore a tensor of dtype `{name}`: torch {torch.__version__} has none",
            hint="use the torch version that the checkpoint's manifest names",
        )
    return found


def numpy_dtype(name: str) -> Any:
    """The dtype of a name, which can be neither objects nor records."""
    if not _NUMPY_DTYPE.fullmatch(name):
        raise ValueError(f"`{name}` is no numpy type")
    return the_numpy().dtype(name)


def check_numpy_dtype(numpy: ModuleType, dtype: Any, path: str) -> None:
    """Raise CannotStore for a type that its short name does not describe: objects and records."""
    if dtype.hasobject or not _NUMPY_DTYPE.fullmatch(dtype.str) or numpy.dtype(dtype.str) != dtype:
        hint = "store a list, or one array per field"
        raise CannotStore(path, f"numpy values of type `{dtype}`", hint=hint)
