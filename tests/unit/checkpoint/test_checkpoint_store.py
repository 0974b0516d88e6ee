"""A store as a training session uses it, on a real folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from importlib import metadata

import pytest
import torch
from safetensors.torch import load_file

from tests.fakes.disk import FailingDisk, MeasuredDisk
from trainer_shim.checkpoint import Store, layout
from trainer_shim.checkpoint.commit import LocalDisk, discard
from trainer_shim.checkpoint.reader import visible
from trainer_shim.errors import CannotSave, CannotStore, FolderInUse

FACTS = {"incarnation": 2, "git_commit": "7e4ce54", "command": ["python", "train.py"], "labels": {"lr": 0.1}}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs" / "checkpoints"


@pytest.fixture
def store(root):
    with Store(root, job="job-3") as opened:
        yield opened


def save(store, step, **state):
    return store.save({"model": torch.full((3,), float(step)), **state}, step=step, epoch=1, facts=FACTS)


def names(root):
    return sorted(path.name for path in root.iterdir() if path.name.startswith("step-"))


def test_a_new_folder_has_nothing_to_restore(store):
    """
    The first start of a job is not an error.
    """
    assert store.newest() is None
    assert [] == store.notices


def test_thousands_of_empty_folders_cost_a_start_no_time(root):
    """
    Each was listed anew for each, flushed and told of: 2,000 took 10 s and as many lines.
    """
    with Store(root, job="job-3") as store:
        save(store, 1)
        for step in range(2, 2002):
            (root / f"step-{step:09d}").mkdir()
        begin_s = time.process_time()
        loaded = store.newest()
        took_s = time.process_time() - begin_s
        told = [notice.text for notice in store.notices]

    assert 1 == loaded.step
    assert ["step-000000001"] == [name for name in names(root) if not name.endswith(".damaged")]
    assert 6 == len(told)
    assert "cannot use 1995 older checkpoints" in told[-1]
    assert took_s < 3


def test_what_was_saved_last_is_restored(store, root):
    """
    State, step and epoch come back, and the manifest says who made them and how.
    """
    save(store, 100)
    saved = save(store, 200, note="here")
    loaded = store.newest()

    assert (root / "step-000000200", 200, 1) == (loaded.path, loaded.step, loaded.epoch)
    assert [200.0] * 3 == loaded.state["model"].tolist()
    assert "here" == loaded.state["note"]
    assert saved.digest == loaded.digest
    assert saved.size_bytes == sum(path.stat().st_size for path in saved.path.iterdir())
    manifest = loaded.manifest
    assert ("job-3", 2, 1, "7e4ce54") == (
        manifest.job,
        manifest.incarnation,
        manifest.world_size,
        manifest.git_commit,
    )
    assert {"lr": 0.1} == manifest.labels
    assert torch.__version__ == manifest.versions["torch"]


def test_the_folder_holds_what_the_format_says(store, root):
    """
    A person finds the same names everywhere, and the stock reader opens the tensors.
    """
    saved = store.save(
        {"w": torch.ones(2)}, step=1200, epoch=0, facts=FACTS | {"preprocessing": {"mean": [0.5]}}
    )
    found = {path.name for path in saved.path.iterdir()}

    expected = {
        "manifest.json",
        "rank-00000.safetensors",
        "rank-00000.json",
        "environment.txt",
        "preprocessing.json",
    }
    assert expected == found
    assert [1.0, 1.0] == load_file(saved.path / "rank-00000.safetensors")["w"].tolist()
    # As pip lists it: the package of the CUDA build does not name the build, `torch.__version__` does.
    assert f"torch=={metadata.version('torch')}\n" in (saved.path / "environment.txt").read_text()
    assert "step-000001200\n" == (root / "latest").read_text()


def test_the_stages_of_a_save_are_told_in_order(store):
    """
    Who waits for a pause sees what it waits for.
    """
    stages = []
    store.save({}, step=1, epoch=0, facts={}, on_stage=stages.append)

    assert ["checking", "writing", "flushing", "committing", "removing old"] == stages


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_nobody_else_can_read_a_checkpoint_whatever_the_umask(root, umask):
    """
    Weights are as private as the job's user wants, by default entirely.
    """
    before = os.umask(umask)
    try:
        with Store(root, job="j") as store:
            save(store, 1)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()}

    assert {0o600} == modes
    assert {0o700} == {
        stat.S_IMODE(path.stat().st_mode) for path in (root, root.parent, root / "step-000000001")
    }


def test_the_last_few_stay_and_older_ones_go(root):
    """
    Disk use stays bounded; what is kept is the newest.
    """
    with Store(root, job="j", keep_last=2) as store:
        for step in (1, 2, 3, 4):
            save(store, step)

    assert ["step-000000003", "step-000000004"] == names(root)
    assert [] == [path.name for path in root.iterdir() if path.name.endswith(".partial")]


def test_no_checkpoint_may_not_be_kept(root):
    """
    A store that keeps nothing is a mistake in the script, said at once.
    """
    with pytest.raises(ValueError, match="cannot keep the last 0 checkpoints"):
        Store(root, job="j", keep_last=0)


def test_a_second_save_of_a_step_replaces_the_first(store, root):
    """
    Pausing right after a periodic checkpoint keeps the pause's state, and never leaves a gap.
    """
    save(store, 7, note="periodic")
    saved = save(store, 7, note="pause")

    assert "pause" == store.newest().state["note"]
    assert ["step-000000007.1"] == [str(name) for name in visible(root)] == [saved.path.name]


def test_a_refused_value_writes_nothing(store, root):
    """
    A save that cannot succeed is over before the disk is touched.
    """
    before = set(root.iterdir())
    for state, facts in [({"hook": print}, {}), ({}, {"labels": {"a": {1}}}), ({}, {"incarnation": 1.5})]:
        with pytest.raises(CannotStore):
            store.save(state, step=1, epoch=0, facts=facts)

    assert before == set(root.iterdir())


def test_leftovers_of_a_crash_are_removed_and_other_files_are_not(root):
    """
    Half a checkpoint is gone at the next start; a person's files are left alone.
    """
    (root / "step-000000001.partial").mkdir(parents=True)
    (root / "step-000000001.partial" / "rank-00000.json").write_bytes(b"half")
    (root / "step-000000002.1.removed.partial").mkdir()
    (root / "latest.partial").write_bytes(b"")
    (root / "thesis.partial").write_bytes(b"mine")
    (root / "step-000000003.damaged").mkdir()
    with Store(root, job="j") as store:
        assert store.newest() is None

    assert {".lock", "thesis.partial", "step-000000003.damaged"} == {path.name for path in root.iterdir()}


def test_a_script_may_change_its_working_directory(tmp_path, monkeypatch):
    """
    A relative folder means the one at the start.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Store("ckpt", job="j") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        save(store, 1)

    assert ["step-000000001"] == names(tmp_path / "ckpt")


