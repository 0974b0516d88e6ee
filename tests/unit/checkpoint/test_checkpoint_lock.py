"""One process at a time writes to a folder."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from trainer_shim.checkpoint import Store
from trainer_shim.errors import CannotSave, FolderInUse

HOLD = """
import os, sys
from pathlib import Path
from trainer_shim.checkpoint import Store
store = Store(Path(sys.argv[1]), job="j")
store.open()
if sys.argv[2] == "fork" and os.fork() == 0:
    print("child", flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the folder until its standard input ends."""
    started = []

    def start(kind, num_lines):
        command = [sys.executable, "-c", HOLD, str(tmp_path), kind]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        for _ in range(num_lines):
            assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_told_who_has_the_folder(tmp_path, holder):
    """
    The message names the process to wait for or to stop.
    """
    process = holder("alone", 1)
    with pytest.raises(FolderInUse) as caught:
        Store(tmp_path, job="j").open()

    assert f"pid {process.pid} on `" in str(caught.value)
    assert sys.executable in str(caught.value)
    assert caught.value.hint


def test_a_killed_process_leaves_no_lock(tmp_path, holder):
    """
    After a kill -9 the job can be started again at once.
    """
    process = holder("alone", 1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    with Store(tmp_path, job="j") as store:
        assert store.newest() is None


def test_a_forked_child_does_not_keep_the_folder(tmp_path, holder):
    """
    Data-loader workers that outlive a killed trainer do not block its restart.
    """
    process = holder("fork", 2)
    process.send_signal(signal.SIGKILL)
    process.wait()  # The child still waits for the end of its input.

    with Store(tmp_path, job="j") as store:
        assert store.newest() is None


def test_a_forked_child_does_not_take_the_lock_away(tmp_path, holder):
    """
    While the trainer lives, its workers change nothing about who has the folder.
    """
    process = holder("fork", 2)
    with pytest.raises(FolderInUse, match=f"pid {process.pid} "):
        Store(tmp_path, job="j").open()


def test_opening_and_closing_may_be_repeated(tmp_path):
    """
    A session need not remember whether it closed its store.
    """
    store, other = Store(tmp_path, job="j"), Store(tmp_path, job="j")
    store.open()
    store.open()
    with pytest.raises(FolderInUse):
        other.open()
    store.close()
    store.close()
    other.open()
    other.close()


def test_a_lock_with_a_second_name_overwrites_nothing(tmp_path):
    """
    A backup by hard links must not have the run's name in the place of its own file.
    """
    (tmp_path / "precious").write_text("a week of work")
    root = tmp_path / "ckpt"
    root.mkdir()
    (root / ".lock").hardlink_to(tmp_path / "precious")
    with Store(root, job="j"), pytest.raises(FolderInUse):
        Store(root, job="j").open()

    assert "a week of work" == (tmp_path / "precious").read_text()


def test_a_lock_that_is_a_link_is_told(tmp_path):
    """
    It is not followed, and the error names it.
    """
    (tmp_path / ".lock").symlink_to("elsewhere")
    with pytest.raises(CannotSave, match=r"\.lock` is a link, not a file") as caught:
        Store(tmp_path, job="j").open()

    assert "move it away" == caught.value.hint
