"""However often a training run is paused, it ends with the bits of one that never was.

Covers: the whole session on real torch training: random pause points, all
depths, checkpoints in between, signals, workers, accumulation, fresh
processes.
Does not cover: kinds of loaders (test_loader_scenes.py), the daemon
(tests/crash), values that are hard to store (tests/property).
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import tempfile
import weakref
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import trainer_shim
from tests.fakes.session_parts import gives_back, listens
from tests.harness import GUARD_S, PYTHON, ROOT
from tests.trainers import torch_small
from tests.trainers.torch_small import Training
from trainer_shim import protocol as wire
from trainer_shim.gate import LeaveBySignal

NUM_EPOCHS = 3
BATCHES = NUM_EPOCHS * torch_small.NUM_ITEMS // torch_small.BATCH
ENDS = ("exit", "stop", "signal")
PLANS = st.lists(
    st.tuples(
        st.integers(0, BATCHES - 1), st.sampled_from(["hold", "offload", "deeper", "checkpoint", *ENDS])
    ),
    max_size=5,
)
SCENES = pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (0, 4), (2, 1), (2, 2)])


class Resumer:
    """A daemon that resumes a held loop at once. It stands where the link is."""

    def __init__(self, shim):
        self._gate = shim._gate
        self.said = []

    def send(self, message):
        assert not isinstance(message, wire.CannotYield), message
        self.said.append(message)
        if not isinstance(message, wire.Yielded) or message.depth == "exit":
            return
        if message.depth == "hold" and message.request.startswith("deeper"):
            self._gate.put(wire.Pause(request=message.request, depth="offload"))
        else:
            self._gate.put(wire.Resume(request=message.request))

    def close(self, *, wait_s):
        pass


def command(kind, number):
    match kind:
        case "checkpoint":
            return wire.Checkpoint(request=f"r{number}")
        case "deeper":
            return wire.Pause(request=f"deeper{number}", depth="hold")
        case "stop":
            return wire.Stop(request=f"r{number}")
        case "signal":
            return LeaveBySignal(signal.SIGTERM)
        case _:
            return wire.Pause(request=f"r{number}", depth=kind)


@cache
def never_paused(workers, accumulate):
    """The bits of a run that knows of no shim."""
    training = Training(workers, accumulate)
    for _ in range(NUM_EPOCHS):
        for batch in training.loader:
            training.step(batch)
    return training.digest()


def one_process(folder, plan, workers, accumulate):
    """Train until the end, which returns the digest, or until something ends the process: None."""
    # What a fresh process would find, is not what the one before left.
    torch.manual_seed(random.randrange(10**6))
    training = Training(workers, accumulate)
    shim = trainer_shim.attach(checkpoints=folder, **training.parts())
    listens(shim, Resumer(shim))
    # The whole way of `offload`, on a machine that has no device.
    gives_back(shim)
    try:
        for _ in shim.epochs(NUM_EPOCHS):
            for batch in shim.batches(training.loader, accumulate=accumulate):
                while plan and plan[0][0] <= training.num_batches:
                    shim._gate.put(command(plan.pop(0)[1], len(plan)))
                training.step(batch)
    except SystemExit:
        return None
    finally:
        shim.detach()
    return training.digest()


def paused(plan, workers, accumulate):
    """Return the digest of a run with these pauses, and how many processes it took."""
    folder = Path(tempfile.mkdtemp(prefix="ts-"))
    left = sorted(plan)
    try:
        for count in range(1, len(plan) + 2):
            digest = one_process(folder, left, workers, accumulate)
            if digest is not None:
                return digest, count
    finally:
        shutil.rmtree(folder)
    raise AssertionError(f"it ends again and again: {plan}")


@SCENES
def test_the_shim_itself_changes_nothing(workers, accumulate):
    """
    A run with the two added lines has the bits of one without them.
    """
    assert (never_paused(workers, accumulate), 1) == paused([], workers, accumulate)


@pytest.mark.timeout(300)
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLANS, accumulate=st.sampled_from([1, 2, 4]))
@example(plan=[(0, "exit")], accumulate=1)
@example(plan=[(5, "exit"), (6, "exit")], accumulate=1)
@example(plan=[(17, "exit")], accumulate=4)
@example(plan=[(3, "hold"), (3, "checkpoint"), (3, "exit")], accumulate=2)
@example(plan=[(2, "offload"), (5, "deeper"), (6, "checkpoint"), (7, "offload")], accumulate=1)
@example(plan=[(3, "offload"), (5, "offload")], accumulate=4)
def test_a_paused_run_ends_with_the_same_bits(plan, accumulate):
    """
    Anywhere, as often as you like, at any depth.
    """
    digest, _ = paused(plan, 0, accumulate)

    assert never_paused(0, accumulate) == digest


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=PLANS, accumulate=st.sampled_from([1, 2]))
def test_a_paused_run_with_workers_ends_with_the_same_bits(plan, accumulate):
    """
    Two workers draw their own random numbers and are ahead of the loop; what
    they had prepared is made again, as it was.
    """
    digest, _ = paused(plan, 2, accumulate)

    assert never_paused(2, accumulate) == digest


@pytest.mark.parametrize("kind", ENDS)
def test_each_end_ends_the_process_once(kind):
    """
    A pause to exit, a stop and a signal end it at the boundary and nowhere else.
    """
    assert (never_paused(0, 1), 3) == paused([(4, kind), (9, kind)], 0, 1)


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 4), (2, 2)])
def test_a_fresh_process_goes_on_with_the_same_bits(tmp_path, workers, accumulate):
    """
    Nothing that matters was left in the memory of the process that ended.
    """
    ended = one_process(tmp_path / "checkpoints", [(7, "exit")], workers, accumulate)
    done = subprocess.run(
        [PYTHON, torch_small.__file__, *map(str, (workers, accumulate, NUM_EPOCHS))],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=GUARD_S * 2,
        check=False,
    )

    assert ended is None
    assert 0 == done.returncode, done.stderr
    assert "going on from step" in done.stderr
    assert never_paused(workers, accumulate) == done.stdout.split()[-1]


def test_a_session_that_is_over_is_forgotten(tmp_path):
    """
    A notebook that attaches again and again does not keep every model it had.
    """
    training = Training(0, 1)
    shim = trainer_shim.attach(checkpoints=tmp_path, **training.parts())
    shim.detach()
    model = weakref.ref(training.model)
    del training, shim
    gc.collect()

    assert model() is None


def test_what_is_compared_depends_on_the_random_numbers():
    """
    A run whose generators are not restored would not end with the same bits.
    """
    training = Training(0, 1)
    torch.manual_seed(6)
    for _ in range(NUM_EPOCHS):
        for batch in training.loader:
            training.step(batch)

    assert never_paused(0, 1) != training.digest()
