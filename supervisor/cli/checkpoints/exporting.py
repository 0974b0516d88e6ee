"""A model leaves its run: weights, what is known of them, and digests, in one folder that appears at once.

Covers: the staging folder, what is in it, when an older export may be replaced.
Does not cover: the weights (export_weights.py), ONNX (export_onnx.py), the page (model_card.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from supervisor import __version__
from supervisor.cli.checkpoints.export_weights import Weights, find_weights, state_dict, write_safetensors
from supervisor.cli.checkpoints.model_card import check_version, page
from supervisor.errors import SupervisorError, UsageError
from trainer_shim.checkpoint.commit import LocalDisk, erase
from trainer_shim.checkpoint.layout import ENVIRONMENT, PREPROCESSING
from trainer_shim.checkpoint.view import View

__all__ = ["Exported", "WantedExport", "check_target", "export_to", "wanted_of"]

_CARD, _PAGE, _SUMS = "model_card.json", "MODEL_CARD.md", "SHA256SUMS"
_SAFETENSORS, _TORCH, _ONNX = "model.safetensors", "model.pt", "model.onnx"
#: By these an older export is known; nothing else is ever replaced.
_MARKS: Final = frozenset({_CARD, _SUMS})


class WantedExport(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    part: str | None
    formats: tuple[str, ...]
    version: str | None
    license: str | None
    data: str | None
    #: `package.module:factory`, for ONNX.
    model: str | None
    #: Such as `1,1,8,8` or `1,128:int64`.
    example_inputs: tuple[str, ...]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; the row of `export --json`."""

    to: str
    checkpoint: str
    step: int
    part: str
    num_parameters: int
    files: list[str]


def wanted_of(options: Mapping[str, Any]) -> WantedExport:
    """Return what was asked for, checked; raises UsageError."""
    given = dict(options)
    onnx = given.pop("onnx")
    if onnx and not (given["model"] and given["example_inputs"]):
        raise UsageError(
            "cannot export ONNX: the exporter runs the model once",
            hint="say how it is made and fed: `--model mine.nets:make --example-input 1,1,8,8`",
        )
    if not onnx and (given["model"] or given["example_inputs"]):
        raise UsageError(
            "cannot use --model and --example-input without --onnx", hint="add --onnx, or leave them out"
        )
    if given["version"] is not None:
        check_version(given["version"])
    for name in ("license", "data"):
        given[name] = given[name] and given[name].encode(errors="replace").decode()
    return WantedExport(**given | {"formats": given["formats"] or ("safetensors",)})


def check_target(target: Path, *, force: bool) -> None:
    """Raise UsageError unless the folder may be made or replaced; --force is for exports and nothing else."""
    if not os.path.lexists(target):
        return
    is_folder = target.is_dir() and not target.is_symlink()
    there = {path.name for path in target.iterdir()} if is_folder else {""}
    if there >= _MARKS and not force:
        raise UsageError(
            f"cannot export to `{target}`: there is an export already",
            hint="--force replaces it, or choose another --to",
        )
    strangers = sorted(there - _exported_before(target)) if there >= _MARKS else sorted(there)
    if strangers or not force:
        what = f"it has `{strangers[0]}`, which no export wrote" if is_folder and strangers else "it is there"
        raise UsageError(f"cannot export to `{target}`: {what}", hint="choose a new folder with --to")


def _exported_before(target: Path) -> set[str]:
    """Return the names of an earlier export's files."""
    lines = (target / _SUMS).read_text(errors="replace").splitlines()
    return {line.partition("  ")[2] for line in lines} | {_SUMS}


