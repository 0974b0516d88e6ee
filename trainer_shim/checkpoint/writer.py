"""One save: a state becomes a complete folder beside its final name.

Covers: what is refused before writing, free space, files and their digests,
the manifest.
Does not cover: how the folder becomes visible (commit.py), when a save
happens (the session), what is removed afterwards (store.py).
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trainer_shim.checkpoint import digest, layout, recycle, refusal, tensorfile, tree
from trainer_shim.checkpoint.arrays import settle
from trainer_shim.checkpoint.commit import FILE_MODE, FOLDER_MODE, Disk, commit, discard
from trainer_shim.checkpoint.environment import installed_packages, versions
from trainer_shim.checkpoint.live import Live
from trainer_shim.checkpoint.manifest import MAX_TEXT_BYTES, File, Manifest, render
from trainer_shim.checkpoint.unchanged import Guesses, StillFile
from trainer_shim.errors import CannotSave, CannotStore

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from trainer_shim.checkpoint import directwrite

__all__ = ["Draft", "Identity", "Saved", "Target", "Wanted", "check", "prepare", "write"]

#: The facts that have a field of their own in the manifest.
_NAMED_FACTS = frozenset({"incarnation", "world_size", "git_commit", "command", "labels", "preprocessing"})
#: Left free beyond the need: the file system's own tables, the manifest, whoever else writes.
_MARGIN_BYTES = 16 << 20
_MARGIN_FILES = 16


class Saved(msgspec.Struct, frozen=True):
    """A checkpoint that survives a power cut."""

    path: Path
    step: int
    #: Of the manifest, which names the digests of all the rest; see docs/CHECKPOINTS.md.
    digest: str
    size_bytes: int
    took_s: float
    #: What the next save may link.
    still: StillFile | None = None


class Identity(NamedTuple):
    """Where in which run a checkpoint was taken."""

    job: str
    step: int
    epoch: int


class Target(NamedTuple):
    """Where a checkpoint goes."""

    root: Path
    name: layout.Name
    #: What is left of an older one, to be overwritten.
    spare: Path | None = None
    #: What may be linked from the one before.
    still: StillFile | None = None


class Draft(NamedTuple):
    """A whole checkpoint in memory, before anything is written."""

    manifest: Manifest
    texts: dict[str, bytes]
    #: By file name.
    plans: dict[str, tensorfile.Plan]
    #: The bytes of the tensor files where they were copied already.
    staged: Mapping[str, directwrite.DirectSource] = MappingProxyType({})

    def source(self, file_name: str) -> directwrite.DirectSource:
        """The bytes of a tensor file, to be read once."""
        return self.staged.get(file_name) or tensorfile.Image(self.plans[file_name])

    @property
    def size_bytes(self) -> int:
        """What the files take, all but the manifest."""
        return sum(plan.size_bytes for plan in self.plans.values()) + sum(map(len, self.texts.values()))


class Wanted(NamedTuple):
    """What is to be saved."""

    state: Mapping[str, Any]
    #: What only a live object brings back, and a fresh process has.
    live: Live
    identity: Identity
    facts: Mapping[str, Any]


def check(wanted: Wanted) -> None:
    """Raise CannotStore where `prepare` would, and reckon with nothing; no tensor is read."""
    _skeleton(wanted)


def prepare(wanted: Wanted, guesses: Guesses) -> Draft:
    """Everything that can be refused is refused here; raises CannotStore."""
    manifest, texts, blocks = _skeleton(wanted)
    settle()
    changing, still = guesses.split(blocks)
    plans = {layout.rank_tensors(0): tensorfile.make_plan(changing)}
    if still:
        plans[layout.rank_still(0)] = tensorfile.make_plan(still)
    return Draft(manifest, texts, plans)


def _skeleton(wanted: Wanted) -> tuple[Manifest, dict[str, bytes], list[tensorfile.Block]]:
    """All but the tensors, which are named."""
    facts = wanted.facts
    skeleton, blocks = tree.encode(wanted.state, wanted.live)
    texts = {layout.rank_json(0): skeleton, layout.ENVIRONMENT: installed_packages().encode()}
    if facts.get("preprocessing") is not None:
        texts[layout.PREPROCESSING] = _document(facts["preprocessing"], "facts.preprocessing")
    for file, text in texts.items():
        if len(text) > MAX_TEXT_BYTES:  # No reader would take it.
            hint = "keep long lists as tensors or arrays, long texts as bytes"
            raise CannotStore(file, f"{len(text)} bytes in a file of at most {MAX_TEXT_BYTES}", hint=hint)
    manifest = _manifest(wanted.identity, facts)
    render(manifest)  # Too long, or not JSON: better now than after the tensors.
    return manifest, texts, blocks


def write(draft: Draft, target: Target, disk: Disk, on_stage: Callable[[str], None]) -> Saved:
    """Make the draft durable under its name; raises CannotSave and leaves nothing behind."""
    began_s = time.monotonic()
    root, name = target.root, target.name
    final = root / str(name)
    staging: Path | None = None
    try:
        same = _maybe_same(draft, target)
        _check_room(draft, target, disk, links=() if same is None else (layout.rank_still(0),))
        on_stage("writing")
        staging = _make_staging(root, name)
        files = {file: _write_file(staging / file, text) for file, text in draft.texts.items()}
        files |= _write_tensors(staging, draft, target, disk, same)
        text, own = render(msgspec.structs.replace(draft.manifest, files=files))
        _write_file(staging / layout.MANIFEST, text)
        commit(staging, final, disk, on_stage)
    except BaseException as error:
        # Also when Ctrl-C arrives in the middle. What cannot be removed is swept at the next start.
        if staging is not None:
            discard(staging)
        if isinstance(error, OSError):
            raise refusal.cannot(f"save step {name.step}", root, error) from error
        if isinstance(error, MemoryError):
            hint = "the older checkpoints are untouched; free some memory"
            raise CannotSave(f"cannot save step {name.step}: out of memory", hint=hint) from error
        raise
    took_s = time.monotonic() - began_s
    return Saved(
        final, name.step, own, len(text) + draft.size_bytes, took_s, _still_file(final, files, draft)
    )


def _check_room(draft: Draft, target: Target, disk: Disk, *, links: Collection[str]) -> None:
    """Raise CannotSave where the checkpoint would not fit, without the files that are linked."""
    root = target.root
    free = disk.free(root)
    need_bytes = draft.size_bytes + draft.size_bytes // 64 + _MARGIN_BYTES
    for file, plan in draft.plans.items():
        if file in links:
            need_bytes -= plan.size_bytes
        elif target.spare is not None:
            need_bytes -= min(recycle.size(target.spare, file), plan.size_bytes)
    if free.size_bytes < need_bytes:
        raise refusal.no_room(draft.manifest.step, root, need_bytes=need_bytes, free_bytes=free.size_bytes)
    if free.num_files is not None and free.num_files < _MARGIN_FILES:
        raise CannotSave(
            f"cannot save step {draft.manifest.step} in `{root}`: the file system has no room for more files",
            hint="remove files there (`df -i` counts them); the older checkpoints are untouched",
        )


def _maybe_same(draft: Draft, target: Target) -> StillFile | None:
    """The file before of the tensors that seem not to have changed, if it holds the same ones."""
    plan, before = draft.plans.get(layout.rank_still(0)), target.still
    if plan is None or before is None or plan.size_bytes != before.file.size_bytes:
        return None
    return before if before.names == {block.name for block in plan.blocks} else None


def _still_file(folder: Path, files: dict[str, File], draft: Draft) -> StillFile | None:
    """What a later save may link."""
    name = layout.rank_still(0)
    if name not in files:
        return None
    return StillFile(folder / name, files[name], frozenset(block.name for block in draft.plans[name].blocks))


def _write_tensors(
    staging: Path, draft: Draft, target: Target, disk: Disk, same: StillFile | None
) -> dict[str, File]:
    """Write the tensor files, or link the one that proves to be the same as before; flushed later."""
    from concurrent.futures import ThreadPoolExecutor

    from trainer_shim.checkpoint import directwrite

    still, files = layout.rank_still(0), dict[str, File]()
    with ThreadPoolExecutor(1, "trainer_shim.digest") as pool:
        # The disk and the processor each have something to do: the proof costs no time of its own.
        found = None if same is None else _begun(pool, partial(directwrite.digest_of, draft.source(still)))
        for file in draft.plans.keys() - {still}:
            files[file] = _write_over(staging / file, draft.source(file), target.spare)
        is_same = same is not None and found is not None and found.result() == same.file.digest
    if same is not None and is_same and _link(same, staging / still):
        files[still] = same.file
    elif still in draft.plans:
        if same is not None:  # It was not reckoned with.
            _check_room(draft, target, disk, links=draft.plans.keys() - {still})
        files[still] = _write_over(staging / still, draft.source(still), target.spare)
    return files


def _begun(pool: ThreadPoolExecutor, work: Callable[[], str]) -> Future[str]:
    """What `work` will have returned; at once where no thread can be had."""
    try:
        return pool.submit(work)
    except RuntimeError:
        from concurrent.futures import Future

        done = Future[str]()
        done.set_result(work())
        return done


def _write_over(path: Path, source: directwrite.DirectSource, spare: Path | None) -> File:
    """Write a tensor file, over that of the spare folder if there is one."""
    from trainer_shim.checkpoint import directwrite

    if spare is not None:
        recycle.take(spare, path.name, path)
    return File(source.size_bytes, directwrite.write(path, source))


def _link(same: StillFile, path: Path) -> bool:
    """Give the file a second name; False where that cannot be had, and it has to be written."""
    try:
        there = same.path.lstat()
        if not stat.S_ISREG(there.st_mode) or there.st_size != same.file.size_bytes:
            return False
        path.hardlink_to(same.path)
    except OSError:  # A file system without links, or too many of them.
        return False
    return True


def _make_staging(root: Path, name: layout.Name) -> Path:
    """A fresh folder beside the final name; a leftover that cannot be removed does not stand in its way."""
    for attempt in count():
        staging = root / (f"{name}.try-{attempt}" if attempt else f"{name}")
        staging = staging.with_name(staging.name + layout.PARTIAL)
        discard(staging)
        try:
            staging.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            continue
        staging.chmod(FOLDER_MODE)
        return staging
    raise AssertionError("count() does not end")


def _write_file(path: Path, text: bytes) -> File:
    """Write a small file and return what the manifest says of it; flushed later, with all the others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, FILE_MODE)
        file.write(text)
    return File(len(text), digest.of_bytes(text))


