"""One checkpoint, verified before any of it is handed out.

Covers: opening without being led astray, sizes, digests, fitting the parts
together.
Does not cover: which checkpoint is read, and what becomes of a damaged one
(store.py).

A tensor's bytes are read once and digested on the way to their tensor;
nothing leaves this module before the digest has been compared. Digests guard
against accidents. Against malice the guard is that a file is only ever data:
the worst that a forged checkpoint can hold is wrong numbers.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from trainer_shim.checkpoint import digest, layout, tensorfile, tree
from trainer_shim.checkpoint.arrays import make_place
from trainer_shim.checkpoint.manifest import MAX_BYTES, MAX_TEXT_BYTES, File, Manifest, parse
from trainer_shim.checkpoint.strides import laid_out
from trainer_shim.errors import CannotRestore, Damaged

__all__ = ["Loaded", "load", "opened", "opened_folder", "read_manifest", "visible"]

#: In the order of reading: the second is optional.
_TENSOR_FILES = (layout.rank_tensors(0), layout.rank_still(0))
#: Large enough that the system calls do not show.
_PIECE_BYTES = 1 << 20
# The rest (no rights, no descriptors, a stale mount) says nothing about the checkpoint.
_DAMAGE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.ENXIO})


class Loaded(msgspec.Struct, frozen=True):
    """A checkpoint that keeps its manifest's word."""

    path: Path
    step: int
    epoch: int
    state: dict[str, Any]
    manifest: Manifest
    #: The same as `Saved.digest` of the save that wrote it.
    digest: str
    #: Names of the tensors that stand in the file of those that do not change.
    still: frozenset[str]


def visible(root: Path) -> list[layout.Name]:
    """The checkpoints under `root`, newest first, whole or not."""
    return sorted((name for path in root.iterdir() if (name := layout.parse_name(path.name))), reverse=True)


def load(folder: Path) -> Loaded:
    """Read and verify one checkpoint; raises Damaged, or CannotRestore when it cannot be read here."""
    try:
        with opened_folder(folder) as at:
            manifest, own = read_manifest(at, folder.name)
            for name in manifest.files.keys() - {layout.rank_json(0), *_TENSOR_FILES}:
                _verify(at, name, manifest.files[name])
            state, still = _read_state(at, manifest)
    except OSError as error:
        reason = f"cannot read the checkpoint `{folder}`: {error.strerror}"
        if error.errno in _DAMAGE:
            raise Damaged(reason) from error
        raise CannotRestore(reason, hint="look at owner and mode of its files, and at the disk") from error
    except MemoryError as error:  # Says nothing about the checkpoint: elsewhere it may be restored.
        raise CannotRestore(
            f"cannot restore the checkpoint `{folder}`: out of memory",
            hint="free some memory, look at `ulimit -v`, or restore on a larger machine",
        ) from error
    except Damaged as error:
        raise Damaged(f"cannot use the checkpoint `{folder}`: {_reason(error)}") from error
    except CannotRestore as error:
        text = str(error).removeprefix("cannot restore ")
        raise CannotRestore(f"cannot restore the checkpoint `{folder}`: {text}", hint=error.hint) from error
    return Loaded(folder, manifest.step, manifest.epoch, state, manifest, own, still)


def read_manifest(at: int, folder_name: str) -> tuple[Manifest, str]:
    """The manifest of an open folder, and its digest; raises Damaged, CannotRestore or OSError."""
    manifest, own = parse(_manifest_text(at))
    _check_manifest(manifest, folder_name)
    return manifest, own


def _reason(error: Damaged) -> str:
    """The part of a message that is new beside the folder's name."""
    return str(error).removeprefix("cannot use ")


def _check_manifest(manifest: Manifest, folder_name: str) -> None:
    """Raise unless the manifest belongs to this folder and names the files of every rank."""
    name = layout.parse_name(folder_name)
    if name is None or name.step != manifest.step:
        raise Damaged(f"cannot use the manifest: it is of step {manifest.step}")
    for rank in range(manifest.world_size):
        for file in (layout.rank_json(rank), layout.rank_tensors(rank)):
            if file not in manifest.files:
                raise Damaged(f"cannot use the manifest: it does not name `{file}`")
    for file, entry in manifest.files.items():
        if not layout.is_tensors(file) and entry.size_bytes > MAX_TEXT_BYTES:
            raise Damaged(f"cannot use `{file}`: it is larger than any state, {entry.size_bytes} bytes")
        if not digest.is_known(entry.digest) or digest.is_chunked(entry.digest) != layout.is_tensors(file):
            raise Damaged(f"cannot use the manifest: `{file}` has the digest `{entry.digest[:40]}`")


