"""What a script draws between attach() and its loop is the same after a restart, and so is all that follows.

Covers: the global generators there, for each way to write a loop, paused in each step.
Does not cover: what is drawn inside the loop (test_pauses.py), loaders (test_loader_scenes.py).
"""

from __future__ import annotations

import signal
import subprocess
from functools import cache

import pytest

from tests.harness import GUARD_S, PYTHON, ROOT

SCRIPT = """
import os, random, sys, numpy, trainer_shim

how, term_at = sys.argv[1], int(sys.argv[2])
random.seed(1); numpy.random.seed(1)

class Part:
    values = [0.0]
    def state_dict(self): return {"values": self.values}
    def load_state_dict(self, state): self.values = list(state["values"])

part = Part()
shim = trainer_shim.attach(part=part)
if how != "own":
    # Data that the script makes, a split, the order of its one pass.
    data = [random.gauss(0, 1) for _ in range(6)]
    random.shuffle(data)
    scale = numpy.random.rand()

def step(number):
    noise = random.random() + numpy.random.rand()
    part.values.append(part.values[-1] * 0.5 + number + noise)
    if shim.step + 1 == term_at:
        os.kill(os.getpid(), 15)

if how == "epochs":
    for _ in shim.epochs(2):
        for number in shim.batches(data):
            step(number * scale)
elif how == "batches":
    for _ in range(2):
        for number in shim.batches(data):
            step(number * scale)
elif how == "plain":
    for epoch in shim.epochs(12):
        step(data[epoch % 6] * scale)
else:
    while shim.step < 12:
        step(random.random())
        shim.boundary()
print(repr(part.values), random.random(), numpy.random.rand())
"""


def start(folder, how, term_at):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [PYTHON, "-c", SCRIPT, how, str(term_at)], env=environment, cwd=folder, capture_output=True,
        text=True, timeout=GUARD_S, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def never_paused(tmp_path_factory):
    """What each kind of loop prints in one go."""
    return cache(lambda how: start(tmp_path_factory.mktemp(how), how, 0).stdout)


@pytest.mark.parametrize(
    ("how", "term_at"),
    [("epochs", 1), ("epochs", 6), ("epochs", 8), ("epochs", 12), ("batches", 6), ("batches", 9), ("own", 5)],
)
def test_a_restarted_run_has_the_data_that_it_drew_before_its_loop(tmp_path, never_paused, how, term_at):
    """
    It was drawn from the generators as the script begins with them; the loop goes on with those of the pause.
    """
    paused = start(tmp_path, how, term_at)
    again = start(tmp_path, how, 0)

    assert 128 + signal.SIGTERM == paused.returncode, paused.stderr
    assert "going on from step" in again.stderr
    assert never_paused(how) == again.stdout, again.stderr


def test_it_is_so_for_epochs_without_batches_too(tmp_path, never_paused):
    """
    Each turn of epochs() is a boundary, and the next one is where the loop goes on; that has no steps.
    """
    first = start(tmp_path, "plain", 1)

    assert 128 + signal.SIGTERM == first.returncode
    assert never_paused("plain") == start(tmp_path, "plain", 0).stdout
