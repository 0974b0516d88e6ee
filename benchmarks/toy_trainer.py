"""A training loop with short steps: `python -m benchmarks.toy_trainer KIND STAMPS`.

KIND is `torch` (matrix products), `python` (bytecode only, which lets another
thread run after the interpreter's switch interval of 5 ms), `python-1ms` (the
same with an interval of 1 ms) or `idle` (a sleep). For every pause that was
held, one line of JSON goes to STAMPS once the loop goes on: monotonic
nanoseconds of the boundaries before it, of the begin and end of the write, and
of the begin of the hold.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trainer_shim
from trainer_shim.checkpoint import Store
from trainer_shim.gate import Gate

STEP_S = 0.001
#: No benchmark takes that long; a loop whose benchmark was killed must not run for ever.
_LONGEST_S = 1800.0
#: More than fit into any pause that is worth a figure.
_NUM_BOUNDARIES = 5000


class Part:
    """What is saved: next to nothing."""

    def __init__(self) -> None:
        self.state: Any = {"weights": [0.0] * 8}

    def state_dict(self) -> Any:
        """See trainer_shim.Stateful."""
        return self.state

    def load_state_dict(self, state: Any) -> None:
        """See trainer_shim.Stateful."""
        self.state = state


class Stamps:
    """Notes the time around what the shim does at a boundary; neither changes what it does."""

    def __init__(self, path: Path) -> None:
        self.boundaries: deque[int] = deque(maxlen=_NUM_BOUNDARIES)
        self._path = path
        self._write = (0, 0)
        self._wrap()

    def _wrap(self) -> None:
        save, wait = Store.save, Gate.wait

        def stamped_save(store: Store, *args: Any, **named: Any) -> Any:
            began = time.monotonic_ns()
            saved = save(store, *args, **named)
            self._write = (began, time.monotonic_ns())
            return saved

        def stamped_wait(gate: Gate, want: Any) -> Any:
            held = time.monotonic_ns()
            now = wait(gate, want)
            self._note(held)
            return now

        Store.save, Gate.wait = stamped_save, stamped_wait  # type: ignore[method-assign]

    def _note(self, held: int) -> None:
        line = {"boundaries": list(self.boundaries), "write": self._write, "held": held}
        with self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")
        self.boundaries.clear()


def torch_step() -> Callable[[], None]:
    import torch

    torch.set_num_threads(1)
    left = torch.rand(192, 192)

    def product(times: int) -> None:
        for _ in range(times):
            torch.mm(left, left)

    return calibrated(product)


def python_step() -> Callable[[], None]:
    def count(times: int) -> None:
        total = 0
        for number in range(times):
            total += number

    return calibrated(count)


def eager_python_step() -> Callable[[], None]:
    sys.setswitchinterval(0.001)
    return python_step()


def calibrated(work: Callable[[int], None]) -> Callable[[], None]:
    """Return work of about STEP_S, however busy the machine is just now."""
    times, took_s = 1, 0.0
    while took_s < STEP_S * 10:
        times *= 2
        began = time.thread_time()
        work(times)
        took_s = time.thread_time() - began
    times = max(1, round(times * STEP_S / took_s))
    return lambda: work(times)


def idle_step() -> Callable[[], None]:
    return lambda: time.sleep(0.1)


STEPS = {"torch": torch_step, "python": python_step, "python-1ms": eager_python_step, "idle": idle_step}


def main() -> None:
    kind, path = sys.argv[1:]
    step = STEPS[kind]()
    stamps = Stamps(Path(path))
    shim = trainer_shim.attach(model=Part())
    give_up_at = time.monotonic() + _LONGEST_S
    while time.monotonic() < give_up_at:
        step()
        stamps.boundaries.append(time.monotonic_ns())
        shim.boundary()


if __name__ == "__main__":
    main()
