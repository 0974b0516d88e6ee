"""A training run without torch: every step folds a random number into a digest.

Two runs end with the same digest only if no step was lost, done twice or done
with another random number. The test steers it through files in $CHAIN:
while `hold-PLACE` is there it waits at PLACE and shows `at-PLACE`. Places:
`attach`, `step`, `step-N` (before it counts step N), `save` (inside
state_dict), `exit`. With `bad-state` its state cannot be stored.

Run it with CHAIN_SHIM=no for a script that never calls the shim. CHAIN_RESTART=yes: it says how it is
started again; CHAIN_ADOPT=no: it wants no daemon that did not start it.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import os
import random
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("CHAIN", "."))
NUM_EPOCHS = int(os.environ.get("CHAIN_EPOCHS", "1"))
NUM_STEPS = int(os.environ.get("CHAIN_STEPS", "100000"))
STEP_S = float(os.environ.get("CHAIN_STEP_S", "0.005"))


class NoTorch(importlib.abc.MetaPathFinder):
    """Makes this process one in which torch and numpy are not installed."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in ("torch", "numpy"):
            raise ModuleNotFoundError(f"no module named {fullname!r} here", name=fullname)


def wait_at(place: str) -> None:
    gate, mark = FOLDER / f"hold-{place}", FOLDER / f"at-{place}"
    if not gate.exists():
        return
    mark.touch()
    while gate.exists():
        time.sleep(0.005)
    mark.unlink()


#: The shim looks twice at what will be saved when it is attached, and once at the first boundary.
NUM_LOOKS = 3


class Chain:
    """All the state there is."""

    def __init__(self):
        self.digest = "beginning"
        self.num_steps = 0
        self.num_asked = 0

    def step(self):
        wait_at("step")
        wait_at(f"step-{self.num_steps}")
        self.digest = hashlib.sha256(f"{self.digest} {random.random()}".encode()).hexdigest()
        self.num_steps += 1

    def state_dict(self):
        self.num_asked += 1
        if self.num_asked > NUM_LOOKS:
            wait_at("save")
        state = {"digest": self.digest, "num_steps": self.num_steps}
        return {**state, "hook": lambda: None} if (FOLDER / "bad-state").exists() else state

    def load_state_dict(self, state):
        self.digest, self.num_steps = state["digest"], state["num_steps"]


def expected(num_steps: int) -> str:
    """What the digest is after that many steps, however often the run was paused."""
    drawn, digest = random.Random(7), "beginning"
    for _ in range(num_steps):
        digest = hashlib.sha256(f"{digest} {drawn.random()}".encode()).hexdigest()
    return digest


def main() -> int:
    sys.meta_path.insert(0, NoTorch())
    with (FOLDER / "starts").open("a") as starts:
        starts.write(f"{os.getpid()} {os.environ.get('TRAINING_SUPERVISOR_INCARNATION', '0')}\n")
    wait_at("attach")
    random.seed(7)
    chain = Chain()
    if os.environ.get("CHAIN_SHIM") == "no":
        print("no shim here", flush=True)
        for _ in range(NUM_STEPS):
            chain.step()
            time.sleep(STEP_S)
    else:
        train(chain)
    wait_at("exit")
    (FOLDER / "result").write_text(chain.digest)
    print("done", flush=True)
    return int(os.environ.get("CHAIN_EXIT", "0"))


def train(chain: Chain) -> None:
    import trainer_shim  # noqa: PLC0415  # The script without a shim does not import it.

    again = [sys.executable, *sys.argv] if os.environ.get("CHAIN_RESTART") == "yes" else []
    shim = trainer_shim.attach(chain=chain, adopt=os.environ.get("CHAIN_ADOPT") != "no", restart=again)
    print(f"attached at step {shim.step}", flush=True)
    try:
        for _ in shim.epochs(NUM_EPOCHS):
            for _ in shim.batches(list(range(NUM_STEPS // NUM_EPOCHS))):
                chain.step()
                shim.report(count=chain.num_steps)
                time.sleep(STEP_S)
    except SystemExit:
        wait_at("exit")
        raise


if __name__ == "__main__":
    sys.exit(main())
