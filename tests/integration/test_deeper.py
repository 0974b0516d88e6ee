"""Depth `offload` under a real daemon: asked for by a person, deeper and deeper, and back.

Covers: what the daemon learns of depths, going deeper in place, a host without room, a device without
room at the return, a daemon that is restarted meanwhile.
Does not cover: a real device (tests/gpu); the session alone (tests/exactness/test_giving_back.py).
"""

from __future__ import annotations

import pytest

from tests.harness import PYTHON, ROOT, RunningDaemon, until
from tests.trainers import offloaded

CONFIG = "[daemon]\nsample_s = 0.5\n[shim]\nheartbeat_s = 0.2\nreturn_retry_s = 1.0\n"


@pytest.fixture(scope="module")
def daemon():
    """One for all of this file."""
    with RunningDaemon(CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def expected():
    """The bits of a run that was never paused."""
    return offloaded.unpaused_digest()


def start(daemon, name):
    """Return the folder of a run that stands before its next step and can be offloaded."""
    folder = daemon.work / name
    folder.mkdir()
    (folder / "wait").touch()
    env = daemon.job_env(TRAINING_SUPERVISOR_OFFLOAD="cpu", OMP_NUM_THREADS=1)
    argv = (PYTHON, str(ROOT / "tests/trainers/offloaded.py"))
    daemon.command(name, *argv, env=env, cwd=str(folder))
    until(lambda: "offload" in daemon.client.show(name).depths, lambda: daemon.job_log(name))
    return folder


def test_a_job_goes_deeper_step_by_step_and_comes_back_from_each(daemon, expected):
    """
    hold, offload once the host has room, back by the same process under another daemon, hold, exit,
    back: with the bits of a run that never paused. What does not work is said, and nothing trains meanwhile.
    """
    folder = start(daemon, "deeper")
    daemon.pause("deeper")
    (folder / "wait").unlink()
    held = daemon.until("deeper", "paused")
    (folder / "crowded").touch()
    refused = daemon.ctl("pause", "--depth", "offload", "--wait", "deeper")
    crowded = daemon.row("deeper")
    (folder / "crowded").unlink()
    said = daemon.ctl("pause", "--depth", "offload", "--wait", "deeper")
    away = daemon.row("deeper")
    shown = daemon.ctl("show", "deeper")
    daemon.restart()
    daemon.until("deeper", lambda row: row.heartbeat_age_s is not None)
    again = daemon.row("deeper")
    (folder / "wait").touch()
    daemon.resume("deeper")
    back = daemon.until("deeper", "running")
    daemon.pause("deeper", depth="offload")
    (folder / "wait").unlink()
    daemon.until("deeper", "paused")
    daemon.pause("deeper", depth="exit")
    gone = daemon.until("deeper", lambda row: row.state == "paused" and row.pid is None)
    daemon.resume("deeper")
    daemon.until("deeper", "completed")
    digest, pid = (folder / "digest").read_text().split()

    assert (1, 0) == (refused.code, said.code), (refused, said)
    assert "cannot pause at depth offload: cannot copy" in refused.out + refused.err
    places = [(row.state, row.depth, row.checkpoint_step, row.pid) for row in (held, crowded, away, again)]
    same = (held.checkpoint_step, held.pid)
    assert [("paused", depth, *same) for depth in ("hold", "hold", "offload", "offload")] == places
    assert [None, None, 796, 796, None] == [row.bytes_freed for row in (held, crowded, away, again, back)]
    assert "796 B of GPU memory" in shown.out
    assert (held.pid, "exit") == (back.pid, gone.depth)
    assert (expected, True) == (digest, pid != str(held.pid))


def test_a_device_that_stays_full_means_a_start_from_the_checkpoint(daemon, expected):
    """
    `status` says what it waits for; then the process ends by itself and the daemon starts it again.
    """
    folder = start(daemon, "full")
    daemon.pause("full", depth="offload")
    (folder / "wait").unlink()
    away = daemon.until("full", "paused")
    (folder / "full").touch()
    daemon.resume("full")
    waiting = daemon.until("full", lambda row: "waiting for GPU memory" in row.stage)
    daemon.until("full", lambda row: row.incarnation == 2)
    (folder / "full").unlink()
    daemon.until("full", "completed")
    digest, pid = (folder / "digest").read_text().split()

    assert ("offload", "resuming") == (away.depth, waiting.state)
    assert expected == digest
    assert str(away.pid) != pid
