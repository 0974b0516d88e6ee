"""The daemon's locks: whatever lies in their places."""

import logging
import os

import pytest
import structlog

from supervisor import places
from supervisor.paths import Paths
from supervisor.store import opening


@pytest.fixture
def told():
    """What the log has; the tests' own setting keeps it silent."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    with structlog.testing.capture_logs() as entries:
        yield entries
    structlog.configure(**before)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
@pytest.mark.parametrize("which", ["daemon", "journal"])
def test_what_lies_in_the_place_of_a_lock_is_kept_and_told(tmp_path, told, which, kind):
    """
    By both locks in the same way; whoever looks into the file finds the process.
    """
    paths = Paths.find(str(tmp_path))
    journal = tmp_path / "journal.sqlite"
    lock = paths.lock if which == "daemon" else journal.with_name("journal.sqlite.lock")
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    make = {
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "link": lambda: lock.symlink_to("/dev/null"),
    }
    make[kind]()
    os.close(places.take_places(paths) if which == "daemon" else opening.take_lock(journal))

    assert f"{os.getpid()}\n" == lock.read_text()
    assert os.path.lexists(lock.with_name(f"{lock.name}.aside-1"))
    assert [("kept-aside", "warning")] == [(one["event"], one["log_level"]) for one in told]


@pytest.mark.parametrize("place", ["journal.sqlite.new", "journal.sqlite.new-wal"])
def test_what_lies_in_the_place_of_a_new_journal_is_told_as_well(tmp_path, told, place):
    """
    It was kept under another name in silence.
    """
    journal = tmp_path / "journal.sqlite"
    source = opening.connect(journal)
    (tmp_path / place).mkdir()
    opening.write_anew(journal, source)
    source.close()

    assert (tmp_path / f"{place}.aside-1").is_dir()
    assert ["kept-aside"] == [one["event"] for one in told]
