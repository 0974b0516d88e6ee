"""A life of checkpoints, every system call written down; runs with tests/fakes/syscalls.c before libc.

As a program it takes a folder and the log's path; each checkpoint reported durable is a mark in the log.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

from tests.fakes.syscalls import Faults
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.commit import LocalDisk
from trainer_shim.checkpoint.stage import StagingFolder

FROZEN = torch.arange(9000)
#: Each of these is one byte of a note that grows from save to save.
NOTES = "abcdefghijklmnopqrstuvwxyz"


class Killed(BaseException):
    """No handler takes it for a failing disk."""


class DiesBeforeTheLastFlush(LocalDisk):
    """As if the process were killed when a checkpoint has just become visible."""

    def __init__(self, root):
        self.root, self.is_visible = root, False

    def rename(self, source, target):
        super().rename(source, target)
        self.is_visible = True

    def sync(self, path):
        if self.is_visible and path == self.root:
            raise Killed
        super().sync(path)


class Life:
    """What a run does in its folder over days."""

    def __init__(self, root: Path, faults: Faults) -> None:
        self.root, self.faults = root, faults
        self.notes = iter(NOTES)
        self.thawing = torch.arange(9000)

    def state(self):
        note = next(self.notes)
        # Sizes go up and down, so that files are overwritten by longer and by shorter ones.
        size = 3000 + 5000 * (ord(note) % 3)
        if note == "f":
            self.thawing += 1  # The file that it shares with others is not for overwriting.
        return {"note": note, "long": note.encode() * size, "frozen": FROZEN, "thawing": self.thawing}

    def save(self, store, step, *, staged=False):
        state = self.state()
        draft = store.prepare(state, step=step, epoch=0, facts={"preprocessing": {"note": state["note"]}})
        if staged:  # As in the background.
            stage = StagingFolder()
            stage.grow(draft)
            draft = stage.fill(draft)
        store.write(draft)
        self.faults.mark(state["note"])

    def live(self):
        store = Store(self.root, job="j", keep_last=2)
        with store:
            for step in (1, 2, 2, 3):
                self.save(store, step)
            self.save(store, 4, staged=True)
            store.close(for_now=True)  # Paused, and started again.
            store.open()
            store.newest()
            for step in (5, 6):
                self.save(store, step)
            self.damage(store, 7)
            self.save(store, 7)
        self.killed(8)
        with Store(self.root, job="j", keep_last=1) as store:  # From now on one is enough.
            store.newest()
            self.save(store, 9)
            self.save(store, 10)
        with Store(self.root, job="j", keep_last=1) as store:
            store.newest()

    def killed(self, step):
        """A kill between the rename and its flush: once the next start restores it, it is a promise."""
        store = Store(self.root, job="j", keep_last=2, disk=DiesBeforeTheLastFlush(self.root))
        store.open()
        state = self.state()
        with suppress(Killed):
            store.save(state, step=step, epoch=0, facts={})
        store._lock.give_back()
        with Store(self.root, job="j", keep_last=2) as after:
            assert after.newest().state["note"] == state["note"]
            self.faults.mark(state["note"])
            after.close(for_now=True)

    def damage(self, store, step):
        """Somebody writes into a checkpoint's folder; a restart finds out."""
        self.save(store, step)
        self.faults.mark("-")  # From here on the newest may be the one before.
        (self.root / f"step-{step:09d}" / "rank-00000.json").write_bytes(b"junk")
        store.newest()


def main(root: str, log: str) -> None:
    faults = Faults()
    faults.log(Path(root), Path(log))
    Life(Path(root) / "runs" / "ckpt", faults).live()


if __name__ == "__main__":
    main(*sys.argv[1:])
