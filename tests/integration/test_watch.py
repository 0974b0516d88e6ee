"""Changed files, on a real folder with real inotify."""

import select

from supervisor.watch import FolderWatch


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
