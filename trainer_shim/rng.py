"""Random number generators, in and out of plain bytes.

Covers: the global generators of Python, NumPy and torch (CPU and every CUDA
device), and generator objects.
Does not cover: which generator matters when (loader.py and position.py decide
that), where generator objects are found (reach.py).

Imports neither torch nor numpy until a state names them, and never draws a
number. A generator whose library was not loaded cannot have been drawn from.
"""

from __future__ import annotations

import importlib
import json
import random
import struct
import sys
from collections.abc import Mapping
from typing import Any

from trainer_shim.errors import CannotRestore

__all__ = ["capture", "capture_cpu", "check", "dump", "load", "restore"]

# 624 words and a position, then the spare Gaussian that gauss() keeps between two calls.
_PYTHON = struct.Struct("<625I?d")
# Position, whether there is a spare Gaussian, and that number; the 624 words follow.
_NUMPY_HEAD = struct.Struct("<I?d")


def capture() -> dict[str, Any]:
    """Every global generator of this process, as bytes; draws nothing."""
    state = capture_cpu()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        state["cuda"] = [_from_tensor(one) for one in torch.cuda.get_rng_state_all()]
    return state


def capture_cpu() -> dict[str, Any]:
    """The global generators without the CUDA devices: all that loading data draws from."""
    state: dict[str, Any] = {"python": dump(random)}
    # NumPy loads its random module late, and seeds the global generator from the system then.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        state["numpy"] = _dump_numpy(numpy_random.get_state(legacy=False))
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = _from_tensor(torch.get_rng_state())
    return state


def restore(state: Mapping[str, Any]) -> None:
    """Set every generator named in `state`; what it does not name stays as it is.

    Raises CannotRestore when the state holds more CUDA devices than are visible.
    """
    load(random, state["python"])
    if state.get("numpy") is not None:
        _restore_numpy(state["numpy"])
    if state.get("torch") is not None:
        import torch

        torch.set_rng_state(_to_tensor(state["torch"]))
    if state.get("cuda"):
        _restore_cuda(state["cuda"])


def _restore_numpy(state: bytes) -> None:
    try:
        numpy_random = importlib.import_module("numpy.random")
    except ModuleNotFoundError:
        return  # Without the library there is nobody who could draw from it.
    numpy_random.set_state(_load_numpy(state))


def check(state: Mapping[str, Any]) -> None:
    """Raise CannotRestore where `restore` would; nothing is set."""
    states = state.get("cuda") or []
    if not states:
        return
    import torch

    present = torch.cuda.device_count()
    if present < len(states):
        raise CannotRestore(
            f"cannot restore the random numbers of {len(states)} CUDA devices: {present} are visible",
            hint="make as many devices visible as the run had; see `CUDA_VISIBLE_DEVICES`",
        )


def _restore_cuda(states: list[bytes]) -> None:
    import torch

    check({"cuda": states})
    torch.cuda.set_rng_state_all([_to_tensor(one) for one in states])


def dump(generator: Any) -> bytes:
    """The state of a `random.Random` (or the module), `torch.Generator` or NumPy generator."""
    if hasattr(generator, "getstate"):
        _, words, spare = generator.getstate()
        return _PYTHON.pack(*words, spare is not None, spare or 0.0)
    if hasattr(generator, "bit_generator"):
        return _dump_numpy(generator.bit_generator.state)
    if hasattr(generator, "manual_seed"):
        return _from_tensor(generator.get_state())
    if hasattr(generator, "random_raw"):  # A bit generator of NumPy's.
        return _dump_numpy(generator.state)
    if hasattr(generator, "get_state"):
        return _dump_numpy(generator.get_state(legacy=False))
    raise TypeError(f"cannot read the state of a {type(generator).__name__}")


def load(generator: Any, state: bytes) -> None:
    """Put `generator` where `dump` found it."""
    if hasattr(generator, "setstate"):
        *words, has_spare, spare = _PYTHON.unpack(state)
        generator.setstate((3, tuple(words), spare if has_spare else None))
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = _load_numpy(state)
    elif hasattr(generator, "manual_seed"):
        generator.set_state(_to_tensor(state))
    elif hasattr(generator, "random_raw"):
        generator.state = _load_numpy(state)
    else:
        generator.set_state(_load_numpy(state))


def _dump_numpy(state: dict[str, Any]) -> bytes:
    if state["bit_generator"] == "MT19937":
        # The global one, saved with every batch of a worker: as JSON it would take 0.5 ms.
        inner = state["state"]
        head = _NUMPY_HEAD.pack(inner["pos"], bool(state.get("has_gauss")), state.get("gauss", 0.0))
        return b"M" + head + bytes(inner["key"].tobytes())
    # JSON, because PCG64 counts in integers of 128 bits, which MessagePack cannot hold.
    return json.dumps(state, default=lambda array: array.tolist()).encode()


def _load_numpy(state: bytes) -> dict[str, Any]:
    if state[:1] != b"M":
        return dict(json.loads(state))
    numpy = importlib.import_module("numpy")
    pos, has_gauss, gauss = _NUMPY_HEAD.unpack_from(state, 1)
    key = numpy.frombuffer(state, dtype="uint32", offset=1 + _NUMPY_HEAD.size).copy()
    return {
        "bit_generator": "MT19937",
        "state": {"key": key, "pos": pos},
        "has_gauss": int(has_gauss),
        "gauss": gauss,
    }


def _from_tensor(state: Any) -> bytes:
    # Tensor.numpy() would be the usual way, but NumPy may be absent; every generator state is on the CPU.
    import ctypes

    return ctypes.string_at(state.data_ptr(), state.numel())


def _to_tensor(state: bytes) -> Any:
    import torch

    return torch.frombuffer(bytearray(state), dtype=torch.uint8)