def test_a_full_disk_is_noticed_before_the_first_byte(root):
    """
    The message has both amounts, the older checkpoint stays, and the next save works.
    """
    disk = MeasuredDisk(1 << 40)
    with Store(root, job="j", disk=disk) as store:
        save(store, 1)
        disk.left = disk.left._replace(size_bytes=17 << 20)
        with pytest.raises(CannotSave, match=r"it needs 24\.\d MiB, 17\.0 MiB are free") as caught:
            save(store, 2, more=torch.zeros(2 << 20))
        disk.left = disk.left._replace(size_bytes=1 << 40, num_files=3)
        with pytest.raises(CannotSave, match="no room for more files"):
            save(store, 2)
        disk.left = None
        save(store, 3)

    assert "free some space" in caught.value.hint
    assert ["step-000000001", "step-000000003"] == names(root)


@pytest.mark.parametrize("taken", ["folder", "parent", "lock", "replaced"])
def test_a_folder_that_was_taken_away_is_made_anew(store, root, taken):
    """
    The state in memory is whole: it is saved, under a lock as before, and that is said.
    """
    save(store, 1)
    victim = {"parent": root.parent, "lock": root / layout.LOCK}.get(taken, root)
    victim.rename(root.parents[1] / "moved")
    if taken == "replaced":
        root.mkdir()
    save(store, 2)

    assert [2.0] * 3 == store.newest().state["model"].tolist()
    assert ["made anew" in notice.text for notice in store.notices] == [True]
    with pytest.raises(FolderInUse):
        Store(root, job="other").open()


