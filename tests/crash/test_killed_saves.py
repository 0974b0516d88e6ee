"""A trainer is killed in the middle of its saves, at random moments, again and again.

Covers: saves at a boundary and in the background, retention, overwriting, linking, restarts.
Does not cover: a job under the daemon (test_trainer_killed.py).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest


def kill_again_and_again(folder, *, at_most, for_s):
    """What was seen; the seed of a run that went wrong is in the answer."""
    seed = random.randrange(1 << 30)
    command = [sys.executable, "-m", "tests.trainers.killed_saver", folder, seed, at_most, for_s]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    return json.loads(done.stdout) | {"seed": seed}


def test_a_kill_at_any_moment_loses_nothing_that_was_reported(tmp_path):
    """
    After kill -9 the newest checkpoint is complete, and at least as new as the
    last one that was reported durable; nothing else is left.
    """
    seen = kill_again_and_again(tmp_path / "ckpt", at_most=40, for_s=6)

    assert [] == seen["wrong"], seen
    assert seen["num_kills"] >= 5
    assert seen["durable"] >= 1


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_thousands_of_kills_lose_nothing_that_was_reported(tmp_path, capsys):
    """
    The same for SOAK_S seconds (default 600), and says how many it were.
    """
    for_s = float(os.environ.get("SOAK_S", "600"))
    seen = kill_again_and_again(tmp_path / "ckpt", at_most=1_000_000, for_s=for_s)
    with capsys.disabled():
        print(
            f"\n{seen['num_kills']} kills in {for_s:.0f} s, up to step {seen['durable']}, seed {seen['seed']}"
        )

    assert [] == seen["wrong"], seen
    assert seen["num_kills"] >= 5
