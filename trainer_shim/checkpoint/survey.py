"""What is in a folder of checkpoints, at a glance.

Covers: manifests, pins, readers, sizes of files; what of it retention needs.
Does not cover: the bytes of the files (verify.py), what is decided (retention.py).

Needs no lock: a checkpoint that is removed meanwhile is not there.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from trainer_shim.checkpoint import pins, reader, reading
from trainer_shim.checkpoint.layout import PREPROCESSING, Name, parse_aside
from trainer_shim.checkpoint.manifest import MAX_BYTES, Manifest
from trainer_shim.checkpoint.retention import Keep, Known
from trainer_shim.checkpoint.verify import reason
from trainer_shim.errors import CannotRestore, Damaged

__all__ = ["SeenFolder", "aside", "keep_of", "look", "look_at", "metrics_of", "preprocessing_of"]

#: Says that the folder is no checkpoint, whoever looks; anything else may be another matter tomorrow.
_NEVER_WAS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR})


class SeenFolder(msgspec.Struct, frozen=True):
    """One checkpoint, or one that was set aside."""

    folder: Path
    known: Known
    #: What is wrong, in words; "" where nothing is, as far as one can see without reading it.
    problem: str = ""
    manifest: Manifest | None = None
    #: Of the manifest.
    digest: str = ""
    is_aside: bool = False


def look(root: Path) -> list[SeenFolder]:
    """All checkpoints below `root`, newest first; raises OSError where the folder cannot be read."""
    marks = pins.read_all(root)
    notes = {name: mark.note for name, mark in marks.items()}
    found = [look_at(root / str(name), name, notes.get(name)) for name in reader.visible(root)]
    return [one for one in found if one.folder.is_dir()]


def look_at(folder: Path, name: Name, pin: str | None = None, *, is_aside: bool = False) -> SeenFolder:
    """What the manifest of one checkpoint says, and whether its files are there."""
    doubt = problem = own = ""
    manifest: Manifest | None = None
    try:
        with reader.opened_folder(folder) as at:
            manifest, own = reader.read_manifest(at, str(name))
            problem = _missing(at, manifest)
    except Damaged as error:
        problem = reason(error, "the manifest")
    except CannotRestore as error:
        doubt = str(error)
    except OSError as error:
        words = error.strerror or str(error)
        doubt, problem = ("", words) if error.errno in _NEVER_WAS else (words, "")
    known = Known(
        name,
        saved_s=_unix(manifest.saved_at) if manifest else None,
        metrics=metrics_of(manifest.facts) if manifest else {},
        is_damaged=bool(problem),
        doubt=doubt,
        pin=pin,
        is_read=reading.is_read(folder),
    )
    return SeenFolder(folder, known, problem or doubt, manifest, own, is_aside)


def aside(root: Path) -> Iterator[SeenFolder]:
    """Those that were set aside as damaged."""
    for path in sorted(root.iterdir(), reverse=True):
        name = parse_aside(path.name)
        if name is not None:
            yield look_at(path, name, is_aside=True)


def metrics_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """The numbers last reported before a save; those that are none, as NaN, are left out."""
    said = facts.get("metrics")
    numbers = {}
    for metric, value in said.items() if isinstance(said, dict) else ():
        if isinstance(value, int | float) and not isinstance(value, bool):
            with suppress(OverflowError):
                if math.isfinite(value):
                    numbers[metric] = float(value)
    return numbers


def preprocessing_of(seen: SeenFolder) -> Any:
    """What the script handed over, unverified; None where it did not, or it cannot be read."""
    entry = seen.manifest.files.get(PREPROCESSING) if seen.manifest is not None else None
    if entry is None or entry.size_bytes > MAX_BYTES:
        return None
    try:
        with (
            reader.opened_folder(seen.folder) as at,
            reader.opened(at, PREPROCESSING, entry.size_bytes) as source,
        ):
            return msgspec.json.decode(source.read())
    except (OSError, Damaged, msgspec.DecodeError, UnicodeDecodeError):
        return None


def keep_of(facts: Mapping[str, Any]) -> Keep | None:
    """What the run that saved it keeps; None where it did not say, or in words of another version."""
    try:
        return msgspec.convert(facts.get("keep"), Keep)
    except (msgspec.ValidationError, TypeError):
        return None


def _missing(at: int, manifest: Manifest) -> str:
    """Which file is not there, or has another size."""
    for file, entry in manifest.files.items():
        try:
            there = os.stat(file, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return f"`{file}` is missing"
        if there.st_size != entry.size_bytes:
            return f"`{file}` has {there.st_size} bytes instead of {entry.size_bytes}"
    return ""


def _unix(saved_at: str) -> float | None:
    try:
        return datetime.fromisoformat(saved_at).timestamp()
    except (ValueError, OverflowError):
        return None
