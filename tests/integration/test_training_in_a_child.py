"""A training in a process that multiprocessing made, whose parent waits for it.

Covers: what the daemon knows of it at its end, a pause by exit.
Does not cover: several such processes at once, of which the daemon supervises one.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness import CONFIG, PYTHON, ROOT, RunningDaemon

SCRIPT = str(ROOT / "tests/trainers/in_child.py")
NUM_STEPS = 60
#: Whoever is not told the last words is not told of the last steps at all.
SELDOM = CONFIG.replace("heartbeat_s = 0.2", "heartbeat_s = 10")


@pytest.fixture(scope="module")
def daemon():
    """One for all of this file."""
    with RunningDaemon(SELDOM) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("fork", "returns"),
        ("spawn", "returns"),
        ("forkserver", "returns"),
        ("mp.spawn", "returns"),
        ("fork", "exits"),
        ("spawn", "exits"),
        ("fork", "raises"),
    ],
)
def test_a_completed_job_is_at_its_last_step(daemon, method, end):
    """
    Such a process ends without what Python does at the end of others.
    """
    name = f"{method}-{end}"
    run = daemon.train(name, steps=NUM_STEPS, argv=(PYTHON, SCRIPT, method, end))
    row = daemon.until(name, "completed")

    assert (NUM_STEPS, NUM_STEPS) == (row.step, row.num_steps), daemon.job_log(name)
    assert run.is_exact()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_is_paused_by_exit_and_goes_on(daemon, method):
    """
    Its parent knows nothing of pauses and ends well; the receipt tells what it was.
    """
    name = f"paused-{method}"
    run = daemon.train(name, steps=NUM_STEPS, hold=("step-20",), argv=(PYTHON, SCRIPT, method, "returns"))
    run.until_at("step-20")
    daemon.pause(name, depth="exit")
    daemon.until_told(name)
    run.let_go("step-20")
    row = daemon.until(name, lambda row: row.state == "paused" and row.pid is None)
    daemon.resume(name)
    done = daemon.until(name, "completed")

    assert ("exit", 21) == (row.depth, row.checkpoint_step)
    assert NUM_STEPS == done.step
    assert run.is_exact()


def test_a_session_loads_nothing_of_multiprocessing(tmp_path):
    """
    Only a process that it made has it, and there it is loaded already.
    """
    script = "import sys, trainer_shim; trainer_shim.attach(checkpoints=sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    assert "trainer_shim.process_end" in loaded
    assert "multiprocessing.util" not in loaded
