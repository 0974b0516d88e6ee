"""A cross-validation: three trainings one after the other in one process, each with weights of its own.

`python folds.py HOW [STEP]` sends SIGTERM to itself in that step, counted over all trainings of the process,
and prints a digest of all weights. HOW is how a fold trains: `epochs`; `saves`, the same with checkpoints in
the background and at its end, and no detach(); `loop`, a loop of its own; `bare`, the same without detach();
`kept`, that with a checkpoint at its end; `shared`, all in one folder that the script names; `apart`, each in
one of its own; `plain`, without the shim.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time

import trainer_shim

NUM_EPOCHS, NUM_BATCHES = 2, 5
STEP_S = float(os.environ.get("CHAIN_STEP_S", "0"))

num_steps = 0
how, term_at = sys.argv[1], int((*sys.argv[2:3], "0")[0])


class Weights:
    """Begins with a random number, as a model does, and folds more into it."""

    def __init__(self) -> None:
        self.values = [random.random()]

    def state_dict(self) -> dict[str, list[float]]:
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self.values = list(state["values"])

    def step(self, number: float) -> None:
        global num_steps  # noqa: PLW0603  # Of the process, whatever it trains.
        self.values.append(self.values[-1] * number + random.random())
        num_steps += 1
        if num_steps == term_at:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STEP_S)


def train(fold: int) -> Weights:
    weights = Weights()
    if how == "plain":
        for _ in range(NUM_EPOCHS):
            for number in range(NUM_BATCHES):
                weights.step(number)
        return weights
    folder = {"shared": "mine", "apart": f"mine/{fold}"}.get(how)
    shim = trainer_shim.attach(checkpoints=folder, every_steps=3 if how == "saves" else None, weights=weights)
    print(f"fold {fold} begins at step {shim.step}", flush=True)
    if how in ("loop", "bare", "kept"):
        while shim.step < NUM_EPOCHS * NUM_BATCHES:
            weights.step(shim.step % NUM_BATCHES)
            shim.boundary()
    else:
        for _ in shim.epochs(NUM_EPOCHS):
            for number in shim.batches(list(range(NUM_BATCHES))):
                weights.step(number)
    if how in ("saves", "kept"):
        shim.checkpoint()
    if how not in ("saves", "bare", "kept"):
        shim.detach()
    return weights


def main() -> None:
    random.seed(3)
    folds = [train(fold).values for fold in range(3)]
    print("RESULT", hashlib.sha256(repr(folds).encode()).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
