"""ONNX through torch's own exporter, where its packages are installed.

Covers: building the model by the owner's factory, example inputs, what is missing.
Does not cover: whether the model can be expressed; the exporter's own words say why not.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from supervisor.errors import SupervisorError, UsageError

__all__ = ["check_onnx", "write_onnx"]

_NEEDED = ("torch", "onnx", "onnxscript")
_FACTORY = re.compile(r"[\w.]+:\w+")
_EXAMPLE = re.compile(r"\d+(?:,\d+)*(?::[a-z0-9_]+)?", re.ASCII)
_SHAPES = "give a shape such as 1,1,8,8, or with a type, 1,128:int64"


def check_onnx(factory: str, examples: Sequence[str]) -> None:
    """Raise UsageError for what cannot be meant, SupervisorError when the exporter cannot run here."""
    if _FACTORY.fullmatch(factory) is None:
        raise UsageError(f"cannot use `{factory}`: it is not `package.module:factory`", hint="check --model")
    for text in examples:
        if _EXAMPLE.fullmatch(text) is None:
            raise UsageError(f"cannot make an example input of `{text}`", hint=_SHAPES)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise SupervisorError(
            f"cannot export ONNX: {', '.join(missing)} is not installed",
            hint="`pip install onnx onnxscript` in the environment of the model",
        )


def write_onnx(path: Path, state: Mapping[str, Any], factory: str, examples: Sequence[str]) -> None:
    """Build the model, load the weights and write the file; raises UsageError or SupervisorError."""
    import torch

    inputs = tuple(_example(torch, text) for text in examples)
    model = _made(torch, factory)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise SupervisorError(
            f"cannot load the weights into `{factory}`: {error}",
            hint="give the factory of the model that was trained",
        ) from None
    # The exporter tells its progress on stdout, which is for data.
    with redirect_stdout(sys.stderr):
        torch.onnx.export(model.eval(), inputs, str(path), dynamo=True, verbose=False)


def _made(torch: Any, factory: str) -> Any:
    """Return what the owner's factory makes; errors inside it are the owner's and pass through."""
    module_name, _, name = factory.partition(":")
    # As `python -m` does it: what lies here can be imported.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  # sys.path holds texts.
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"cannot import `{module_name}`: {error}", hint="run this where it can be imported"
        ) from None
    make = getattr(module, name, None)
    model = make() if callable(make) else None
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"cannot use `{factory}`: it does not make a torch.nn.Module",
            hint="name a function without arguments, or a class, that makes the model",
        )
    return model


def _example(torch: Any, text: str) -> Any:
    """Return a tensor of a shape such as `1,1,8,8` or `1,128:int64`."""
    shape, _, name = text.partition(":")
    dtype = getattr(torch, name or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(f"cannot make an example input of type `{name}`: torch has none", hint=_SHAPES)
    return torch.zeros([int(size) for size in shape.split(",")], dtype=dtype)
