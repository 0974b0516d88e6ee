"""Depth `offload` with `[jobs] free_cuda_context` under a real daemon: freed, and back before all else.

Covers: the daemon's thread, its restart meanwhile, a context that does not come back, what people see.
Does not cover: a driver or a device: tests/fakes/driver stands for the package cuda-core; one that frees
nothing (tests/unit/core/jobs/test_jobs_cuda_context.py).
"""

from __future__ import annotations

import pytest

from tests.harness import PYTHON, ROOT, RunningDaemon, until
from tests.trainers import offloaded

CONFIG = (
    "[daemon]\nsample_s = 0.5\n[shim]\nheartbeat_s = 0.2\n[policy]\ndefault_rules = false\n"
    "[jobs]\nfree_cuda_context = true\ncuda_restore_limit_s = 1.0\n"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Where the driver keeps what it knows."""
    return tmp_path_factory.mktemp("driver")


@pytest.fixture(scope="module")
def daemon(driver):
    """One for all of this file, with a library of CUDA that asks that driver."""
    path = f"{ROOT}:{ROOT / 'tests/fakes/driver'}"
    with RunningDaemon(CONFIG, env={"PYTHONPATH": path, "CUDA_STAND_IN": str(driver)}) as running:
        yield running


@pytest.fixture(scope="module")
def expected():
    """The bits of a run that was never paused."""
    return offloaded.unpaused_digest()


def paused(daemon, name):
    """Return the folder of a run in a shell, paused at depth offload, and the process that trains."""
    folder = daemon.work / name
    folder.mkdir()
    (folder / "wait").touch()
    env = daemon.job_env(TRAINING_SUPERVISOR_OFFLOAD="cpu", OMP_NUM_THREADS=1, PYTHONPATH=ROOT)
    script = f"{PYTHON} {ROOT / 'tests/trainers/offloaded.py'} & echo $! > pid; wait $!"
    daemon.command(name, "sh", "-c", script, env=env, cwd=str(folder))
    until(lambda: "offload" in daemon.client.show(name).depths, lambda: daemon.job_log(name))
    daemon.pause(name, depth="offload")
    (folder / "wait").unlink()
    daemon.until(name, "paused")
    return folder, int((folder / "pid").read_text())


def test_a_context_is_freed_and_back_before_the_job_goes_on(daemon, driver, expected):
    """
    Of the process that trains, not of the shell around it; also when the daemon is killed meanwhile.
    The run ends with the bits of one that never paused.
    """
    folder, pid = paused(daemon, "freed")
    daemon.until("freed", lambda row: row.stage == "CUDA context freed")
    state = (driver / f"{pid}").read_text()
    daemon.restart()
    daemon.until("freed", lambda row: row.heartbeat_age_s is not None)
    status, why = daemon.ctl("status").out, daemon.ctl("why", "freed").out
    (folder / "wait").touch()
    daemon.resume("freed")
    back = daemon.until("freed", "running")
    again = (driver / f"{pid}").read_text()
    (folder / "wait").unlink()
    daemon.until("freed", "completed")
    digest, end_pid = (folder / "digest").read_text().split()

    assert ("checkpointed", "running") == (state, again)
    assert "CUDA context freed" in status
    assert "freed is paused (offload), CUDA context freed, since " in why
    assert "" == back.stage
    assert (expected, str(pid)) == (digest, end_pid)


def test_a_context_that_does_not_come_back_means_a_start_from_the_checkpoint(daemon, driver, expected):
    """
    What the driver says is shown; nothing of the training is lost.
    """
    folder, pid = paused(daemon, "stuck")
    daemon.until("stuck", lambda row: row.stage == "CUDA context freed")
    (driver / "restore").touch()
    daemon.resume("stuck")
    daemon.until("stuck", lambda row: row.incarnation == 2)
    (driver / "restore").unlink()
    daemon.until("stuck", "completed")
    digest, end_pid = (folder / "digest").read_text().split()
    told = [event.detail for event in daemon.events("stuck") if event.kind == "context-moved"]

    assert expected == digest
    assert str(pid) != end_pid
    assert "freed" == told[0]