def _read_state(at: int, manifest: Manifest) -> tuple[dict[str, Any], frozenset[str]]:
    """The state tree of this rank, and which tensors of it do not change."""
    text_file = layout.rank_json(0)
    skeleton = tree.parse(_verify(at, text_file, manifest.files[text_file], keep=True))
    nodes, values = tree.block_nodes(skeleton), dict[str, Any]()
    for file in _TENSOR_FILES:
        still = frozenset(nodes.keys() - values.keys())
        if file in manifest.files:
            _read_values(at, file, manifest.files[file], nodes, values)
    if values.keys() != nodes.keys():
        raise Damaged(f"cannot use `{text_file}`: its state has other tensors than the tensor files")
    state = tree.decode(skeleton, values)
    if not isinstance(state, dict):
        raise Damaged(f"cannot use `{text_file}`: its root is not a map")
    return state, still


def _read_values(
    at: int, file_name: str, file: File, nodes: dict[str, tree.Node], values: dict[str, Any]
) -> None:
    """Add the value of every block of a file, verified."""
    with opened(at, file_name, file.size_bytes) as source:
        begin, entries = tensorfile.read_header(source, file.size_bytes)
        if entries.keys() - nodes.keys() or entries.keys() & values.keys():
            raise Damaged(f"cannot use `{file_name}`: it holds other tensors than the state says")
        _check_memory(file_name, file.size_bytes)
        try:
            places = {
                name: make_place(nodes[name], entry.dtype, entry.shape) for name, entry in entries.items()
            }
        # What senseless shapes and types make Python and torch raise.
        except (LookupError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise Damaged(f"cannot use `{file_name}`: {type(error).__name__}: {error}") from error
        from trainer_shim.checkpoint import directread

        targets = [(begin + entries[name].data_offsets[0], place.memory) for name, place in places.items()]
        _compare(file_name, file, directread.read(source.fileno(), file.size_bytes, targets))
    targets.clear()
    for name in entries:
        # Each one's first memory is given back before the next takes its second.
        values[name] = laid_out(places.pop(name).value, nodes[name].get("strides"))


def _check_memory(file_name: str, size_bytes: int) -> None:
    """Raise MemoryError for more than the machine has: taken bit by bit, it would end the process."""
    with suppress(OSError, ValueError), Path("/proc/meminfo").open("rb") as source:
        lines = dict(line.split(b":") for line in source)
        if size_bytes > sum(int(lines[name].split()[0]) << 10 for name in (b"MemTotal", b"SwapTotal")):
            raise MemoryError(f"`{file_name}` holds {size_bytes} bytes")


def _verify(at: int, name: str, file: File, *, keep: bool = False) -> bytearray:
    """Raise Damaged unless the file is the one the manifest means; return its bytes if they are wanted."""
    running, kept = digest.start_like(file.digest), bytearray()
    with opened(at, name, file.size_bytes) as source:
        left = file.size_bytes
        while left:
            piece = source.read(min(left, _PIECE_BYTES))
            if not piece:
                raise Damaged(f"cannot use `{name}`: it ends too early")
            running.update(piece)
            kept += piece if keep else b""
            left -= len(piece)
    _compare(name, file, digest.finish(running))
    return kept


def _compare(name: str, file: File, found: str) -> None:
    """Raise Damaged unless the digests agree."""
    if found != file.digest:
        raise Damaged(f"cannot use `{name}`: its bytes are not those that were saved")


def _manifest_text(at: int) -> bytes:
    """The text of the manifest, which nobody vouches for yet."""
    with opened(at, layout.MANIFEST, None) as source:
        text = source.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise Damaged(f"cannot use the manifest: it is longer than {MAX_BYTES} bytes")
    return text


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """A descriptor of the folder itself, never of what a link points to."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield at
    finally:
        os.close(at)


@contextmanager
def opened(at: int, name: str, size_bytes: int | None) -> Iterator[io.BufferedReader[io.FileIO]]:
    """A plain file of the folder, of the expected size."""
    # Looked at first, because opening a device may set it going. O_NONBLOCK because opening a pipe, put
    # here since, would wait for its other end.
    if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        raise Damaged(f"cannot use `{name}`: it is not a plain file")
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    with io.BufferedReader(io.FileIO(descriptor)) as source:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Damaged(f"cannot use `{name}`: it is not a plain file")
        if size_bytes is not None and found.st_size != size_bytes:
            raise Damaged(f"cannot use `{name}`: it has {found.st_size} bytes instead of {size_bytes}")
        yield source
