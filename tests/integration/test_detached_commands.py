"""A command that detaches its training (`sh -c 'train &'`) is followed as if it had not.

Covers: state, pause, stop and the true end of what goes on in its place, whoever is killed.
Does not cover: leftovers without a training shim (test_job_groups.py).
"""

from __future__ import annotations

import os
import signal

import pytest

from supervisor import api
from supervisor.launcher import records
from supervisor.system.procfs import read_stat
from tests.harness import CHAIN, CONFIG, RunningDaemon, until

#: How people detach a command; the last one is a script around it, whose exit code is the job's.
WAYS = {
    "in the background": '"$@" &',
    "in a session of its own": 'setsid "$@" &',
    "twice": '(nohup setsid sh -c \'"$@"; exit $?\' sh "$@" &) > /dev/null',
}


@pytest.fixture(scope="module")
def daemon():
    with RunningDaemon(CONFIG + "[jobs]\nstart_grace_s = 30\n") as running:
        yield running


def detached(daemon, name, way="in the background", *, then="", **fields):
    """Start a run whose command ends at once; returns it when its first process is gone."""
    script = f"{WAYS[way]}\necho $$ > {name}.first{then}"
    run = daemon.train(name, argv=("sh", "-c", script, "sh", *CHAIN), **fields)
    first = int((daemon.work / f"{name}.first").read_text())
    until(lambda: read_stat(first) is None, "the end of the command")
    daemon.until(name, lambda row: row.pid not in (None, first))
    return run


def run_dir(daemon, name, number=1):
    return daemon.paths.incarnation_dir(name, number)


@pytest.mark.parametrize("way", WAYS)
def test_a_training_that_its_command_detached_is_paused_resumed_and_completed(daemon, way):
    """
    It runs while its shim lives, yields, and is over when it has ended, with nothing lost.
    """
    name = way.replace(" ", "-")
    run = detached(daemon, name, way, steps=300, hold=("step-100", "step-200"))
    run.until_at("step-100")
    daemon.pause(name, depth="hold")
    run.passed("step-100")
    daemon.until(name, "paused")
    daemon.resume(name)
    run.until_at("step-200")
    state = daemon.row(name).state
    run.passed("step-200")
    row = daemon.until(name, "completed")

    assert "running" == state
    assert run.is_exact()
    assert (0, 1) == (row.exit_code, len(run.starts))


def test_a_pause_to_exit_is_reached_when_the_training_is_gone_and_resume_detaches_it_again(daemon):
    """
    The exit code 75 is that of the training, which the keeper saw.
    """
    run = detached(daemon, "exits", "in a session of its own", steps=300, hold=("step-200",))
    run.until_at("step-200")
    daemon.pause("exits", depth="exit")
    run.passed("step-200")
    paused = daemon.until("exits", "paused")
    daemon.resume("exits")
    daemon.until("exits", "completed")

    assert 75 == paused.exit_code
    assert run.is_exact()
    assert 2 == len(run.starts)


@pytest.mark.parametrize("killed", ["nobody", "daemon", "keeper"])
def test_a_detached_training_that_is_killed_has_failed(daemon, killed):
    """
    Its true end is told, whoever saw it: the keeper, also while no daemon is there, or the daemon for it.
    """
    name = f"killed-{killed}"
    run = detached(daemon, name, steps=100_000)
    (pid,) = run.starts
    if killed == "daemon":
        daemon.kill()
    if killed == "keeper":
        os.kill(records.read_keeper(run_dir(daemon, name)).pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    if killed == "daemon":
        until((run_dir(daemon, name) / "heir-exit.json").exists)
        daemon.start()
    row = daemon.until(name, "failed")

    assert signal.SIGKILL == row.exit_signal


def test_a_daemon_that_was_killed_takes_a_detached_training_up_and_stops_it(daemon):
    """
    It is the same process, and no start is told anew.
    """
    run = detached(daemon, "taken-up", "in a session of its own")
    before = daemon.row("taken-up")
    daemon.restart()
    after = daemon.until("taken-up", lambda row: row.heartbeat_age_s is not None)
    num_starts = sum(event.kind == "process-started" for event in daemon.events("taken-up"))
    daemon.ask(api.StopRequest, "taken-up")
    row = daemon.until("taken-up", "stopped")

    assert ("running", before.pid) == (after.state, after.pid)
    assert 2 == num_starts
    assert row.checkpoint_step is not None
    assert 1 == len(run.starts)