def export_to(target: Path, view: View, wanted: WantedExport) -> Exported:
    """Write everything beside the target, then give it the target's name; raises UsageError or OSError."""
    weights = find_weights(view, wanted.part)
    with _staging(target) as folder:
        if "safetensors" in wanted.formats:
            write_safetensors(folder / _SAFETENSORS, view, weights)
        if "torch" in wanted.formats or wanted.model:
            _write_with_torch(folder, view, weights, wanted)
        files = sorted(path.name for path in folder.iterdir())
        card = _card(view, weights, wanted, {name: (folder / name).stat().st_size for name in files})
        (folder / _CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
        (folder / _PAGE).write_text(page(card), encoding="utf-8")
        for name in (ENVIRONMENT, PREPROCESSING):
            if name in view.texts:
                (folder / name).write_bytes(view.texts[name])
        _write_sums(folder)
        files = sorted(path.name for path in folder.iterdir())
    manifest = view.manifest
    return Exported(
        to=str(target).encode("utf-8", "replace").decode(),
        checkpoint=view.folder.name,
        step=manifest.step,
        part=weights.part,
        num_parameters=weights.num_parameters,
        files=files,
    )


def _write_with_torch(folder: Path, view: View, weights: Weights, wanted: WantedExport) -> None:
    try:
        import torch
    except ImportError as error:
        raise SupervisorError(
            f"cannot export in torch's own format: {error}",
            hint="`pip install torch` in this environment; `--format safetensors` needs none",
        ) from None
    state = state_dict(view, weights)
    if "torch" in wanted.formats:
        torch.save(state, folder / _TORCH)
    if wanted.model:
        from supervisor.cli.checkpoints.export_onnx import write_onnx

        write_onnx(folder / _ONNX, state, wanted.model, wanted.example_inputs)


def _card(view: View, weights: Weights, wanted: WantedExport, sizes: dict[str, int]) -> dict[str, Any]:
    """Return all facts that are known; null where nobody said them."""
    manifest = view.manifest
    said = view.texts.get(PREPROCESSING)
    metrics = manifest.facts.get("metrics")
    return {
        "format": 1,
        "name": manifest.job,
        "version": wanted.version,
        "license": wanted.license,
        "data": wanted.data,
        "labels": manifest.labels,
        "preprocessing": None if said is None else msgspec.json.decode(said),
        "training": {
            "job": manifest.job,
            "step": manifest.step,
            "epoch": manifest.epoch,
            "saved_at": manifest.saved_at,
            "metrics": metrics if isinstance(metrics, dict) else {},
            "git_commit": manifest.git_commit,
            "command": manifest.command,
        },
        "weights": {
            "part": weights.part,
            "num_tensors": len(weights.tensors),
            "num_parameters": weights.num_parameters,
            "dtypes": sorted({node["dtype"] for node in weights.tensors.values()}),
            "size_bytes": sum(sizes.values()),
            "tied": weights.tied,
            "files": list(sizes),
        },
        "environment": manifest.versions
        | {"packages": view.texts.get(ENVIRONMENT, b"").decode(errors="replace").split()},
        "source": {"checkpoint": view.folder.name, "format": manifest.format, "digest": view.digest},
        "exported": {"at": datetime.now(UTC).isoformat(), "by": f"training-supervisor {__version__}"},
    }


def _write_sums(folder: Path) -> None:
    """Write the digests of all files as `sha256sum -c` reads them."""
    lines = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (folder / _SUMS).write_text("".join(lines))


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A new folder that becomes the target when all went well, and is gone when it did not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield staging
        # Models are made to be handed on; what this user's other files are like is right for them too.
        umask = os.umask(0)
        os.umask(umask)
        staging.chmod(0o777 & ~umask)
        disk = LocalDisk()
        for path in sorted(staging.iterdir()):
            disk.sync(path)
        disk.sync(staging)
        _take_place(staging, target)
        disk.sync(target.parent)
    finally:
        with suppress(OSError):  # `ignore_errors` does not ignore one of close().
            shutil.rmtree(staging, ignore_errors=True)


def _take_place(staging: Path, target: Path) -> None:
    """Give the target's name to the new folder; an older export goes when the new one is there."""
    if not target.exists():
        staging.rename(target)
        return
    older = staging.with_name(f"{staging.name}.older")
    target.rename(older)
    try:
        staging.rename(target)
    except OSError:
        older.rename(target)
        raise
    erase(older)