def test_a_folder_that_another_run_made_anew_is_not_written_to(store, root):
    """
    Whoever locked the new folder has it for itself; when it is free, the next save goes there.
    """
    root.rename(root.with_name("moved"))
    with Store(root, job="other"):
        for step in (1, 2):
            with pytest.raises(FolderInUse, match="in use by"):
                save(store, step)

        assert [] == names(root)
    save(store, 3)
    assert ["step-000000003"] == names(root)


def test_a_forked_child_does_not_make_the_folder_anew(store, root):
    """
    A data-loader worker that inherits a store is no second writer.
    """
    root.rename(root.with_name("moved"))
    child = os.fork()
    if child == 0:
        try:
            save(store, 1)
        except CannotSave:
            os._exit(0)
        finally:
            os._exit(1)

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert not root.exists()


def test_a_folder_that_is_a_file_is_said(tmp_path):
    """
    A wrong path is an error with the path in it.
    """
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotSave, match=r"cannot keep checkpoints in `.*file`: it is not a folder"):
        Store(tmp_path / "file", job="j").open()
    with pytest.raises(CannotSave, match="it is not a folder"):
        Store(tmp_path / "file" / "below", job="j").open()


def test_a_store_that_is_not_open_writes_nothing(root):
    """
    Two runs cannot mix because one forgot to lock.
    """
    store = Store(root, job="j")
    with pytest.raises(CannotSave, match="it is not open"):
        save(store, 1)
    with pytest.raises(CannotSave, match="it is not open"):
        store.newest()

    assert not root.exists()


def test_what_happens_after_the_commit_cannot_fail_a_save(root):
    """
    A checkpoint that is durable is reported as saved, with a notice about the rest.
    """
    with Store(root, job="j", keep_last=1) as store:
        save(store, 1)
        calls = FailingDisk(5, fail_at=-1)
        store._disk = calls
        save(store, 2)
        for fail_at in range(calls.num_calls - 3, calls.num_calls):  # The hint, the renaming, its flush.
            store._disk = FailingDisk(5, fail_at)
            save(store, 10 + fail_at)

    told = [notice.text.split(" in `")[0] for notice in store.notices]
    assert ["cannot write `latest`", *["cannot remove older checkpoints"] * 2] == told


def test_syncing_really_reaches_the_kernel():
    """
    A file that cannot be flushed makes `sync` fail: so it was asked to.
    """
    with pytest.raises(OSError, match="Invalid argument"):
        LocalDisk().sync("/proc/self/status")


def test_importing_and_saving_without_tensors_needs_no_torch(tmp_path):
    """
    The shim costs a program that does not use torch nothing.
    """
    script = (
        "import sys; from pathlib import Path; from trainer_shim.checkpoint import Store\n"
        f"with Store(Path({str(tmp_path)!r}), job='j') as s:\n"
        "    s.save({'a': bytes(5000)}, step=1, epoch=0, facts={})\n"
        "    assert s.newest().state == {'a': bytes(5000)}\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ("[]\n", "") == (done.stdout, done.stderr)


def test_a_leftover_in_the_way_does_not_block_a_save(store, root):
    """
    What cannot be removed is passed by.
    """
    (root / "step-000000001.partial").write_bytes(b"a file, which is not removed as a folder")
    save(store, 1)

    assert 1 == store.newest().step


def test_running_out_of_memory_in_a_save_is_said_and_leaves_nothing(store, root):
    """
    A save that needs too much memory fails like one that needs too much disk.
    """

    def stage(name):
        if name == "flushing":
            raise MemoryError

    with pytest.raises(CannotSave, match="cannot save step 1: out of memory"):
        store.save({}, step=1, epoch=0, facts={}, on_stage=stage)

    assert [] == names(root)


def test_what_cannot_be_cleaned_up_does_not_hide_why_a_save_failed(store, root):
    """
    `shutil.rmtree(ignore_errors=True)` raises when a folder cannot be closed, as on a network file system.
    """
    closed, close = [], os.close

    def closes_badly(fd):
        close(fd)
        closed.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil.os, "close", closes_badly)
        discard(root)

    assert closed
