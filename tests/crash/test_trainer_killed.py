"""Trainers and keepers are killed; a wrapper hides how a trainer ended.

Covers: what the job's state is then, and that a resume or restart goes on from
the newest checkpoint and ends exactly.
Does not cover: a killed daemon (test_daemon_killed.py), a power cut inside a
commit (test_checkpoint_crash.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

import msgspec
import pytest

from supervisor import api
from supervisor.launcher.linux import adopt_orphans
from supervisor.system.procfs import read_stat
from tests.harness import CHAIN, PYTHON, RunningDaemon, is_running, until

NUM_STEPS = 60
PR_SET_CHILD_SUBREAPER = 36
#: The exit code of a pipe is that of its last command.
HIDING = ("sh", "-c", f"{PYTHON} {CHAIN[1]} | cat")


@pytest.fixture(scope="module")
def daemon():
    """One for all jobs of this file."""
    with RunningDaemon() as running:
        yield running


@pytest.fixture
def own_daemon():
    """One that may be killed."""
    with RunningDaemon() as running:
        yield running


@pytest.fixture
def job(request):
    """A name of the test's own."""
    return f"j{abs(hash(request.node.name)) % 10**8}"


def keeper_of(daemon, job, incarnation=1):
    claim = daemon.paths.incarnation_dir(job, incarnation) / "claim"
    return msgspec.json.decode(claim.read_bytes())["pid"]


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid), f"end of {pid}")


def without_keeper(daemon):
    """A run at step 20 whose keeper was killed while no daemon ran, and the number that the keeper had."""
    run = daemon.train("job", steps=NUM_STEPS, hold=("step-20",))
    run.until_at("step-20")
    keeper = keeper_of(daemon, "job")
    daemon.kill()
    kill(keeper)
    daemon.start()
    return run, keeper


def test_a_trainer_killed_while_it_trains_is_failed_and_can_be_restarted(daemon, job):
    """
    The signal shows; `restart` goes on from the newest checkpoint.
    """
    run = daemon.train(job, steps=NUM_STEPS, hold=("step-40",))
    daemon.ask(api.CheckpointRequest, job)
    saved = daemon.until(job, lambda row: row.checkpoint_step).checkpoint_step
    run.until_at("step-40")
    kill(run.starts[0])
    row = daemon.until(job, "failed")
    run.let_go("step-40")
    daemon.ask(api.RestartRequest, job)
    daemon.until(job, "completed")

    assert signal.SIGKILL == row.exit_signal
    assert "signal 9" in row.problem
    assert f"attached at step {saved}" in daemon.job_log(job)
    assert run.is_exact()


def test_a_trainer_killed_while_it_is_held_stays_paused(daemon, job):
    """
    The checkpoint was durable before it held, so the job is as paused as
    before, one depth further down; `resume` starts it again from there.
    """
    run = daemon.train(job, steps=NUM_STEPS)
    daemon.pause(job)
    saved = daemon.until(job, "paused").checkpoint_step
    kill(run.starts[0])
    row = daemon.until(job, lambda row: row.depth == "exit")
    daemon.resume(job)
    daemon.until(job, "completed")

    assert ("paused", saved) == (row.state, row.checkpoint_step)
    assert "the held process ended (killed by signal 9)" in row.problem
    assert 2 == len(run.starts)
    assert run.is_exact()


@pytest.mark.parametrize("depth", ["hold", "exit"])
def test_a_trainer_killed_while_it_saves_is_failed_and_loses_only_that_save(daemon, job, depth):
    """
    The pause is not reached, because nothing durable came of it; the
    checkpoint before is used.
    """
    job += depth
    run = daemon.train(job, steps=NUM_STEPS, hold=("step-20",))
    daemon.ask(api.CheckpointRequest, job)
    saved = daemon.until(job, lambda row: row.checkpoint_step).checkpoint_step
    run.until_at("step-20")
    run.block("save")
    daemon.pause(job, depth=depth)
    run.passed("step-20")
    run.until_at("save")
    kill(run.starts[0])
    row = daemon.until(job, "failed")
    run.let_go("save")
    daemon.ask(api.RestartRequest, job)
    daemon.until(job, "completed")

    assert (saved, signal.SIGKILL) == (row.checkpoint_step, row.exit_signal)
    assert run.is_exact()


