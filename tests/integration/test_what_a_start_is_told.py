"""What the daemon tells a start of a command in its environment, and what comes of it.

Covers: how often it is to save, from the command line, `set` and a job's file; whether it goes on where
an earlier start was, also through crashes of the daemon.
Does not cover: saving in the background itself (test_periodic.py).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from supervisor import api
from tests.harness import CHAIN, RunningDaemon

EVERY, GOES_ON = "TRAINING_SUPERVISOR_EVERY_S", "TRAINING_SUPERVISOR_GOES_ON"


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
    daemon.ask(api.RestartRequest, "job")
    trains(daemon, run, 2)
    second, later = told(run, EVERY), daemon.ctl("show", "job")
    daemon.ctl("set", "job", "--no-every")
    daemon.ask(api.RestartRequest, "job")
    trains(daemon, run, 3)

    assert (0, 0) == (begun.code, changed.code), begun.err + changed.err
    assert "running" == newer.state
    assert "\n  saves every  1.0 s\n" in shown.out
    assert "\n  saves every  1h 30m\n" in later.out
    assert ("5400.0", None) == (second, told(run, EVERY))
    assert "saves every" not in daemon.ctl("show", "job").out


def test_a_start_is_told_that_it_goes_on_but_not_where_a_person_wants_it_anew(daemon):
    """
    After a crash and after a pause that ended it, whatever became of the daemon in between; not the
    first time, and not by `restart`. A job's file has no say in it, and says how often to save.
    """
    run = daemon.plan("job")
    lines = {**daemon.chain_env(run), GOES_ON: "1"}
    env = "\n".join(f'{name} = "{value}"' for name, value in lines.items())
    command = msgspec.json.encode(CHAIN).decode()
    policy = 'every = "2h"\nrestart = "on-failure"\nrestart_delay_s = 1.5'
    file = daemon.paths.jobs_dir / "job.toml"
    file.write_text(f'command = {command}\ncwd = "{daemon.work}"\n{policy}\n[env]\n{env}\n')
    daemon.ctl("reload")
    trains(daemon, run, 1)
    seen = [told(run, GOES_ON)]
    os.kill(run.starts[-1], signal.SIGKILL)
    daemon.until("job", lambda row: row.restart_in_s is not None)
    daemon.restart()
    trains(daemon, run, 2)
    seen.append(told(run, GOES_ON))
    daemon.pause("job", depth="exit")
    daemon.until("job", "paused")
    daemon.restart()
    daemon.resume("job")
    trains(daemon, run, 3)
    seen.append(told(run, GOES_ON))
    daemon.ask(api.RestartRequest, "job")
    trains(daemon, run, 4)
    seen.append(told(run, GOES_ON))

    assert [None, "1", "1", None] == seen
    assert "7200.0" == told(run, EVERY)
