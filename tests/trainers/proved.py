"""A training without torch, with one flaw to be found: `python proved.py FLAW`; no flaw is called `none`."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import trainer_shim

flaw = sys.argv[1]


class Part:
    """Plain values with a state."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def state_dict(self) -> dict[str, Any]:
        hook = {"hook": object()} if flaw == "no state" and getattr(self, "num", 0) > 1 else {}
        return dict(vars(self)) | hook

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Forgetful(Part):
    """Does not take over all that it gave."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


class Data:
    """Six numbers a pass, changed by how many passes there were, which nobody can see."""

    def __iter__(self) -> Iterator[float]:
        passes = int(os.environ.get("PASSES", "0")) + (flaw == "hidden data")
        os.environ["PASSES"] = str(passes)
        return (number / 7 + passes for number in range(6))


def lag(shim: Any, model: Part) -> None:
    """A loop that gets its data by itself, from an iterator of its own."""
    numbers = iter(range(18))
    while shim.step < 18:
        loss = (next(numbers) * model.weight - random.random()) ** 2
        model.weight -= 0.001 * loss
        shim.report(loss=loss)
        shim.boundary()


def carry(shim: Any, model: Part) -> None:
    """A loop that carries the worst loss on, which may hardly matter."""
    worst = 0.0
    for _ in shim.epochs(3):
        for number in shim.batches(range(6)):
            loss = (number * model.weight - random.random()) ** 2
            if flaw == "worst" or worst > 1e6:
                loss += max(worst, loss) / 10
            worst = max(worst, loss)
            model.weight -= 0.01 * loss
            shim.report(loss=loss)


def wait() -> None:
    """Start a worker, say who runs, and train for ever."""
    worker = subprocess.Popen(["sleep", "600"])
    with open("pids.new", "w") as file:  # noqa: PTH123
        print(os.getpid(), worker.pid, file=file)
    os.rename("pids.new", "pids")  # noqa: PTH104
    worker.wait()


def main() -> None:  # noqa: C901, PLR0912  # A flaw is a line where a script would have it.
    if flaw != "no seed":
        random.seed(3)
    if flaw == "no attach":
        return
    if flaw == "fails":
        raise SystemExit("proved.py: no such data set")
    own = random.Random(4)
    data = Data()
    model = Part(weight=0.5)
    average = (Forgetful if flaw == "forgets" else Part)(mean=0.0, num=0)
    shim = trainer_shim.attach(checkpoints="mine", model=model, average=average)
    if flaw == "dies when paused" and shim.step:
        raise SystemExit("proved.py: the log of this run is there already")
    if flaw == "attaches twice":
        trainer_shim.attach(model=model)
    if flaw == "own iterator":
        lag(shim, model)
        return
    if flaw in ("worst", "hardly"):
        carry(shim, model)
        return
    if flaw == "no end":
        wait()
    for epoch in shim.epochs(0 if flaw == "no step" else 3):
        # What a resumed epoch reports again is no difference.
        if flaw != "no report":
            shim.report(epoch=epoch)
        for number in shim.batches(data):
            loss = (number * model.weight - random.random()) ** 2
            if flaw == "own generator":
                loss += own.random()
            if flaw == "time":
                loss += time.time_ns() % 1_000_000_000 / 1_000_000
            if flaw == "clock":
                average.seconds = time.perf_counter()
            average.num += 1
            average.mean += (loss - average.mean) / average.num
            model.weight -= 0.01 * average.mean
            if flaw != "no report":
                shim.report(loss=loss)
        if flaw != "no report":
            shim.report(weight=model.weight)
    print("TRAINING_SUPERVISOR_PROVE" in os.environ)


main()
