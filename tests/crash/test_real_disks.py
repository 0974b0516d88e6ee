"""A training run goes on while the file system under its checkpoints fails for real.

Covers: a full ext4, a file system without room for more names, one that the kernel took out of service,
rights that are lost, a folder that is removed, moved or replaced; and that saves work again once it is over.
Does not cover: quotas (their error is injected in test_failing_calls.py), network file systems.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import trainer_shim
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.errors import CannotSave

NUM_STEPS, BREAKS_AT, MENDS_AT = 12, 5, 9
NOBODY = 65534


class Chain:
    """A part whose value depends on every step before."""

    def __init__(self):
        self.value = b"0"

    def step(self, number):
        self.value = hashlib.sha256(self.value + bytes([number])).digest()

    def state_dict(self):
        return {"value": self.value, "long": self.value * 3000}

    def load_state_dict(self, state):
        self.value = state["value"]


def train(root, ground):
    """Train over ground that breaks and mends; the last durable step when it broke, and at the end."""
    expected, chain = Chain(), Chain()
    shim = trainer_shim.attach(checkpoints=root, keep=2, every_steps=1, chain=chain)
    durable = []
    for number in range(NUM_STEPS):
        if number == BREAKS_AT:
            shim._yield()
            durable.append(shim._report.checkpoint.step)
            ground.breaks()
        if number == MENDS_AT:
            ground.mends()
        chain.step(number)
        expected.step(number)
        shim.boundary()
        shim._background._periodic.wait()
    shim._yield()
    durable.append(shim._report.checkpoint.step)
    shim.detach()
    assert expected.value == chain.value
    return durable


@contextmanager
def mounted(folder, *options):
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    done = subprocess.run(["mount", *options, folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def small_ext4(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("cannot mount a file system here: there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1", image], check=True)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as folder:
        yield folder


class Full:
    """Somebody else fills the disk, and tidies up."""

    said = "the disk is too full"
    costs_a_save = True

    def __init__(self, root):
        self.rest = root.parent / "rest"

    def breaks(self):
        with self.rest.open("wb") as file:
            left = os.statvfs(self.rest)
            os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize - (1 << 20))

    def mends(self):
        self.rest.unlink()


class OutOfNames:
    """Somebody else makes very many small files."""

    said = "the file system has no room for more files"
    costs_a_save = True

    def __init__(self, root):
        self.rest = root.parent / "rest"

    def breaks(self):
        self.rest.mkdir()
        for number in range(os.statvfs(self.rest).f_favail):
            (self.rest / str(number)).touch()

    def mends(self):
        shutil.rmtree(self.rest)


class Aborted:
    """The kernel found an error and takes no more changes; that does not mend before a restart."""

    said = "the file system is read-only"
    costs_a_save = True

    def __init__(self, root):
        self.disk = root.parent

    def breaks(self):
        subprocess.run(["mount", "-o", "remount,abort", self.disk], check=True)

    def mends(self):
        pass


class Forbidden:
    """The folder's mode is changed under a user who is not root."""

    said = "permission denied"
    costs_a_save = True

    def __init__(self, root):
        self.root = root

    def breaks(self):
        self.root.chmod(0)

    def mends(self):
        self.root.chmod(0o700)


class Moved:
    """Somebody moves the folder away."""

    said = "made anew and locked"
    costs_a_save = False

    def __init__(self, root):
        self.root = root
        self.elsewhere = root.with_name("elsewhere")

    def breaks(self):
        self.root.rename(self.elsewhere)

    def mends(self):
        pass


class Replaced(Moved):
    """Another folder stands in its place."""

    def breaks(self):
        super().breaks()
        self.root.mkdir()


class Removed(Moved):
    """The checkpoints are gone with their folder."""

    def breaks(self):
        shutil.rmtree(self.root)


class BehindAFile(Moved):
    """A file stands in its place."""

    said = "it is not a folder"
    costs_a_save = True

    def breaks(self):
        super().breaks()
        self.root.touch()

    def mends(self):
        self.root.unlink()


def check(root, ground, capfd):
    durable = train(root, ground)
    said = capfd.readouterr().err
    names = visible(root)
    loaded = load(root / str(names[0]))

    assert ground.said in said
    assert ("training goes on" in said) == ground.costs_a_save
    assert durable[-1] <= loaded.step
    assert [loaded.state["parts"]["chain"]["value"]] * 3000 == [
        loaded.state["parts"]["chain"]["long"][at : at + 32] for at in range(0, 96_000, 32)
    ]
    return durable


@pytest.mark.parametrize("kind", [Moved, Replaced, Removed, BehindAFile])
def test_a_folder_that_is_taken_away_costs_no_training(tmp_path, capfd, kind):
    """
    The run makes it anew and saves there, as soon as that can be done.
    """
    durable = check(tmp_path / "ckpt", kind(tmp_path / "ckpt"), capfd)

    assert durable[0] < durable[1] == NUM_STEPS


def test_a_disk_that_was_unmounted_does_not_turn_into_checkpoints_on_another(tmp_path):
    """
    Nothing is written to the disk below, and saving goes on once it is mounted again.
    """
    root = tmp_path / "disk" / "checkpoints"
    with mounted(root.parent, "-t", "tmpfs", "-o", "size=64m", "none"), Store(root, job="j") as store:
        store.save({"a": 1}, step=1, epoch=0, facts={})
        subprocess.run(["umount", "--lazy", root.parent], check=True)
        try:
            with pytest.raises(CannotSave, match="its file system is not there") as caught:
                store.save({"a": 2}, step=2, epoch=0, facts={})
            below = list(root.parent.iterdir())
        finally:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", root.parent], check=True)

    assert [] == below
    assert "mount it again" in caught.value.hint


def test_rights_that_are_lost_cost_no_training(capfd):
    """
    Named with owner and mode as the thing to look at; once given back, saves work again.
    """
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)  # Root may write everywhere.
        try:
            durable = check(Path(folder) / "ckpt", Forbidden(Path(folder) / "ckpt"), capfd)
        finally:
            os.seteuid(0)

    assert durable[0] < durable[1] == NUM_STEPS


def test_a_disk_that_somebody_fills_costs_no_training(tmp_path, capfd):
    """
    The older checkpoint stays; once there is room, saves work again.
    """
    with small_ext4(tmp_path) as disk:
        durable = check(disk / "ckpt", Full(disk / "ckpt"), capfd)

    assert durable[0] < durable[1] == NUM_STEPS


def test_a_disk_without_room_for_more_names_costs_no_training(tmp_path, capfd):
    """
    Free bytes are not all that a save needs.
    """
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m,nr_inodes=200", "none") as disk:
        durable = check(disk / "ckpt", OutOfNames(disk / "ckpt"), capfd)

    assert durable[0] < durable[1] == NUM_STEPS


def test_a_disk_that_the_kernel_takes_out_of_service_costs_no_training(tmp_path, capfd):
    """
    The last durable checkpoint can still be read, and a restart says what is wrong.
    """
    with small_ext4(tmp_path) as disk:
        durable = check(disk / "ckpt", Aborted(disk / "ckpt"), capfd)
        with pytest.raises(trainer_shim.CannotSave, match="read-only"):
            Store(disk / "ckpt", job="j").open()

    assert durable[0] == durable[1] == BREAKS_AT
