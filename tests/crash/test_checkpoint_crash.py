"""Power cuts and failing disks in the middle of a save, at the port and at calls that Python audits."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import nullcontext, suppress

import pytest

from tests.fakes.disk import FailingCalls, FailingDisk, LossyDisk, MeasuredDisk, PowerCut, Survives
from trainer_shim.checkpoint import Store
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.errors import CannotSave

#: Step and what it holds: a first save, a second, one of the same step again, and enough to remove old ones.
SAVES = [(1, b"a"), (2, b"b"), (2, b"c"), (3, b"d"), (4, b"e"), (5, b"f")]


def run(root, disk, promised):
    """A training run that is told of each durable save."""
    with Store(root, job="j", keep_last=2, disk=disk) as store:
        for step, note in SAVES:
            store.save({"note": note, "long": note * 3000}, step=step, epoch=0, facts={})
            promised.append(note)


@pytest.mark.parametrize("survives", Survives)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_promised(memory, survives):
    """
    Whatever the disk had not been made to write is gone; still the newest
    durable checkpoint is there, and every visible one is whole.
    """
    (memory / "world").mkdir()
    counting = LossyDisk(memory / "world", None, survives)
    run(memory / "world" / "runs" / "ckpt", counting, [])
    counting.restore(memory / "all")
    assert counting.num_calls > 150

    for cut_at in range(counting.num_calls + 1):
        world, after = memory / f"world-{cut_at}", memory / f"after-{cut_at}"
        world.mkdir()
        disk, promised = LossyDisk(world, cut_at, survives), []
        with suppress(PowerCut):
            run(world / "runs" / "ckpt", disk, promised)
        disk.restore(after)
        check(after / "runs" / "ckpt", promised, cut_at)


def check(root, promised, cut_at):
    """A restart finds what was promised, or something newer, and nothing torn."""
    notes = [note for _, note in SAVES]
    if root.exists():
        for name in visible(root):
            load(root / str(name))
    with Store(root, job="j") as store:
        loaded = store.newest()
        assert [] == store.notices, cut_at
        at_least = notes.index(promised[-1]) if promised else -1
        found = notes.index(loaded.state["note"]) if loaded else -1
        assert at_least <= found <= at_least + 1, cut_at
        store.save({"note": b"next"}, step=6, epoch=0, facts={})
        assert b"next" == store.newest().state["note"]


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE]
)
def test_a_disk_that_fails_at_any_moment_leaves_the_older_checkpoint_and_the_store_usable(tmp_path, code):
    """
    A save that fails is an error in words; training goes on, and a later save works.
    """
    for fail_at in range(9):
        root = tmp_path / str(fail_at)
        with Store(root, job="j") as store:
            store.save({"note": 1}, step=1, epoch=0, facts={})
            store._disk = FailingDisk(code, fail_at)
            # The calls: four files, the staging folder, the rename, the parent; then hint and tidying.
            refused = (
                pytest.raises(CannotSave, match="cannot save step 2 in") if fail_at < 7 else nullcontext()
            )
            with refused:
                store.save({"note": 2}, step=2, epoch=0, facts={})
            assert [] == list(root.glob("step-*.partial"))
            assert store.newest().state["note"] in (1, 2)
            store._disk = FailingDisk(code, -1)
            store.save({"note": 3}, step=2, epoch=0, facts={})
            assert 3 == store.newest().state["note"]
            assert [] == [notice for notice in store.notices if "cannot use" in notice.text]


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_whichever_call_fails_the_newest_promise_holds_and_the_store_stays_usable(tmp_path, code, for_ever):
    """
    Not only flushing and renaming may fail: making, opening, cutting, linking
    and removing may, in a save that overwrites a retired checkpoint as well.
    """
    fail_at, num_calls = 0, 1
    while fail_at < num_calls:
        root = tmp_path / str(fail_at)
        with Store(root, job="j", keep_last=1) as store:
            for step in (1, 2, 3):
                store.save({"step": step, "long": bytes(9000)}, step=step, epoch=0, facts={})
            with FailingCalls(root, code, fail_at, for_ever=for_ever) as calls, suppress(CannotSave):
                store.save({"step": 4, "long": bytes(9000)}, step=4, epoch=0, facts={})
            num_calls = calls.num_calls
            assert store.newest().step in (3, 4)
            store.save({"step": 5}, step=5, epoch=0, facts={})
            assert 5 == store.newest().step
            assert [] == [notice for notice in store.notices if "cannot use" in notice.text]
        fail_at += 1
    assert fail_at >= 15


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 32 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    "disk", [None, MeasuredDisk(1 << 40)], ids=["noticed before", "noticed while writing"]
)
def test_a_really_full_disk_keeps_the_older_checkpoint_and_a_later_save_works(small_disk, disk):
    """
    Full before or full in the middle: the same clear error, no rubbish left.
    """
    with Store(small_disk, job="j", disk=disk) as store:
        store.save({"note": 1}, step=1, epoch=0, facts={})
        with pytest.raises(CannotSave, match=r"the disk is (too )?full"):
            store.save({"long": bytes(40 << 20)}, step=2, epoch=0, facts={})
        assert {".lock", "latest", "step-000000001"} == {path.name for path in small_disk.iterdir()}
        store.save({"note": 3}, step=3, epoch=0, facts={})

        assert 3 == store.newest().step


def test_a_disk_that_became_read_only_is_said_and_can_still_be_restored_from(small_disk):
    """
    A file system that the kernel took out of service costs no checkpoint.
    """
    with Store(small_disk, job="j") as store:
        store.save({"note": 1}, step=1, epoch=0, facts={})
        store.close()  # A file open for writing would keep the kernel from remounting.
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    with pytest.raises(CannotSave, match="the file system is read-only"):
        store.open()
    assert 1 == load(small_disk / "step-000000001").step


def test_a_folder_without_the_right_to_write_is_said(tmp_path):
    """
    A wrong owner is an error at the start of the run, with the path.
    """
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(CannotSave, match="permission denied"):
        Store(tmp_path / "ckpt", job="j").open()
