"""A training framework that saves and loads when it is told, run in an environment of its own.

    python -m benchmarks.framework NAME SIZE_GB FOLDER

Reads `save`, `load` and `flip` from stdin, one a line, and answers each with a
line of JSON: the seconds it took, or what came of it. `save` counts until all
is flushed; `load` begins with a cold cache.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import warnings
from pathlib import Path

from benchmarks.trained import change, forget, fsync_all, parameter_shapes, state_of, trained


class _Lightning:
    """`Fabric.save`, which `Trainer.save_checkpoint` writes with as well."""

    def __init__(self, size_gb):
        from lightning.fabric import Fabric

        self.fabric = Fabric(accelerator="cpu", devices=1)
        self.state = state_of(*trained(size_gb))

    def step(self):
        change(self.state)

    def save(self, path):
        self.fabric.save(path / "checkpoint.ckpt", self.state)

    def load(self, path):
        return self.fabric.load(path / "checkpoint.ckpt")["model"]

    def weights(self):
        return self.state["model"]


class _Accelerate:
    """`save_state` of what it prepared, and `load_state` into it."""

    def __init__(self, size_gb):
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=True)
        self.model, self.optimizer = self.accelerator.prepare(*trained(size_gb))

    def step(self):
        change(state_of(self.model, self.optimizer.optimizer))

    def save(self, path):
        self.accelerator.save_state(str(path))

    def load(self, path):
        self.accelerator.load_state(str(path))
        return self.model.state_dict()

    def weights(self):
        return self.model.state_dict()


class _Orbax:
    """The checkpointer that its documentation begins with, and the same numbers as jax arrays."""

    def __init__(self, size_gb):
        import jax
        import numpy as np
        import orbax.checkpoint

        random = np.random.default_rng(0)
        self.jax, self.checkpointer = jax, orbax.checkpoint.StandardCheckpointer()
        shapes = parameter_shapes(size_gb)
        self.state = {
            part: [jax.numpy.asarray(random.standard_normal(shape, np.float32)) for shape in shapes]
            for part in ("model", "exp_avg", "exp_avg_sq")
        }

    def step(self):
        """Nothing that is saved remembers the one before."""

    def save(self, path):
        self.checkpointer.save(path / "tree", self.state)
        self.checkpointer.wait_until_finished()

    def load(self, path):
        state = self.checkpointer.restore(path / "tree", self.state)
        self.jax.block_until_ready(state)
        return self._named(state)

    def weights(self):
        return self._named(self.state)

    def _named(self, state):
        # All of it: what is flipped lies somewhere in compressed data.
        return {
            f"{part}.{index}": value for part, values in state.items() for index, value in enumerate(values)
        }


FRAMEWORKS = {"lightning": _Lightning, "accelerate": _Accelerate, "orbax": _Orbax}


def numbers(weights):
    """A copy that no load changes."""
    import numpy as np

    return {name: np.array(value) for name, value in weights.items()}


def flip(framework, path):
    """Save, turn one bit of one weight around on the disk, load; how many numbers are wrong."""
    framework.save(path)
    expected = numbers(framework.weights())
    largest = max(expected.values(), key=lambda value: value.nbytes)
    mark = largest.reshape(-1)[1000:1016].tobytes()
    files = sorted(
        (file for file in path.rglob("*") if file.is_file()), key=lambda file: -file.stat().st_size
    )
    for file in files:
        data = bytearray(file.read_bytes())
        at = data.find(mark)
        if at >= 0:
            break
    else:  # Compressed: somewhere in the middle of the data.
        file, data = files[0], bytearray(files[0].read_bytes())
        at = len(data) // 2
    data[at + 6] ^= 64
    file.write_bytes(data)
    try:
        found = numbers(framework.load(path))
    except Exception as error:
        return f"refused: {type(error).__name__}"
    wrong = sum(int((found[name] != value).sum()) for name, value in expected.items())
    return f"loads without a word, {wrong} number{'s' * (wrong != 1)} wrong"


def answer(command, framework, folder):
    path = folder / "state"
    if command in ("save", "flip"):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        framework.step()
    else:
        forget(path)
    if command == "flip":
        return flip(framework, path)
    began_s = time.perf_counter()
    if command == "save":
        framework.save(path)
        fsync_all(path)
    else:
        framework.load(path)
    return time.perf_counter() - began_s


def main():
    name, size_gb, folder = sys.argv[1:]
    warnings.simplefilter("ignore")
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # Frameworks greet.
        framework = FRAMEWORKS[name](float(size_gb))
        print(json.dumps("ready"), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(line.strip(), framework, Path(folder))), file=answers, flush=True)


if __name__ == "__main__":
    main()
