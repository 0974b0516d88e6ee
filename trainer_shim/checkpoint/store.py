"""The checkpoints of one rank, as a training session sees them.

Covers: the order of things: lock, sweep, save, keep, restore, set aside.
Does not cover: how each is done; every step is one call into this package.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from trainer_shim.checkpoint import layout, reader, recycle, refusal, removal, retention, writer
from trainer_shim.checkpoint.commit import (
    Disk,
    LocalDisk,
    erase,
    make_folder,
    point_latest,
    set_aside,
    settle_names,
    sweep,
)
from trainer_shim.checkpoint.environment import installed_packages
from trainer_shim.checkpoint.live import Live
from trainer_shim.checkpoint.lock import FolderLock
from trainer_shim.checkpoint.notice import Notice
from trainer_shim.checkpoint.reader import Loaded
from trainer_shim.checkpoint.retention import Keep
from trainer_shim.checkpoint.unchanged import Guesses, StillFile
from trainer_shim.checkpoint.writer import Saved
from trainer_shim.errors import CannotRestore, CannotSave, Damaged

__all__ = ["Store"]

#: Of damaged checkpoints; the rest is counted.
_MAX_TOLD = 5


def _ignore(stage: str) -> None:
    """Tell nobody."""


class Store:
    """The durable checkpoints of one rank in one folder.

    Called from one thread at a time. Between `open()` and
    `close()` no other process can open the folder; a forked child of this
    process cannot use the store. An error leaves the store usable: a save
    that failed may be tried again at the next step.

    Raises CannotStore (a value has no safe form; nothing was written),
    CannotSave (the disk refused; older checkpoints untouched), CannotRestore
    (a checkpoint cannot be read here, nothing was set aside) and FolderInUse.
    """

    def __init__(
        self, root: Path, *, job: str, keep_last: int = 3, keep: Keep | None = None, disk: Disk | None = None
    ) -> None:
        self._root = Path(root).absolute()  # A script may change its working directory.
        self._job = job
        #: `keep_last` is short for a Keep that says no more.
        self.keep = Keep(last=keep_last) if keep is None else keep
        #: What a fresh process has of that which a file alone cannot bring back.
        self.live = Live()
        self._disk: Disk = LocalDisk() if disk is None else disk
        self._lock = FolderLock(self._root / layout.LOCK)
        #: What is left of a checkpoint that was given up, for the next save to overwrite.
        self._spare: Path | None = None
        self._guesses = Guesses()
        #: Where it was opened: the process, and the file system that the folder lay on.
        self._home: tuple[int, int | None] | None = None
        #: What a person should hear, oldest first; whoever says it may clear the list.
        self.notices: list[Notice] = []

    def open(self) -> None:
        """Make the folder if there is none, lock it, remove what a crash left behind."""
        try:
            if self._lock.is_held:
                return
            make_folder(self._root, self._disk)
            self._lock.give_back()
            self._lock.take()
            # Whoever gave a checkpoint its name, or took it, may have been killed before that was flushed.
            settle_names(self._root, self._disk)
            brought_back = removal.bring_back(self._root, self._disk)
            self._home = os.getpid(), self._lock.device
            self._spare = recycle.find(self._root)
            leftovers = sweep(self._root, self._spare)
        except OSError as error:
            self._lock.give_back()
            raise refusal.cannot("keep checkpoints", self._root, error) from error
        installed_packages()  # Takes longer than a small save; the first save may be a pause.
        for path in brought_back:
            self._tell(
                f"the pinned checkpoint `{path}` is back; its removal had begun", "nothing is lost", path
            )
        for path, why in leftovers:
            self._tell(f"cannot remove the leftover `{path}`: {why.strerror}", "remove it by hand", path)

    def close(self, *, for_now: bool = False) -> None:
        """Let other processes use the folder; may be repeated.

        A run that goes on later keeps the room that its next save overwrites.
        """
        with suppress(OSError):  # What nobody can look at stays; the next start removes it.
            if not for_now and self._lock.is_held:
                self._drop_spare()
        self._lock.give_back()
        self._home = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(
        self,
        state: Mapping[str, Any],
        *,
        step: int,
        epoch: int,
        facts: Mapping[str, Any],
        on_stage: Callable[[str], None] = _ignore,
    ) -> Saved:
        """Return when the state survives a power cut.

        `on_stage` is told `checking`, `writing`, `flushing`, `committing` and
        `removing old`, each when it begins. A second save of one step becomes
        visible beside the first, which then is removed.
        """
        on_stage("checking")
        return self.write(self.prepare(state, step=step, epoch=epoch, facts=facts), on_stage=on_stage)

    def prepare(
        self, state: Mapping[str, Any], *, step: int, epoch: int, facts: Mapping[str, Any]
    ) -> writer.Draft:
        """The first half of a save: what is to be written, still in the memory of the state."""
        self._check_open()
        return writer.prepare(self._wanted(state, step, epoch, facts), self._guesses)

    def check(self, state: Mapping[str, Any], *, facts: Mapping[str, Any]) -> None:
        """Raise CannotStore where a save of this state would; nothing is read or written."""
        writer.check(self._wanted(state, 0, 0, facts))

    def _wanted(
        self, state: Mapping[str, Any], step: int, epoch: int, facts: Mapping[str, Any]
    ) -> writer.Wanted:
        return writer.Wanted(state, self.live, writer.Identity(self._job, step, epoch), facts)

    def write(self, draft: writer.Draft, *, on_stage: Callable[[str], None] = _ignore) -> Saved:
        """The second half, as `save`; in any thread, while no other uses the store."""
        self._check_open()
        step = draft.manifest.step
        try:
            name = layout.free_name(step, [str(name) for name in reader.visible(self._root)])
        except OSError as error:
            raise refusal.cannot(f"save step {step}", self._root, error) from error
        spare, self._spare = self._spare, None
        try:
            target = writer.Target(self._root, name, spare, self._guesses.last)
            saved = writer.write(draft, target, self._disk, on_stage)
        finally:
            self._spare = spare
            self._drop_spare()
        self._guesses.learn(saved.still)
        on_stage("removing old")
        self._tidy(saved, name)
        return saved

    def newest(self) -> Loaded | None:
        """The newest checkpoint that verifies, None when there is none.

        Each damaged one on the way is kept under another name and told of in
        `notices`. One that cannot be read, or that a newer version wrote, is
        CannotRestore: going on from an older one would throw away work
        without need.
        """
        self._check_open()
        try:
            names = reader.visible(self._root)
        except OSError as error:
            raise CannotRestore(
                f"cannot read the checkpoint folder `{self._root}`: {error.strerror}",
                hint="look at owner and mode of the folder with `ls -ld`, and at the disk",
            ) from error
        damaged: list[tuple[Path, Damaged]] = []
        try:
            for name in names:
                folder = self._root / str(name)
                try:
                    loaded = reader.load(folder)
                except Damaged as error:
                    damaged.append((folder, error))
                else:
                    self._guesses.learn(_still_file(loaded))
                    if loaded.manifest.job != self._job:
                        self._tell_other_job(loaded)
                    return loaded
        finally:
            self._put_aside(damaged)
        return None

    def _check_open(self) -> None:
        """Make the folder anew where it was taken away; raise CannotSave when it may not be used."""
        try:
            if self._lock.is_held:
                return
            is_mounted = self._home is not None and self._home[1] == _device(self._root)
        except OSError as error:
            raise refusal.cannot("keep checkpoints", self._root, error) from error
        if self._home is None or self._home[0] != os.getpid():
            raise CannotSave(
                f"cannot use the checkpoint folder `{self._root}`: it is not open",
                hint="call `open()` first, in the process that trains",
            )
        if not is_mounted:
            # A disk that was unmounted must not turn into checkpoints on the one below.
            raise CannotSave(
                f"cannot use the checkpoint folder `{self._root}`: its file system is not there any more",
                hint="mount it again",
            )
        self.open()
        self._tell(
            f"the checkpoint folder `{self._root}` had been taken away; it is made anew and locked",
            "the checkpoints that were in it are not in the new one; training lost nothing",
            self._root,
        )

    def _tidy(self, saved: Saved, name: layout.Name) -> None:
        """Point the hint at the new checkpoint and remove old ones; the save stands whatever happens here."""
        try:
            point_latest(saved.path, self._disk)
        except OSError as error:  # On a full disk this must not keep the older ones from going.
            text = f"cannot write `{layout.LATEST}` in `{self._root}`: {error.strerror}"
            self._tell(text, f"step {saved.step} is saved; that file is only a hint for people", self._root)
        from trainer_shim.checkpoint import survey

        try:
            known = [seen.known for seen in survey.look(self._root)]
            for verdict in retention.decide(known, self.keep, saved=name):
                if not verdict.stays:
                    # The one before is emptied first, so that there is room for one more at most.
                    self._drop_spare()
                    self._spare = removal.take_away(self._root, verdict.name, self._disk)
        except OSError as error:
            text = f"cannot remove older checkpoints in `{self._root}`: {error.strerror}"
            self._tell(text, f"step {saved.step} is saved; look at the disk, it may fill up", self._root)

    def _drop_spare(self) -> None:
        """Remove what was kept for overwriting; what resists is swept at the next start."""
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                erase(spare)
            except OSError as error:
                self._tell(f"cannot remove `{spare}`: {error.strerror}", "look at the disk", spare)

    def _put_aside(self, damaged: Sequence[tuple[Path, Damaged]]) -> None:
        """Keep damaged checkpoints where no reader takes them for one; a failed renaming stops nothing."""
        hint = (
            "an older checkpoint is used; look at the disk, and remove the damaged one when it is of no use"
        )
        try:
            places = set_aside([folder for folder, _ in damaged], self._disk)
        except OSError as error:
            places = [error] * len(damaged)
        for (folder, damage), place in list(zip(damaged, places, strict=True))[:_MAX_TOLD]:
            if isinstance(place, OSError):
                self._tell(f"{damage}; it could not be renamed: {place.strerror}", hint, folder)
            else:
                self._tell(f"{damage}; it is kept as `{place.name}`", hint, place)
        if (more := len(damaged) - _MAX_TOLD) > 0:
            text = (
                f"cannot use {more} older checkpoints in `{self._root}` either; they are kept as `*.damaged`"
            )
            self._tell(text, "look at the disk, and remove them when they are of no use", self._root)

    def _tell_other_job(self, loaded: Loaded) -> None:
        """A run under a new name goes on from its old checkpoints; somebody else's are said aloud."""
        self._tell(
            f"the checkpoint `{loaded.path}` was written by job `{loaded.manifest.job}`;"
            f" `{self._job}` goes on from it",
            "if that is not meant, give this run a checkpoint folder of its own",
            loaded.path,
        )

    def _tell(self, text: str, hint: str, path: Path) -> None:
        self.notices.append(Notice(text, hint, path))


def _device(path: Path) -> int:
    """The file system of a folder, or of the nearest one above it that is there."""
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


def _still_file(loaded: Loaded) -> StillFile | None:
    """What the first save after a restore may link: it was verified just now."""
    name = layout.rank_still(0)
    if name not in loaded.manifest.files:
        return None
    return StillFile(loaded.path / name, loaded.manifest.files[name], loaded.still)
