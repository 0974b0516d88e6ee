"""What a process was started with: read of anybody, and waited for of nobody."""

import os
import threading
import time

import pytest

from supervisor.system.started_with import started_with
from tests.other_user import OTHER, needs_root

#: Nobody else's number: whoever keeps us waiting is not read for a while, in other tests of this process too.
STUCK = 4_000_399


@pytest.fixture
def add(tmp_path):
    """Put a process into a tree like /proc; reading it may wait until somebody lets it go on."""

    def add(pid, uid, *, waits=False):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        if waits:
            os.mkfifo(folder / "environ")
        else:
            (folder / "environ").write_bytes(b"A=b\0")
        return folder / "environ"

    return add


@pytest.fixture
def read(tmp_path):
    return lambda pid: started_with(pid, "environ", proc=str(tmp_path))


def test_what_is_ones_own_is_read_whole(add, read):
    """
    As long as it is.
    """
    add(7, os.geteuid()).write_bytes(b"x" * (1 << 20))

    assert 1 << 20 == len(read(7))
    assert b"" == read(8)


@needs_root
def test_whoever_keeps_us_waiting_is_not_read_for_a_while(add, read):
    """
    2026-11-29: a process whose memory is being changed without end (FUSE) would have stopped the daemon.
    """
    waiting = add(1, STUCK, waits=True)
    add(2, STUCK)
    add(3, OTHER)
    before, begin = threading.active_count(), time.monotonic()
    first = [read(pid) for pid in (1, 2, 1, 2)]
    took_s = time.monotonic() - begin
    other = read(3)
    num_threads = threading.active_count() - before
    # It ends well, so that no thread stays behind.
    waiting.write_bytes(b"late")

    assert [b""] * 4 == first
    assert b"A=b\0" == other
    assert 1 == num_threads
    assert took_s < 5
