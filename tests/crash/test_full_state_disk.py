"""A full disk under the journal: three answers, and a kill that needs no disk.

Covers: what is taken and cannot be stored, over the real socket and the real command line.
Does not cover: the journal itself on such a disk (contract/test_journal.py).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess

import pytest
from harness import RunningDaemon, until

from supervisor import api
from supervisor.client import new_id
from supervisor.errors import UsageError
from supervisor.system.procfs import read_stat


@pytest.fixture(scope="module")
def daemon():
    """
    One whose state lies on a small disk of its own.
    """
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    daemon = RunningDaemon()
    state = daemon.paths.state_dir
    state.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=16m,mode=0700", "none"]
    if subprocess.run(["mount", *options, state], capture_output=True, check=False).returncode:
        daemon.close()
        pytest.skip("cannot mount a file system here")
    try:
        with daemon:
            yield daemon
            # What is left there ends first.
            daemon._kill_jobs()
            subprocess.run(["umount", "--lazy", state], check=True)
    finally:
        subprocess.run(["umount", "--lazy", state], check=False, capture_output=True)


@pytest.fixture
def disk(daemon):
    """
    Fills the disk to the last block, and frees it.
    """
    disk = Disk(daemon.paths.state_dir / "ballast")
    yield disk
    disk.free()
    until(lambda: not daemon.client.status().alerts)
    # Its answer comes when all that waited is stored: the next test may fill the disk again at once.
    until(lambda: daemon.ctl("reload").code == 0)


class Disk:
    def __init__(self, ballast):
        self.ballast = ballast

    def fill(self):
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self):
        self.ballast.unlink(missing_ok=True)


def start(daemon, name):
    if name not in daemon.names():
        daemon.command(name, "sleep", "1000")
    return daemon.until(name, lambda row: row.pid is not None).pid


def test_a_request_that_cannot_be_stored_is_neither_accepted_nor_refused(daemon, disk):
    """
    Exit code 5 and what to do, within a moment; it is carried out when there is room again.
    """
    start(daemon, "held")
    disk.fill()

    said = daemon.ctl("stop", "held")

    assert said.code == 5, said
    assert "cannot say yet what becomes of job `held`" in said.err
    assert "full" in said.err
    assert "hint: it is carried out as soon as that is mended" in said.err
    refused = daemon.ctl("resume", "held")
    assert refused.code == 3, refused
    disk.free()
    daemon.until("held", "stopped")


def test_a_kill_needs_no_disk(daemon, disk):
    """
    The process is gone while nothing can be stored, and the job says how it ended afterwards.
    """
    pid = start(daemon, "doomed")
    disk.fill()

    said = daemon.ctl("kill", "doomed")

    assert said.code == 5, said
    # Its keeper has no room for a word on its end, and keeps it as a zombie until there is some.
    until(lambda: (there := read_stat(pid)) is None or there.state == "Z")
    disk.free()
    daemon.until("doomed", "stopped")


def test_a_kill_is_waited_for_without_a_disk(daemon, disk):
    """
    It succeeds as soon as the processes are gone.
    """
    pid = start(daemon, "waited")
    disk.fill()

    said = daemon.ctl("kill", "waited", "--wait", "--timeout", "20")

    assert said.code == 0, said
    assert "its process has ended" in said.out
    assert (there := read_stat(pid)) is None or there.state == "Z"


def test_what_is_asked_is_not_shown_as_begun(daemon, disk):
    """
    Nothing of a pause, stop or resume is done before it is stored, and both commands say so.
    """
    daemon.train("shy")
    disk.fill()
    daemon.ctl("pause", "shy")

    why, status = daemon.ctl("why", "shy").out, daemon.ctl("status", "shy").out

    assert "not begun: nothing can be stored" in why
    assert "not begun: nothing can be stored" in status
    assert "batch boundary" not in why + status
    disk.free()
    daemon.until("shy", "paused")
    daemon.ctl("kill", "shy")


def test_a_process_that_died_is_not_shown_as_running(daemon, disk):
    """
    Its keeper has no room to write down how it ended, and nobody asked for anything.
    """
    pid = start(daemon, "died")
    disk.fill()
    os.kill(pid, 9)

    row = daemon.until("died", lambda row: row.ended)
    said = daemon.ctl("status", "died")

    assert "its process has ended" in row.stage
    assert "its process has ended" in said.out
    disk.free()
    daemon.until("died", "failed")


def test_a_full_disk_is_told_before_anything_is_to_be_stored(daemon, disk):
    """
    Every `status` warns, with what to do.
    """
    disk.fill()

    said = until(lambda: "disk is full" in (last := daemon.ctl("status")).err and last)

    assert f"cannot store anything more in `{daemon.paths.state_dir}`" in said.err
    assert "make room" in said.err


def test_a_new_job_that_cannot_be_stored_does_not_run_before_it_is(daemon, disk):
    """
    Its name is told, so that it can be looked for.
    """
    disk.fill()

    said = daemon.ctl("run", "--name", "late", "--", "sleep", "1000")

    assert said.code == 5, said
    assert "`late`" in said.err
    assert daemon.row("late").pid is None
    disk.free()
    daemon.until("late", lambda row: row.pid is not None)


def test_what_waits_for_the_disk_is_bounded(daemon, disk):
    """
    Each request that is taken is held in memory until it is stored. A kill is taken all the same.
    """
    start(daemon, "changed")
    disk.fill()
    daemon.ctl("set", "changed", "--priority", "-1")

    def asked(kind, **fields):
        (answer,) = daemon.client.ask_jobs(kind(id=new_id(), jobs=("changed",), **fields))
        return answer

    answers = (asked(api.SetRequest, priority=number) for number in range(5000))
    taken = list(itertools.takewhile(lambda answer: isinstance(answer, api.Accepted), answers))
    refused = asked(api.StopRequest)
    with pytest.raises(UsageError):
        daemon.row("no-such-job")
    killed = asked(api.KillRequest)
    disk.free()
    row = daemon.until("changed", "stopped")

    assert 0 < len(taken) < 1100
    assert (3, True) == (refused.exit_code, "cannot take more requests" in refused.error)
    assert not killed.stored
    assert row.priority == len(taken) - 1
