"""What the daemon tells a start of a command in its environment, and what comes of it.

Covers: how often it is to save, from the command line, and `set`.
Does not cover: saving in the background itself (test_periodic.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import CHAIN, RunningDaemon
from trainer_shim import protocol as wire

EVERY = "TRAINING_SUPERVISOR_EVERY_S"


@pytest.fixture
def daemon():
    with RunningDaemon() as running:
        yield running


def told(run, name):
    """What the newest start of a run has under that name in its environment, or None."""
    words = Path(f"/proc/{run.starts[-1]}/environ").read_text().split("\0")
    return dict(word.partition("=")[::2] for word in words).get(name)


def trains(daemon, run, start):
    """Wait until that start of the command trains."""
    daemon.until("job", lambda row: row.state == "running" and row.pausable and row.incarnation == start)
    assert start == len(run.starts)


def test_a_job_saves_by_itself_as_often_as_the_command_line_says(daemon):
    """
    `run --every`: checkpoints come though nobody asks for one and the script does not say it; a new
    daemon knows it still, and `set` changes it for the next start.
    """
    run = daemon.plan("job")
    env = daemon.chain_env(run)
    begun = daemon.ctl("run", "--name", "job", "--every", "1s", "--", *CHAIN, **env)
    first = daemon.until("job", lambda row: row.checkpoint_step)
    newer = daemon.until("job", lambda row: row.checkpoint_step > first.checkpoint_step)
    shown = daemon.ctl("show", "job")
    changed = daemon.ctl("set", "job", "--every", "1h30m")
    daemon.restart()
    daemon.ask(wire.RestartRequest, "job")
    trains(daemon, run, 2)
    second, later = told(run, EVERY), daemon.ctl("show", "job")
    daemon.ctl("set", "job", "--no-every")
    daemon.ask(wire.RestartRequest, "job")
    trains(daemon, run, 3)

    assert (0, 0) == (begun.code, changed.code), begun.err + changed.err
    assert "running" == newer.state
    assert "\n  saves every  1.0 s\n" in shown.out
    assert "\n  saves every  1h 30m\n" in later.out
    assert ("5400.0", None) == (second, told(run, EVERY))
    assert "saves every" not in daemon.ctl("show", "job").out
