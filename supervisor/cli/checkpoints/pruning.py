"""Removing checkpoints of a run that does not train just now.

Covers: the rules in force, the lock, reading the newest one first, removing.
Does not cover: the decision (retention.py of the shim), asking (checkpoints.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from supervisor.cli.checkpoints.places import CheckpointPlace, recorded_keep
from supervisor.cli.checkpoints.rows import CheckpointRow, rows_of
from supervisor.cli.output.meter import Meter
from supervisor.cli.output.screen import tell
from supervisor.errors import Refused, UsageError
from trainer_shim.checkpoint import layout, removal, survey
from trainer_shim.checkpoint.commit import LocalDisk, erase, sweep
from trainer_shim.checkpoint.lock import FolderLock
from trainer_shim.checkpoint.retention import Keep
from trainer_shim.checkpoint.survey import SeenFolder
from trainer_shim.checkpoint.verify import verify

__all__ = ["Pruning"]


class Pruning:
    """One pruning of one folder."""

    def __init__(self, place: CheckpointPlace, rules: Mapping[str, Any]) -> None:
        self._root = place.root
        self._keep = _keep(recorded_keep(place.seen), rules)
        #: Of the manifests, as they were when they were judged.
        self._digests: dict[Path, str] = {}

    def check(self) -> None:
        """Raise FolderInUse, with the name of the process that trains there, before anything is read."""
        with self._locked():
            removal.bring_back(self._root, LocalDisk())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep training processes out, for moments only: a job that comes back meanwhile would fail."""
        lock = FolderLock(self._root / layout.LOCK)
        lock.take()
        try:
            yield
        finally:
            lock.give_back()

    def rows(self) -> list[CheckpointRow]:
        """Return every checkpoint with its fate. Nothing goes before the newest good one was read through."""
        seen = survey.look(self._root)
        self._digests = _digests(seen)
        bad: dict[Path, str] = {}
        while True:
            judged = [_as_damaged(one, bad) for one in seen]
            rows = rows_of(judged, [], self._keep, now=time.time())
            newest = next((one for one in judged if not one.problem), None)
            if all(row.stays for row in rows) or newest is None:
                return rows
            with Meter(newest) as meter:
                problems = verify(newest.folder, newest.known.name, on_bytes=meter.add).problems
            if not problems:
                return rows
            bad[newest.folder] = f"`{problems[0].file}`: {problems[0].why}"
            tell(f"{newest.folder.name} is damaged, so an older one has to stay: {bad[newest.folder]}")

    def remove(self, going: Sequence[CheckpointRow]) -> tuple[list[str], int]:
        """Remove them, and what crashes and saves left; return which went and how many bytes came free.

        Raises Refused where a process trained there since they were judged.
        """
        before, removed = _used_bytes(self._root), []
        with self._locked():
            if _digests(survey.look(self._root)) != self._digests:
                raise Refused(
                    "cannot prune: the checkpoints changed while you were asked",
                    hint="look again, and prune then",
                )
            for row in reversed(going):
                name = layout.parse_name(row.name)
                doomed = removal.take_away(self._root, name, LocalDisk()) if name else None
                if doomed is not None:
                    erase(doomed)
                    removed.append(row.name)
            for path, error in sweep(self._root):
                tell(f"warning: cannot remove the leftover `{path}`: {error.strerror}")
        return removed, max(0, before - _used_bytes(self._root))


def _digests(seen: Sequence[SeenFolder]) -> dict[Path, str]:
    return {one.folder: one.digest for one in seen}


def _keep(recorded: Keep | None, rules: Mapping[str, Any]) -> Keep:
    """Return the run's own rules with those that were given in their place; raises UsageError."""
    of_option = {"keep_last": "last", "keep_best": "best", "keep_every_h": "every_h"}
    given = {of_option.get(name, name): value for name, value in rules.items() if value is not None}
    if given.get("best") == 0:
        given["metric"] = ""
    if recorded is None and not given:
        raise UsageError(
            "cannot prune: no checkpoint there says what its run keeps", hint="say it: `--keep-last N`"
        )
    try:
        return replace(recorded or Keep(), **given)
    except ValueError as error:
        asked = recorded and asdict(recorded)
        hint = f"the run itself keeps {asked}" if asked else "`--keep-best` takes a `--metric`"
        raise UsageError(str(error), hint=hint) from None


def _as_damaged(one: SeenFolder, bad: Mapping[Path, str]) -> SeenFolder:
    if one.folder not in bad:
        return one
    return replace(one, problem=bad[one.folder], known=replace(one.known, is_damaged=True))


def _used_bytes(root: Path) -> int:
    """Return what all files below take on the disk, those with several names once."""
    found: dict[tuple[int, int], int] = {}
    for folder, _, files in os.walk(root):
        for file in files:
            there = os.lstat(os.path.join(folder, file))  # noqa: PTH118  # os.walk gives texts.
            found[there.st_dev, there.st_ino] = there.st_blocks * 512
    return sum(found.values())