def test_a_failed_job_that_may_restart_does_so_by_itself(daemon, job):
    """
    `run --restart on-failure`: it waits a little and goes on from its checkpoint.
    """
    file = daemon.paths.jobs_dir / f"{job}.toml"
    run = daemon.plan(job, steps=NUM_STEPS, hold=("step-30",))
    env = "\n".join(f'{name} = "{value}"' for name, value in daemon.chain_env(run).items())
    command = msgspec.json.encode(CHAIN).decode()
    policy = 'restart = "on-failure"\nrestart_delay_s = 0.3'
    file.write_text(f'command = {command}\ncwd = "{daemon.work}"\n{policy}\n[env]\n{env}\n')
    until(lambda: job in daemon.names(), "the job of the file")
    run.until_at("step-30")
    daemon.ask(api.CheckpointRequest, job)
    run.passed("step-30")
    daemon.until(job, lambda row: row.checkpoint_step)
    kill(run.starts[0])
    row = daemon.until(job, lambda row: row.state == "completed" or row.restart_in_s is not None)
    daemon.until(job, "completed")
    file.unlink()

    assert row.state in ("completed", "failed")
    assert 2 == len(run.starts)
    assert run.is_exact()


def test_a_killed_keeper_is_no_loss(daemon, job):
    """
    Its command trains on, can be paused and resumed, and its end is known.
    """
    run = daemon.train(job, steps=NUM_STEPS, hold=("step-20",), CHAIN_EXIT=5)
    run.until_at("step-20")
    kill(keeper_of(daemon, job))
    daemon.pause(job)
    run.let_go("step-20")
    daemon.until(job, "paused")
    daemon.resume(job)
    row = daemon.until(job, "failed")

    # This daemon is the foster parent of what it started, so it saw the status.
    assert 5 == row.exit_code
    assert run.is_exact()


def test_keeper_and_daemon_killed_together_are_no_loss_of_work(own_daemon):
    """
    Nobody is left who can see the exit status, and the job says so; the run
    itself went on to its end.
    """
    daemon = own_daemon
    run, _ = without_keeper(daemon)
    state = daemon.until("job", lambda row: row.pausable).state
    run.let_go("step-20")
    row = daemon.until("job", "failed")

    assert "running" == state
    assert "exit status unknown" in row.problem
    assert 1 == len(run.starts)
    assert run.is_exact()


@pytest.fixture
def orphans_stay():
    """Whoever loses its parent comes to us, and nobody reaps it before the test is over."""
    adopt_orphans()
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def test_a_dead_keeper_that_nobody_reaps_is_dead(orphans_stay, own_daemon):
    """
    In a container PID 1 may be a program that never waits for orphans.
    """
    daemon = own_daemon
    run, keeper = without_keeper(daemon)
    daemon.until("job", lambda row: row.pausable)
    run.let_go("step-20")
    row = daemon.until("job", "failed")

    assert "Z" == read_stat(keeper).state
    assert "exit status unknown" in row.problem


def test_a_wrapper_that_hides_the_exit_code_does_not_hide_the_pause(daemon, job):
    """
    `sh -c 'python train.py | cat'` ends with 0 whatever the trainer says; the
    job is paused all the same, and resumes.
    """
    run = daemon.train(job, steps=NUM_STEPS, argv=HIDING)
    daemon.pause(job, depth="exit")
    row = daemon.until(job, lambda row: row.state not in ("running", "pausing"))
    daemon.resume(job)
    daemon.until(job, "completed")

    assert ("paused", "exit", 0) == (row.state, row.depth, row.exit_code)
    assert 2 == len(run.starts)
    assert run.is_exact()


def test_a_wrapper_and_a_dead_daemon_together_do_not_hide_the_pause(own_daemon):
    """
    Nobody heard the trainer's last word and its exit code is hidden: what it
    left in writing is enough.
    """
    daemon = own_daemon
    run = daemon.train("job", steps=NUM_STEPS, argv=HIDING, hold=("step",))
    run.until_at("step")
    daemon.pause("job", depth="exit")
    daemon.until_told("job")
    daemon.kill()
    run.let_go("step")
    until((daemon.paths.incarnation_dir("job", 1) / "exit.json").exists, "the end of the wrapper")
    daemon.start()
    row = daemon.row("job")
    daemon.resume("job")
    daemon.until("job", "completed")

    assert ("paused", "exit") == (row.state, row.depth)
    assert row.checkpoint_step
    assert run.is_exact()


def test_a_program_that_says_75_without_a_shim_has_failed(daemon, job):
    """
    The exit code of a yielded trainer means nothing from one that was not asked.
    """
    daemon.command(job, sys.executable, "-c", "raise SystemExit(75)")
    row = daemon.until(job, lambda row: row.state in ("failed", "completed", "paused"))

    assert ("failed", 75) == (row.state, row.exit_code)


def test_a_keeper_that_somebody_stopped_is_woken_for_the_end_of_its_command(daemon, job):
    """
    The exit status is known, and `kill` reaches the job.
    """
    run = daemon.train(job, steps=NUM_STEPS, hold=("step-20",), CHAIN_EXIT=5)
    run.until_at("step-20")
    os.kill(keeper_of(daemon, job), signal.SIGSTOP)
    run.let_go("step-20")
    row = daemon.until(job, "failed")

    assert 5 == row.exit_code