def _manifest(identity: Identity, facts: Mapping[str, Any]) -> Manifest:
    """The manifest without its files; raises CannotStore for facts of the wrong kind."""
    others = {key: value for key, value in facts.items() if key not in _NAMED_FACTS}
    command = facts.get("command") or []
    loose = {
        "job": identity.job,
        "step": identity.step,
        "epoch": identity.epoch,
        "saved_at": datetime.now(UTC).isoformat(),
        "incarnation": facts.get("incarnation", 0),
        "world_size": facts.get("world_size", 1),
        "files": {},
        "versions": versions(),
        "git_commit": facts.get("git_commit"),
        "command": [command] if isinstance(command, str) else list(command),
        "labels": json.loads(_document(facts.get("labels") or {}, "facts.labels")),
        "facts": json.loads(_document(others, "facts")),
    }
    try:
        return msgspec.convert(loose, Manifest)
    except msgspec.ValidationError as error:
        raise CannotStore(
            "facts", f"them: {error}", hint="see the manifest's fields in docs/CHECKPOINTS.md"
        ) from None


def _document(value: Any, path: str) -> bytes:
    """A value as a JSON text for people; raises CannotStore where JSON has no word for it."""
    try:
        return json.dumps(value, indent=2, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CannotStore(
            path, f"it as JSON: {error}", hint="use text, numbers, lists and maps only"
        ) from None
