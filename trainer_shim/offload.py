"""Giving back the memory of devices in place, and taking it again: depth `offload`.

Covers: copy to the host, drop, allocate, copy back; each all or nothing.
Does not cover: when (at_boundary.py), what belongs to the run (tensors.py), the
calls to the device (devices.py).

Storages are emptied and filled again where they are, so every tensor, view,
tied weight, gradient and reference to them stays the object that it was, with
its strides and its version. Only addresses may change; that is why a run with
captured graphs is refused. Between the two nothing may look into such a
tensor: torch follows a null pointer.

There is one block of host memory, allocated whole before anything is dropped.
It is given up when all is back, not earlier: a return that fails half-way
drops what it took and can be tried again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from trainer_shim.devices import DeviceMemory, TorchMemory
from trainer_shim.errors import CannotOffload, CannotReturn
from trainer_shim.units import format_bytes

if TYPE_CHECKING:
    from trainer_shim.tensors import FoundTensors, Piece

__all__ = ["GivenBack", "Offloader"]

#: Pieces begin at multiples of that, so that a tensor of any type can lie there.
_ALIGN_BYTES = 64

#: What is left to the host beside the copy: a machine without a page to spare kills somebody.
_HOST_SPARE_BYTES = 256 << 20


#: What objects of a script raise that do not like to be looked at.
_ODD_PARTS = (RuntimeError, TypeError, AttributeError, ValueError, ReferenceError, LookupError)


class GivenBack(msgspec.Struct, frozen=True):
    """What came of it."""

    #: By how much what the process holds of its devices became less.
    bytes_freed: int
    #: What stays there, in words.
    notes: tuple[str, ...]


class _Away(msgspec.Struct):
    """What is on the host."""

    block: Any
    unpin: Callable[[], None]
    #: Each piece, with where its bytes begin in the block.
    pieces: list[tuple[Piece, int]]
    tensors: list[Any]


class Offloader:
    """Belongs to the thread that trains. `parts` are what the run is made of, besides what `extra` gives.

    `device_types` is `("cpu",)` in tests, on machines that have no device.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        extra: Callable[[], Any] = dict,
        device_types: tuple[str, ...] = ("cuda",),
        memory: DeviceMemory | None = None,
    ) -> None:
        self._parts, self._extra, self._types = parts, extra, device_types
        self._memory_given = memory
        self._away: _Away | None = None

    @property
    def is_away(self) -> bool:
        """Whether the tensors are on the host, where nobody can use them."""
        return self._away is not None

    def has_something(self) -> bool:
        """Say whether there is something on a device; a look, nothing is moved."""
        torch = sys.modules.get("torch")
        if torch is None or (self._types == ("cuda",) and not torch.cuda.is_initialized()):
            return False
        from trainer_shim.tensors import has_any

        with suppress(*_ODD_PARTS):
            return self.is_away or has_any(torch, (*self._parts.values(), self._extra()), self._types)
        return False

    def depths(self) -> tuple[str, ...]:
        """Return to which depths a run can be paused by now."""
        return ("hold", "offload", "exit") if self.has_something() else ("hold", "exit")

    def give_back(self) -> GivenBack:
        """Move everything to the host; raises CannotOffload, and then nothing was moved."""
        found, memory = self._find(), self._memory()
        if memory.has_graphs():
            raise CannotOffload(
                "cannot give back GPU memory: captured CUDA graphs hold addresses, which would be others "
                "afterwards",
                hint="pause with `--depth exit`",
            )
        reserved_before = memory.reserved_bytes()
        # Noted before the first piece is dropped: who is interrupted here can still take all back.
        away = self._away = self._copied(found, memory)
        away.pieces, refused = _dropped(away.pieces, memory)
        if not away.pieces:
            self._away = None
            away.unpin()
            raise CannotOffload(f"cannot give back GPU memory: {refused}", hint="pause with `--depth exit`")
        moved_bytes = sum(piece.size_bytes for piece, _ in away.pieces)
        # What found them would keep cycles alive that the collector is to find.
        stay = Counter(found.stay)
        del found
        memory.trim()
        reserved_now = memory.reserved_bytes()
        if reserved_before is None or reserved_now is None:
            freed_bytes = moved_bytes
        else:
            freed_bytes = max(0, reserved_before - reserved_now)
        return GivenBack(freed_bytes, tuple(_notes(stay, refused, memory.used_bytes())))

    def take_back(self) -> None:
        """Make everything as it was; raises CannotReturn, and then all of it is still on the host."""
        away = self._away
        if away is None:
            return
        memory = self._memory()
        # Asked first: taken in vain, even for a moment, memory is missing to those who have the rest of it.
        if (shortage := self._shortage(away, memory)) is not None:
            raise shortage
        taken: list[Piece] = []
        try:
            for piece, _ in away.pieces:
                memory.take(piece.storage, piece.size_bytes)
                taken.append(piece)
            for piece, begin in away.pieces:
                _bytes_of(piece).copy_(away.block[begin : begin + piece.size_bytes], non_blocking=True)
            memory.settle()
        except (RuntimeError, MemoryError) as error:
            # A device that is lost refuses this as well; nobody will use it then.
            with suppress(RuntimeError):
                memory.settle()
                for piece in taken:
                    memory.drop(piece.storage)
                memory.trim()
            raise (self._shortage(away, memory) or _refused(away, error)) from error
        away.unpin()
        self._away = None

    def stay_on_host(self) -> None:
        """Make the tensors host tensors, for what a script still does with them on its way out."""
        away, self._away = self._away, None
        torch = sys.modules.get("torch")
        if away is None or torch is None:
            return
        where = {piece.storage._cdata: begin for piece, begin in away.pieces}  # noqa: SLF001  # as in tensors.py
        host = away.block.untyped_storage()
        for tensor in away.tensors:
            begin = where.get(tensor.untyped_storage()._cdata)  # noqa: SLF001
            if begin is None:
                continue
            # One that was made for inference cannot be given other memory.
            with suppress(RuntimeError), torch.no_grad():
                offset = begin // tensor.element_size() + tensor.storage_offset()
                empty = torch.empty(0, dtype=tensor.dtype, device="cpu")
                tensor.data = empty.set_(host, offset, tensor.size(), tensor.stride())

    def _find(self) -> FoundTensors:
        from trainer_shim.tensors import FoundTensors, find

        torch = sys.modules.get("torch")
        try:
            # What a part keeps where no attribute shows it, it hands over when it is saved.
            states = [part.state_dict() for part in self._parts.values()]
            roots = (*self._parts.values(), self._extra(), *states)
            found = FoundTensors() if torch is None else find(torch, roots, self._types)
        except _ODD_PARTS as error:
            raise CannotOffload(
                f"cannot see which tensors belong to the run: {type(error).__name__}: {error}",
                hint="pause with `--depth exit`",
            ) from error
        if not found.pieces:
            stay = "; ".join(_stay_words(found.stay)) or "nothing of this run lives on a GPU"
            raise CannotOffload(f"cannot give back GPU memory: {stay}", hint="pause with `--depth exit`")
        return found

    def _memory(self) -> DeviceMemory:
        return self._memory_given or TorchMemory(sys.modules["torch"])

    def _copied(self, found: FoundTensors, memory: DeviceMemory) -> _Away:
        """Copy all pieces to the host; nothing is dropped yet."""
        import torch

        pieces, num_bytes = [], 0
        for piece in found.pieces:
            pieces.append((piece, num_bytes))
            num_bytes += -(-piece.size_bytes // _ALIGN_BYTES) * _ALIGN_BYTES
        free_bytes = memory.host_bytes()
        if free_bytes is not None and num_bytes + _HOST_SPARE_BYTES > free_bytes:
            raise CannotOffload(
                f"cannot copy {format_bytes(num_bytes)} to host memory: {format_bytes(free_bytes)} is "
                f"available, and {format_bytes(_HOST_SPARE_BYTES)} is left to others",
                hint="pause with `--depth exit`",
            )
        unpin: Callable[[], None] | None = None
        try:
            memory.settle()
            block = torch.empty(num_bytes, dtype=torch.uint8, device="cpu")
            unpin = memory.pin(block)
            for piece, begin in pieces:
                block[begin : begin + piece.size_bytes].copy_(_bytes_of(piece), non_blocking=True)
            memory.settle()
        except (RuntimeError, MemoryError) as error:
            if unpin is not None:
                unpin()
            raise CannotOffload(
                f"cannot copy {format_bytes(num_bytes)} to host memory: {error}",
                hint="pause with `--depth exit`",
            ) from error
        return _Away(block, unpin, pieces, found.tensors)

    def _shortage(self, away: _Away, memory: DeviceMemory) -> CannotReturn | None:
        """Say on which device others have too much; None where nobody says so."""
        for device, num_bytes in _needs(away).items():
            free_bytes: int | None = None
            with suppress(RuntimeError):
                free_bytes = memory.free_bytes(device)
            if free_bytes is not None and free_bytes < num_bytes:
                words = f"needs {format_bytes(num_bytes)}, free {format_bytes(free_bytes)}"
                return CannotReturn(f"waiting for GPU memory: {words}", is_short=True)
        return None


def _needs(away: _Away) -> Counter[Any]:
    """How much memory of which device."""
    needs: Counter[Any] = Counter()
    for piece, _ in away.pieces:
        needs[piece.device] += piece.size_bytes
    return needs


def _refused(away: _Away, error: BaseException) -> CannotReturn:
    reason = str(error).partition("\n")[0][:200] or "out of memory"
    return CannotReturn(f"waiting for GPU memory: needs {format_bytes(_needs(away).total())} ({reason})")


def _bytes_of(piece: Piece) -> Any:
    """The memory of a piece as a tensor of bytes, whose version is its own."""
    import torch

    with torch.no_grad():
        return torch.empty(0, dtype=torch.uint8, device=piece.device).set_(piece.storage)


def _dropped(pieces: list[tuple[Piece, int]], memory: DeviceMemory) -> tuple[list[tuple[Piece, int]], str]:
    """Drop them; return those that are gone from the device, and why others are not."""
    gone, refused = [], ""
    for piece, begin in pieces:
        try:
            memory.drop(piece.storage)
        except RuntimeError as error:
            refused = str(error).partition("\n")[0]
        else:
            gone.append((piece, begin))
    return gone, refused


def _notes(stay: Mapping[str, int], refused: str, used_bytes: int) -> Iterable[str]:
    yield from _stay_words(stay)
    if refused:
        yield f"some memory cannot be given back: {refused}"
    if used_bytes >= 1 << 20:
        yield f"still allocated: {format_bytes(used_bytes)} of GPU memory that the shim does not know"


def _stay_words(stay: Mapping[str, int]) -> Iterable[str]:
    for reason, count in stay.items():
        yield f"{count} tensors stay on their device: {reason}"
