"""Files of retired checkpoints are overwritten; no other ever is."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load, visible

TENSORS = "rank-00000.safetensors"
ACTIONS = st.sampled_from(
    ["save", "save", "save", "same", "restart", "kill", "link", "read", "map", "let go"]
)


class Scene:
    """A run and everything around it that may still need its files."""

    def __init__(self, root: Path, keep_last: int) -> None:
        self.root, self.keep_last, self.step = root, keep_last, 0
        self.needed = {}
        self.saved = []
        self.store = Store(root, job="j", keep_last=keep_last)
        self.store.open()

    def save(self, *, again=False):
        self.step += 0 if again and self.saved else 1
        state = {"step": self.step, "long": os.urandom(5000 + 4000 * (self.step % 3))}
        saved = self.store.save(state, step=self.step, epoch=0, facts={})
        self.saved = [(path, kept) for path, kept in self.saved if kept["step"] != self.step]
        self.saved.append((saved.path, state))

    def same(self):
        self.save(again=True)

    def restart(self):
        self.store.close(for_now=True)
        self.store.open()

    def kill(self):
        self.store._lock.give_back()
        self.store = Store(self.root, job="j", keep_last=self.keep_last)
        self.store.open()

    def link(self):
        for name in visible(self.root):
            copy = self.root.parent / f"backup-{len(self.needed)}"
            os.link(self.root / str(name) / TENSORS, copy)
            self.needed[copy] = (copy.read_bytes(), copy.read_bytes)

    def read(self):
        for name in visible(self.root):
            file = (self.root / str(name) / TENSORS).open("rb")
            self.needed[file] = (file.read(), lambda file=file: os.pread(file.fileno(), 1 << 20, 0))

    def map(self):
        for name in visible(self.root):
            with (self.root / str(name) / TENSORS).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.needed[mapped] = (mapped[:], lambda mapped=mapped: mapped[:])

    def let_go(self):
        for thing in self.needed:
            thing.unlink() if isinstance(thing, Path) else thing.close()
        self.needed.clear()

    def check(self):
        for path, state in self.saved[-self.keep_last :]:
            assert state == load(path).state
        assert all(now() == before for before, now in self.needed.values())
        assert len([path for path in self.root.iterdir() if path.name.endswith(".partial")]) <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.lists(ACTIONS, min_size=4, max_size=25))
def test_what_anybody_may_still_need_is_never_overwritten(keep_last, actions):
    """
    Kept checkpoints, hard-linked backups, and files that somebody reads or has
    mapped stay as they are, whatever is saved, restarted or killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder) / "ckpt", keep_last)
        try:
            for action in actions:
                getattr(scene, action.replace(" ", "_"))()
                scene.check()
        finally:
            scene.let_go()
            scene.store.close()
        assert [] == [path for path in scene.root.iterdir() if path.name.endswith(".partial")]


def inodes(root):
    return {(root / str(name) / TENSORS).stat().st_ino for name in visible(root)}


def test_the_files_of_a_retired_checkpoint_are_overwritten(tmp_path):
    """
    A long run writes over the same blocks instead of taking new ones, also after a pause.
    """
    used = set()
    store = Store(tmp_path, job="j", keep_last=2)
    for step in range(8):
        with store:
            store.save({"x": bytes(9000)}, step=step, epoch=0, facts={})
            used |= inodes(tmp_path)
            store.close(for_now=True)

    assert 3 == len(used)


def test_a_spare_that_cannot_be_removed_or_used_stands_in_nobodys_way(tmp_path):
    """
    A folder in place of the file, or an empty spare, costs nothing but the reuse.
    """
    spare = tmp_path / "step-000000001.removed.partial"
    (spare / TENSORS).mkdir(parents=True)
    with Store(tmp_path, job="j") as store:
        store.save({"x": bytes(9000)}, step=2, epoch=0, facts={})

        assert 2 == store.newest().step
    assert not spare.exists()
    shutil.rmtree(tmp_path)
