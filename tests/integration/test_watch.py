"""Changed files, on a real folder with real inotify."""

import os
import resource
import select
import shutil

import pytest

from supervisor.watch import FolderWatch
from tests.harness import until


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "config"
    (folder / "jobs.d").mkdir(parents=True)
    (folder / "config.toml").write_text("[daemon]\n")
    return folder


@pytest.fixture
def watch(folder):
    watch = FolderWatch([folder, folder / "jobs.d"])
    yield watch
    watch.close()


def is_woken(watch, within_s=10.0):
    ready, _, _ = select.select([watch.fileno()], [], [], within_s)
    watch.drain()
    return bool(ready)


def is_seen(watch):
    """By inotify, or by the look that the loop takes every few seconds."""
    watch.look()
    return is_woken(watch)


def is_quiet(watch):
    """Everything that inotify had to say is said, and a look finds nothing new."""
    while is_woken(watch, 0.2):
        watch.refresh()
    watch.look()
    return not is_woken(watch, 0.0)


def test_a_folder_that_was_replaced_is_still_watched(tmp_path):
    """
    2026-11-22: rsync and git swap whole folders; files that came later were not seen.
    """
    watched, other = tmp_path / "jobs.d", tmp_path / "new"
    watched.mkdir()
    other.mkdir()
    watch = FolderWatch([tmp_path, watched])
    try:
        watched.rename(tmp_path / "old")
        other.rename(watched)
        swapped = is_woken(watch)
        watch.refresh()
        watch.drain()
        (watched / "job.toml").write_text("x")

        assert (True, True, ()) == (swapped, is_woken(watch), watch.aside)
    finally:
        watch.close()


def linked(folder, name, text):
    target = folder.parent / name
    target.write_text(text)
    return target


@pytest.mark.parametrize("change", ["written", "replaced", "pointed elsewhere", "removed"])
def test_the_target_of_a_link_is_seen_to_change(folder, watch, change):
    """
    Settings under version control, or mounted by Kubernetes, are links; edits went unseen.
    """
    file, target = folder / "config.toml", linked(folder, "real.toml", "[daemon]\n")
    file.unlink()
    between = folder.parent / "between"
    between.symlink_to(target)
    file.symlink_to(between)
    is_seen(watch)
    assert is_quiet(watch)
    if change == "written":
        target.write_text("[jobs]\nkill_grace_s = 3\n")
    elif change == "replaced":
        linked(folder, "other.toml", "[daemon]\n").rename(target)
    elif change == "pointed elsewhere":
        between.unlink()
        between.symlink_to(linked(folder, "other.toml", "[daemon]\n"))
    else:
        target.unlink()

    assert is_seen(watch)
    assert is_quiet(watch)


def test_a_folder_that_was_swapped_is_seen(folder, watch):
    """
    Its own name is in a folder that nobody watches; what comes into the new one afterwards is seen at once.
    """
    assert is_quiet(watch)
    folder.rename(folder.with_name("old"))
    (folder / "jobs.d").mkdir(parents=True)
    assert is_seen(watch)
    watch.refresh()
    assert is_quiet(watch)
    (folder / "jobs.d/job.toml").write_text("x")

    assert is_woken(watch)


def test_a_folder_that_is_gone_is_said(tmp_path):
    """
    The daemon goes on, says it by name, and sees when it is back.
    """
    watch = FolderWatch([tmp_path / "nowhere"])
    try:
        [aside] = watch.aside
        (tmp_path / "nowhere").mkdir()
        came_back = is_seen(watch)
        watch.refresh()

        assert ("sensor", "inotify", str(tmp_path / "nowhere")) == (aside.kind, aside.name, aside.where)
        assert came_back
        assert () == watch.aside
    finally:
        watch.close()


def test_without_inotify_changes_are_seen_by_looking(folder):
    """
    Its instances are used up (the same EMFILE as here): watchdog fails before there is a folder to watch.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_fd = os.dup(0)
    os.close(next_fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_fd + 1, before[1]))
    try:
        watch = FolderWatch([folder, folder / "jobs.d"])
        [aside] = watch.aside
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    try:
        is_seen(watch)
        assert is_quiet(watch)
        (folder / "jobs.d/job.toml").write_text("x")
        assert is_seen(watch)
        watch.refresh()
        healed = watch.aside
    finally:
        watch.close()

    assert "cannot watch" in aside.why
    assert "changes are seen all the same" in aside.hint
    assert () == healed


@pytest.mark.parametrize("is_parent", [False, True], ids=["folder", "parent"])
def test_a_folder_that_comes_back_is_watched_again_and_no_longer_complained_about(tmp_path, is_parent):
    """
    The complaint names the folder that is gone, not the first one; on tmpfs and ext4 the new one often has
    the number of the old one.
    """
    config, jobs = tmp_path / "config", tmp_path / "config/jobs.d"
    jobs.mkdir(parents=True)
    watch = FolderWatch([config, jobs])
    try:
        shutil.rmtree(config if is_parent else jobs)
        assert is_woken(watch)
        assert not watch.refresh()
        assert f"cannot watch `{jobs}`" in str(watch.aside)
        assert is_parent is (f"cannot watch `{config}`" in str(watch.aside))

        jobs.mkdir(parents=True)
        came_back = watch.refresh()
        watch.drain()
        (jobs / "job.toml").write_text("x")
        assert (True, True, ()) == (came_back, is_woken(watch), watch.aside)
    finally:
        watch.close()


def test_a_folder_that_was_swapped_between_two_looks_is_watched(tmp_path):
    """
    Gone and there again before anybody looked: its name and even its number may be the same.
    """
    jobs = tmp_path / "jobs.d"
    jobs.mkdir()
    watch = FolderWatch([tmp_path, jobs])
    try:
        jobs.rmdir()
        jobs.mkdir()
        assert is_woken(watch)
        until(watch.refresh)
        watch.drain()
        (jobs / "job.toml").write_text("x")

        assert is_woken(watch)
    finally:
        watch.close()
