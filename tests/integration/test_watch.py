"""Changed files, on a real folder with real inotify."""

import select
import shutil

import pytest

from supervisor.watch import FolderWatch
from tests.harness import until


def is_woken(watch):
    ready, _, _ = select.select([watch.fileno()], [], [], 10)
    watch.drain()
    return bool(ready)


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

        assert (True, True, "") == (swapped, is_woken(watch), watch.problem)
    finally:
        watch.close()


def test_a_folder_that_is_gone_is_said(tmp_path):
    """
    The daemon goes on; `status` says that changes are not seen.
    """
    watch = FolderWatch([tmp_path / "nowhere"])
    try:
        assert "supervisorctl reload" in watch.problem
    finally:
        watch.close()


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
        assert f"cannot watch `{jobs}`" in watch.problem
        assert is_parent is (f"cannot watch `{config}`" in watch.problem)

        jobs.mkdir(parents=True)
        came_back = watch.refresh()
        watch.drain()
        (jobs / "job.toml").write_text("x")
        assert (True, True, "") == (came_back, is_woken(watch), watch.problem)
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
