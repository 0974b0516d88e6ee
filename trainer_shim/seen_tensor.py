"""A tensor as it was at one time, known again without keeping it.

Covers: what tells it from another one, whether it was written to since.
Does not cover: which tensors are looked at (module_state.py).
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

from trainer_shim.module_tree import ODD

__all__ = ["SeenTensor", "digest_of"]


class SeenTensor:
    """A tensor as it was, without keeping it."""

    def __init__(self, tensor: Any) -> None:
        self._same, self._version = weakref.ref(tensor), _version(tensor)
        self.digest = digest_of(tensor)
        #: One that was written to, or is another, and whether it holds the same all the same.
        self._known: tuple[Any, int | None, bool] = (None, None, False)

    def is_same(self, tensor: Any) -> bool:
        """Whether it holds what it held; nobody looks into one that was not written to."""
        version = _version(tensor)
        if version is None:
            return digest_of(tensor) == self.digest
        if self._same() is tensor and version == self._version:
            return True
        known, known_version, is_same = self._known
        if known is None or known() is not tensor or known_version != version:
            is_same = digest_of(tensor) == self.digest
            self._known = (weakref.ref(tensor), version, is_same)
        return is_same


def digest_of(tensor: Any) -> str:
    """What tells it from another one, type and shape included."""
    import hashlib

    import torch

    with suppress(*ODD), torch.no_grad():
        flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
        running = hashlib.blake2b(memoryview(flat.numpy()), digest_size=16)
        return f"{tensor.dtype}{list(tensor.shape)} {running.hexdigest()}"
    return "unknown"


def _version(tensor: Any) -> int | None:
    """How often it was written to; None where torch does not count."""
    with suppress(*ODD):
        return int(tensor._version)  # noqa: SLF001
    return None
