"""What a training tells of itself, as far as the loop keeps it at hand.

Covers: where the loop is, its metrics, what it holds for.
Does not cover: sending that (link.py).

In a module of its own because a run without a daemon has no use for the link, and needs no ZeroMQ.
"""

from __future__ import annotations

import contextlib
import operator
import threading
from typing import Any

from trainer_shim import protocol
from trainer_shim.gate import Pace

__all__ = ["LinkReport"]


class LinkReport:
    """What the loop tells of itself: written by the thread that trains, read by the link.

    Every field is set in one assignment and read once, so no lock is needed.
    """

    __slots__ = (
        "checkpoint",
        "depths",
        "epoch",
        "has_daemon",
        "holding",
        "metrics",
        "num_epochs",
        "num_steps",
        "pace",
        "reading",
        "return_retry_s",
    )

    def __init__(self, pace: Pace | None = None) -> None:
        #: Where the steps are counted.
        self.pace = Pace() if pace is None else pace
        self.epoch = 0
        self.num_steps: int | None = None
        self.num_epochs: int | None = None
        #: Numbers, or tensors of one element; made into numbers when a heartbeat is due.
        self.metrics: dict[str, Any] = {}
        #: The pause it holds for, with the depth that is reached.
        self.holding: protocol.Pause | None = None
        #: What can be given back by now.
        self.depths: tuple[str, ...] = ("hold", "exit")
        #: What the link writes: whether a daemon answers, and what it says of coming back.
        self.has_daemon = False
        self.return_retry_s: float = protocol.Welcome().return_retry_s
        #: Taken by whoever reads the metrics: a tensor must not lose its memory meanwhile.
        self.reading = threading.Lock()
        self.checkpoint: protocol.Checkpointed | None = None

    @property
    def step(self) -> int:
        """The steps that were made."""
        return int(self.pace._step)  # noqa: SLF001  # The session is no place for names of others to call.

    @step.setter
    def step(self, step: int) -> None:
        self.pace._step = float(step)  # noqa: SLF001

    def position(self) -> protocol.PositionReport:
        """Return where the loop is, in the form of the wire."""
        return protocol.PositionReport(
            step=self.step,
            epoch=self.epoch,
            num_steps=_count(self.num_steps),
            num_epochs=_count(self.num_epochs),
        )

    def settle_metrics(self) -> None:
        """Make numbers of the metrics, because the memory of tensors is about to be given back."""
        with self.reading:
            # Not one by one: a proof takes that for words of the script.
            self.metrics.update(_numbers(self.metrics))

    def numbers(self) -> dict[str, float]:
        """Return what was reported last, as numbers; what is none is left out."""
        return {name[:64]: number for name, number in _numbers(self.metrics).items()}

    def number(self, name: str) -> dict[str, float]:
        """Return one of them, under its whole name, as far as there is one."""
        return _numbers({name: self.metrics[name]} if name in self.metrics else {})


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    numbers = {}
    # A copy in one go, because the training thread may add a name meanwhile.
    for name, value in list(metrics.copy().items())[:64]:
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OverflowError):
            numbers[name] = float(value)
    return numbers


def _count(number: Any) -> int | None:
    """Return what a script gave as a count, be it NumPy's; None for what is none, as infinity."""
    try:
        return max(0, operator.index(number))
    except TypeError:
        return None
