"""Jobs that cannot start, cannot pause, cannot save or cannot read what they saved.

Covers: each is shown as what it is, with a hint, and training that can go on
goes on. A real daemon with real processes.
Does not cover: jobs that are killed (tests/crash/).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess

import pytest

from supervisor import api
from tests.harness import CHAIN, CONFIG, Denied, RunningDaemon

QUICK = CONFIG + "[jobs]\nstart_grace_s = 1.5\npause_deadline_s = 0.4\nkill_grace_s = 1\n"


@pytest.fixture(scope="module")
def daemon():
    """One for all jobs of this file; it soon gives up waiting for a shim."""
    with RunningDaemon(QUICK) as running:
        yield running


def pause_fails(daemon, job, kind=api.PauseRequest):
    """Ask for it and return the row that says why it did not come to it."""
    daemon.ask(kind, job)
    return daemon.until(job, lambda row: row.state == "running" and row.problem)


def goes_on(daemon, job):
    """It makes steps after this moment."""
    before = daemon.row(job).step
    return daemon.until(job, lambda row: row.state == "running" and row.step > before + 5)


class TestWithoutShim:
    """A script that never calls the shim."""

    def test_it_runs_and_is_shown_as_not_pausable(self, daemon):
        """
        Until the time for a shim is over it may still come; then `pause` is
        refused, and the hint says what to add and what works without.
        """
        run = daemon.train("plain", wait=False, CHAIN_SHIM="no", steps=2000)
        daemon.until("plain", lambda row: row.pid)
        early = daemon.row("plain")
        row = daemon.until("plain", lambda row: row.pausable is False)
        with pytest.raises(Denied, match="no training shim has connected, so it is not pausable") as refused:
            daemon.pause("plain")
        said = daemon.ctl("pause", "plain")

        assert ("starting", None) == (early.state, early.pausable)
        assert "running" == row.state
        assert "trainer_shim.attach" in refused.value.hint
        assert "supervisorctl stop plain" in refused.value.hint
        assert 3 == said.code
        assert 1 == len(run.starts)

    def test_a_pause_that_waited_for_its_shim_is_given_up(self, daemon):
        """
        Asked while it starts, the pause waits for the shim; when none comes the
        job runs on, and says why.
        """
        daemon.train("hopeful", wait=False, CHAIN_SHIM="no", steps=2000)
        (said,) = daemon.ask(api.PauseRequest, "hopeful")
        waiting, answer = daemon.row("hopeful"), str(daemon.client.why("hopeful"))
        row = daemon.until("hopeful", "running")
        called_off = re.compile(r"without one the pause is called off in \d+ s, and it runs on")

        assert "pausing" == waiting.state
        assert waiting.stage.startswith("waiting for the training shim to connect; without one")
        assert all(map(called_off.search, (said.detail, waiting.stage, answer))), (said, answer)
        assert "batch boundary" not in answer
        assert "cannot pause: no training shim has connected" == row.problem

    def test_a_checkpoint_is_refused(self, daemon):
        """
        There is nobody who could write one.
        """
        daemon.train("no-saves", wait=False, CHAIN_SHIM="no", steps=2000)
        daemon.until("no-saves", "running")
        with pytest.raises(Denied, match="no training shim has connected"):
            daemon.ask(api.CheckpointRequest, "no-saves")

    def test_a_shim_that_comes_late_makes_it_pausable(self, daemon):
        """
        Loading the data may take longer than the time for a shim.
        """
        run = daemon.train("late", wait=False, hold=("attach",))
        daemon.until("late", lambda row: row.pausable is False)
        run.let_go("attach")
        daemon.until("late", lambda row: row.pausable)
        daemon.pause("late")

        assert "paused" == daemon.until("late", "paused").state


class TestCannotStart:
    """Commands that come to nothing fail in words, once."""

    @pytest.mark.parametrize(
        ("name", "argv", "told"),
        [
            ("missing", ("no-such-program",), "no such command `no-such-program`"),
            ("folder", ("/tmp",), "is a folder"),
            ("data", ("./data",), "is not executable"),
            ("empty", ("",), "the command is empty"),
        ],
    )
    def test_a_command_that_does_not_exist(self, daemon, name, argv, told):
        """
        The command line looks before it asks; whoever asks without it is told by the job.
        """
        (daemon.work / "data").touch()
        daemon.command(name, *argv)
        row = daemon.until(name, "failed")

        assert row.problem.startswith("cannot start: ")
        assert told in row.problem
        assert (None, None, None) == (row.exit_code, row.exit_signal, row.pid)

    def test_a_working_directory_that_is_gone(self, daemon):
        """
        It was there when the job was made and is not when it is restarted.
        """
        folder = daemon.home / "soon-gone"
        folder.mkdir()
        daemon.command("homeless", "true", cwd=str(folder))
        daemon.until("homeless", "completed")
        shutil.rmtree(folder)
        daemon.ask(api.RestartRequest, "homeless")
        row = daemon.until("homeless", "failed")

        assert "working directory" in row.problem
        assert "soon-gone`; make it" in row.problem

    def test_a_name_that_is_taken(self, daemon):
        """
        Exit code 3, and the job that has it is not touched.
        """
        daemon.command("mine", "true")
        with pytest.raises(Exception, match="`mine`") as refused:
            daemon.command("mine", "false")

        assert 3 == refused.value.exit_code
        assert "completed" == daemon.until("mine", "completed").state


def past_first_boundary(daemon, job):
    """
    What cannot be saved by then ends the job; what comes later does not.
    """
    daemon.until(job, lambda row: (row.step or 0) > 0)


class TestCannotSave:
    """Without a durable checkpoint nothing is given back."""

    def test_state_that_cannot_be_stored(self, daemon):
        """
        The job names the place in the state and trains on; when the state is
        fit again, so is the pause.
        """
        run = daemon.train("odd")
        past_first_boundary(daemon, "odd")
        (run.folder / "bad-state").touch()
        row = pause_fails(daemon, "odd")
        goes_on(daemon, "odd")
        daemon.ask(api.CheckpointRequest, "odd")
        saved = daemon.until("odd", lambda row: "cannot checkpoint" in row.problem)
        (run.folder / "bad-state").unlink()
        daemon.pause("odd")
        daemon.until("odd", "paused")

        assert "cannot pause: " in row.problem
        assert "parts.chain.hook: cannot store a function" in row.problem
        assert "parts.chain.hook: cannot store a function" in saved.problem
        assert 1 == len(run.starts)

    def test_a_stop_that_would_lose_work_does_not_stop(self, daemon):
        """
        `stop` promises a checkpoint; without one the job trains on, and `kill` insists.
        """
        run = daemon.train("stubborn")
        past_first_boundary(daemon, "stubborn")
        (run.folder / "bad-state").touch()
        row = pause_fails(daemon, "stubborn", api.StopRequest)
        goes_on(daemon, "stubborn")
        daemon.ask(api.KillRequest, "stubborn")

        assert row.problem.startswith("cannot stop: ")
        assert "stopped" == daemon.until("stubborn", "stopped").state

    def test_a_pause_to_exit_that_cannot_save_does_not_exit(self, daemon):
        """
        The process is still the same one afterwards.
        """
        run = daemon.train("stays")
        past_first_boundary(daemon, "stays")
        (run.folder / "bad-state").touch()
        daemon.pause("stays", depth="exit")
        row = daemon.until("stays", lambda row: row.problem)
        goes_on(daemon, "stays")

        assert "cannot pause: " in row.problem
        assert [daemon.row("stays").pid] == run.starts

    @pytest.mark.parametrize("scarce", ["bytes", "files"])
    def test_a_full_disk(self, daemon, scarce):
        """
        The older checkpoint stays, training goes on, and the pause says why;
        with room again it works. No room for another file counts as well.
        """
        job = f"full-{scarce}"
        folder = daemon.home / job
        folder.mkdir()
        mount_small_disk(folder)
        try:
            run = daemon.plan(job)
            daemon.command(job, *CHAIN, env=daemon.chain_env(run), checkpoints=str(folder / "c"))
            daemon.until(job, lambda row: row.state == "running" and row.pausable)
            daemon.ask(api.CheckpointRequest, job)
            before = daemon.until(job, lambda row: row.checkpoint_step is not None).checkpoint_step
            # A pause at the very step of that checkpoint would have nothing to write.
            daemon.until(job, lambda row: row.step > before)
            fill(folder / "filler", scarce)
            row = pause_fails(daemon, job)
            goes_on(daemon, job)
            kept = (folder / f"c/step-{before:09}/manifest.json").is_file()
            shutil.rmtree(folder / "filler")
            daemon.pause(job)
            after = daemon.until(job, "paused").checkpoint_step
            daemon.ask(api.KillRequest, job)
            daemon.until(job, "stopped")
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)

        assert "cannot pause: " in row.problem
        assert "full" in row.problem or "No space" in row.problem
        assert before == row.checkpoint_step
        assert kept
        assert after > before


def mount_small_disk(folder):
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,nr_inodes=40", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")


def fill(folder, scarce):
    """Leave no room for another byte, or for another file."""
    folder.mkdir()
    size = 1 << 20 if scarce == "bytes" else 0
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (folder / str(number)).write_bytes(bytes(size))


def test_a_checkpoint_with_a_flipped_byte_is_set_aside(daemon):
    """
    The one before is used, and the log of the job says both.
    """
    run = daemon.train("flipped", steps=400)
    steps = []
    for _ in range(2):
        daemon.ask(api.CheckpointRequest, "flipped")
        last = steps[-1] if steps else -1
        row = daemon.until("flipped", lambda row, last=last: (row.checkpoint_step or -1) > last)
        steps.append(row.checkpoint_step)
    daemon.ask(api.KillRequest, "flipped")
    daemon.until("flipped", "stopped")
    folder = daemon.work / "checkpoints/flipped"
    file = folder / f"step-{steps[1]:09}" / "rank-00000.json"
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    daemon.ask(api.RestartRequest, "flipped")
    daemon.until("flipped", "completed")
    log = daemon.job_log("flipped")

    assert f"attached at step {steps[0]}" in log
    assert f"step-{steps[1]:09}" in log
    assert "it is kept as `" in log
    assert 1 == len([path for path in folder.iterdir() if "damaged" in path.name])
    assert run.is_exact()


def test_a_stopped_process_is_shown_as_late_and_pauses_when_it_goes_on(daemon):
    """
    Somebody typed `kill -STOP`: the pause passes its deadline and says how
    long there was no boundary; after `kill -CONT` it is reached.
    """
    run = daemon.train("frozen")
    os.kill(run.starts[0], signal.SIGSTOP)
    daemon.pause("frozen")
    row = daemon.until("frozen", lambda row: row.late)
    shown = daemon.ctl("status", "frozen").out
    os.kill(run.starts[0], signal.SIGCONT)
    after = daemon.until("frozen", "paused")

    assert "pausing" == row.state
    assert "no batch boundary for" in shown
    assert not after.late
