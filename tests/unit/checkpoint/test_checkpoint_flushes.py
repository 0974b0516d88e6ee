"""Which folders are flushed when a name appears or goes, through whatever calls it."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from trainer_shim.checkpoint import Keep, Store, pins
from trainer_shim.checkpoint.commit import LocalDisk, make_folder, set_aside, settle_names, sweep
from trainer_shim.checkpoint.layout import Name
from trainer_shim.errors import CannotRestore, CannotSave


class NotedDisk(LocalDisk):
    """Writes down what it is asked for, in order; flushes and renames as ever."""

    def __init__(self, root):
        self.done = []
        self._root = root

    def sync(self, path):
        self.done.append(f"sync {self._name(path)}")
        super().sync(path)

    def sync_files(self, paths):
        self.done.append("sync files")
        for path in paths:
            super().sync(path)

    def rename(self, source, target):
        self.done.append(f"rename {source.name} {target.name}")
        super().rename(source, target)

    def _name(self, path):
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)


@pytest.fixture
def disk(tmp_path):
    return NotedDisk(tmp_path)


def saved(root, disk, *steps, **keep):
    with Store(root, job="j", disk=disk, keep=Keep(**keep)) as store:
        return [store.save({"n": step}, step=step, epoch=0, facts={}) for step in steps]


def above(path):
    return [str(folder) for folder in path.resolve().parents if folder.stat().st_dev == path.stat().st_dev]


def test_each_new_folder_is_named_on_the_disk_by_the_one_above(tmp_path, disk):
    """
    A checkpoint in a folder that a power cut takes away is none.
    """
    (tmp_path / "there").mkdir()
    make_folder(tmp_path / "there" / "a" / "b" / "c", disk)

    assert ["sync there", "sync there/a", "sync there/a/b"] == disk.done
    assert [0o700] * 3 == [
        stat.S_IMODE((tmp_path / "there" / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")
    ]


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path, disk):
    """
    Its owner may have given it another mode.
    """
    tmp_path.chmod(0o750)
    make_folder(tmp_path, disk)

    assert [] == disk.done
    assert 0o750 == stat.S_IMODE(tmp_path.stat().st_mode)


def test_all_names_up_to_the_mount_point_are_settled(tmp_path, disk):
    """
    Whoever made them may have been killed before the flush.
    """
    (tmp_path / "a" / "b").mkdir(parents=True)
    settle_names(tmp_path / "a" / "b", disk)

    assert "sync a/b" == disk.done[0]
    assert ["sync a", "sync ."] == disk.done[1:3]
    assert len(above(tmp_path / "a" / "b")) == len(disk.done) - 1


def test_a_folder_above_that_cannot_be_read_stops_nothing(tmp_path, disk):
    """
    It may be passed and not looked at: what is below is settled, and the run begins.
    """
    (tmp_path / "a").mkdir()

    class Closed(NotedDisk):
        def sync(self, path):
            super().sync(path)
            if path == tmp_path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    closed = Closed(tmp_path)
    settle_names(tmp_path / "a", closed)

    assert ["sync a", "sync ."] == closed.done


def test_a_run_settles_its_folder_and_those_above_when_it_begins(tmp_path, disk):
    """
    The order is: make, lock, settle; then the first save relies on it.
    """
    root = tmp_path / "runs" / "c"
    saved(root, disk)

    assert ["sync .", "sync runs", "sync runs/c", "sync runs", "sync ."] == disk.done[:5]
    assert f"sync {tmp_path.parent}" in disk.done


def test_a_save_flushes_files_folder_name_and_parent_in_this_order(tmp_path, disk):
    """
    Until the rename a reader sees the older one; after the last flush the new one stays.
    """
    root = tmp_path / "c"
    saved(root, disk)
    del disk.done[:]
    saved(root, disk, 1, last=3)
    at = disk.done.index("sync files")

    name = "step-000000001"
    order = ["sync files", f"sync c/{name}.partial", f"rename {name}.partial {name}", "sync c"]
    assert order == disk.done[at : at + 4]


def test_a_checkpoint_loses_its_name_on_the_disk_before_it_is_emptied(tmp_path, disk):
    """
    A power cut must not bring back a name for half a folder.
    """
    root = tmp_path / "c"
    saved(root, disk, 1, last=1)
    del disk.done[:]
    saved(root, disk, 2, last=1)
    at = disk.done.index("rename step-000000001 step-000000001.removed.partial")

    assert "sync c" == disk.done[at + 1]


def test_one_that_is_set_aside_stays_aside(tmp_path, disk):
    """
    After a power cut nobody reads the damaged one again.
    """
    (tmp_path / "step-000000001").mkdir()
    (aside,) = set_aside([tmp_path / "step-000000001"], disk)

    assert "step-000000001.damaged" == aside.name
    assert ["rename step-000000001 step-000000001.damaged", "sync ."] == disk.done


def test_a_damaged_one_that_cannot_be_renamed_is_said_and_the_one_before_is_used(tmp_path):
    """
    The disk may refuse just this.
    """
    saved(tmp_path / "c", LocalDisk(), 1, 2, last=3)
    (tmp_path / "c" / "step-000000002" / "rank-00000.json").write_bytes(b"")

    class Stuck(LocalDisk):
        def rename(self, source, target):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Store(tmp_path / "c", job="j", disk=Stuck()) as store:
        loaded = store.newest()
        (notice,) = store.notices

    assert 1 == loaded.step
    assert "it could not be renamed: Input/output error" in notice.text
    assert "an older checkpoint is used" in notice.hint


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_pin_is_private_and_flushed_with_the_folder_that_names_it(tmp_path, disk, umask):
    """
    It is done when it survives a power cut; its mode does not depend on the shell.
    """
    root = tmp_path / "c"
    saved(root, LocalDisk(), 1, last=3)
    before = os.umask(umask)
    try:
        pins.pin(root, Name(1), "mine", disk=disk)
    finally:
        os.umask(before)

    assert ["sync c/step-000000001.pin", "sync c"] == disk.done
    assert 0o600 == stat.S_IMODE((root / "step-000000001.pin").stat().st_mode)


@pytest.mark.parametrize("mode", [0o644, 0o400])
def test_a_pin_that_was_made_by_hand_becomes_private_when_it_is_made_anew(tmp_path, mode):
    """
    A longer note is gone whole, too.
    """
    root = tmp_path / "c"
    saved(root, LocalDisk(), 1, last=3)
    mark = root / "step-000000001.pin"
    mark.write_text("x" * 1000)
    mark.chmod(mode)
    if mode == 0o400 and os.geteuid() != 0:
        pytest.skip("only root may write to what is read-only")
    pins.pin(root, Name(1), "short")

    assert 0o600 == stat.S_IMODE(mark.stat().st_mode)
    assert {Name(1): "short"} == {name: pin.note for name, pin in pins.read_all(root).items()}


def test_an_unpinned_checkpoint_is_unpinned_after_a_power_cut_too(tmp_path, disk):
    """
    Or the next `list` would show a mark that was taken away.
    """
    root = tmp_path / "c"
    saved(root, LocalDisk(), 1, last=3)
    pins.pin(root, Name(1), disk=LocalDisk())

    assert pins.unpin(root, Name(1), disk=disk)
    assert ["sync c"] == disk.done
    assert not pins.unpin(root, Name(1), disk=disk)


def test_a_pin_for_what_was_just_removed_takes_its_mark_away_again_on_the_disk(tmp_path, disk):
    """
    Nothing is kept for a later checkpoint of the same name.
    """
    root = tmp_path / "c"
    saved(root, LocalDisk(), 1, last=3)

    class Removing(NotedDisk):
        def sync(self, path):
            super().sync(path)
            if path.name.endswith(".pin"):
                (root / "step-000000001").rename(root / "gone")

    removing = Removing(tmp_path)
    with pytest.raises(CannotRestore, match="just removed"):
        pins.pin(root, Name(1), disk=removing, wait=lambda: False)

    assert ["sync c/step-000000001.pin", "sync c", "sync c"] == removing.done
    assert {} == pins.read_all(root)


@pytest.mark.parametrize("keep", [{"last": 1}, {"last": 1, "best": 1, "metric": "loss"}, {"last": 2}])
def test_the_checkpoint_just_written_stays_whatever_the_rules_say(tmp_path, keep):
    """
    A run that was taken back to an older step saves beside newer ones: they may go, and it may not.
    """
    root = tmp_path / "c"
    saved(root, LocalDisk(), 50, 60, 70, last=3)
    with Store(root, job="j", keep=Keep(**keep)) as store:
        one = store.save({"n": 5}, step=5, epoch=0, facts={"metrics": {"loss": 9.0}})
        assert one.path.is_dir()
        two = store.save({"n": 6}, step=6, epoch=0, facts={"metrics": {"loss": 8.0}})

        assert two.path.is_dir()
        assert not one.path.exists()


def test_what_cannot_be_swept_is_told_and_kept_from_nobody(tmp_path):
    """
    Each leftover by itself: one that resists does not save the others.
    """
    (tmp_path / "step-000000001.partial").mkdir()
    (tmp_path / "step-000000002.partial").mkdir()
    (tmp_path / "step-000000003.removed.partial").mkdir()
    (tmp_path / "step-000000004.partial").write_text("a file")
    (tmp_path / "notes").mkdir()
    (tmp_path / "step-000000005.partial").symlink_to(tmp_path / "notes")
    spare = tmp_path / "step-000000003.removed.partial"

    assert [] == sweep(tmp_path, spare)
    assert {spare.name, "notes"} == {path.name for path in tmp_path.iterdir()}


def test_a_store_that_cannot_begin_gives_its_lock_back(tmp_path):
    """
    The next try, by this process or another, is not told that the folder is in use.
    """

    class Broken(LocalDisk):
        def sync(self, path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    root = tmp_path / "c"
    root.mkdir()
    with pytest.raises(CannotSave, match="input/output error"):
        Store(root, job="j", disk=Broken()).open()
    saved(root, LocalDisk(), 1, last=3)

    assert (root / "step-000000001").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("owner", [(12345, 12346), (0, 0)])
def test_a_pin_that_root_made_belongs_to_the_owner_of_the_folder(tmp_path, owner):
    """
    Who trains there may remove it, and reads its note.
    """
    root = tmp_path / "c"
    saved(root, LocalDisk(), 1, last=3)
    os.chown(root, *owner)
    pins.pin(root, Name(1), "for you")
    there = (root / "step-000000001.pin").stat()

    assert owner == (there.st_uid, there.st_gid)
