"""What a training tells the daemon, and what it says to a person.

Covers: the message for each thing that becomes of a request; notices of the checkpoint folder.
Does not cover: sending (link.py), that a thing is said once (one_time_warnings.py), when something is told
(at_boundary.py, saving.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from trainer_shim import protocol
from trainer_shim.checkpoint import Saved, Store
from trainer_shim.errors import ShimError
from trainer_shim.gate import Gate
from trainer_shim.link_report import LinkReport
from trainer_shim.one_time_warnings import OneTimeWarnings, words
from trainer_shim.receipt import leave_receipt
from trainer_shim.surroundings import Surroundings

__all__ = ["Telling", "connected", "say_notices"]

#: How long a process that is about to end waits for its last words to leave.
_LAST_WORDS_S = 2.0


class Line(Protocol):
    """Where messages go: to the daemon, or into the trace of a proof."""

    def send(self, message: protocol.Message) -> None:
        """Take a message; returns at once."""

    def close(self, *, wait_s: float) -> None:
        """Let what was sent leave, for at most that long; nothing is sent after that."""


class Telling:
    """Belongs to the thread that trains. `line` is None where nobody listens.

    `run_dir` is where a daemon that is away will look for a receipt.
    """

    def __init__(
        self, report: LinkReport, warnings: OneTimeWarnings, line: Line | None, run_dir: Path | None
    ) -> None:
        self._report, self._warnings, self._line, self._run_dir = report, warnings, line, run_dir

    def say(self, text: str) -> None:
        """Tell a person."""
        self._warnings.say(text)

    def say_all(self, texts: Iterable[str]) -> None:
        """Tell a person each of them."""
        for text in texts:
            self._warnings.say(text)

    def tell(self, message: protocol.Message) -> None:
        """Tell the daemon, where there is one."""
        if self._line is not None:
            self._line.send(message)

    def close(self) -> None:
        """Tell the daemon no more, once what was told has left or took too long. May be repeated."""
        line, self._line = self._line, None
        if line is not None:
            line.close(wait_s=_LAST_WORDS_S)

    def stage(self, request: str, what: str) -> None:
        """Tell the daemon what is done for a request, or what it waits for."""
        self.tell(protocol.Stage(request=request, what=what))

    def saving(self, request: str) -> None:
        """Tell the daemon that a checkpoint of this boundary is begun."""
        self.tell(protocol.Saving(request=request, step=self._report.step))

    def saved(self, saved: Saved, request: str) -> None:
        """Tell the daemon of a checkpoint of this boundary."""
        self.tell(self._checkpointed(saved, request))

    def is_newest(self, saved: Saved, epoch: int | None = None) -> protocol.Checkpointed:
        """Keep at hand for whoever asks what the newest checkpoint is; `epoch` where it is not this one."""
        self._report.checkpoint = self._checkpointed(saved, "", epoch)
        return self._report.checkpoint

    def yielded(self, request: str, depth: str, saved: Saved, *, bytes_freed: int) -> None:
        """Tell the daemon that a pause has come about, at this depth."""
        checkpoint = self._checkpointed(saved, request)
        self.tell(
            protocol.Yielded(request=request, depth=depth, checkpoint=checkpoint, bytes_freed=bytes_freed)
        )

    def leaves(self, request: str, saved: Saved) -> None:
        """Tell in all ways there are that the checkpoint is durable and the process ends."""
        message = protocol.Yielded(
            request=request, depth="exit", checkpoint=self._checkpointed(saved, request), bytes_freed=0
        )
        if problem := leave_receipt(self._run_dir, message):
            self.say(problem)
        self.tell(message)

    def resumed(self, request: str) -> None:
        """Tell the daemon that the loop goes on."""
        self.tell(protocol.Resumed(request=request, step=self._report.step))

    def refused(self, request: str, error: ShimError, *, holding_depth: str | None = None) -> None:
        """Tell the daemon that a request cannot be met, and at which depth the loop holds, if it does."""
        message = protocol.CannotYield(request=request, why=words(error), holding_depth=holding_depth)
        self.tell(message)

    def failed(self, error: ShimError) -> None:
        """Tell both that a checkpoint that nobody asked for could not be written."""
        self.refused("", error)
        self._warnings.say_error(error)

    def goes_on(self, error: ShimError) -> None:
        """Tell a person of an error that keeps nobody from training."""
        self._warnings.say_error(error)

    def _checkpointed(self, saved: Saved, request: str, epoch: int | None = None) -> protocol.Checkpointed:
        return protocol.Checkpointed(
            step=saved.step,
            epoch=self._report.epoch if epoch is None else epoch,
            path=protocol.as_utf8(str(saved.path)),
            digest=saved.digest,
            size_bytes=saved.size_bytes,
            took_s=saved.took_s,
            request=request,
        )


def connected(
    surroundings: Surroundings, report: LinkReport, gate: Gate, say: Callable[[str], None]
) -> Line | None:
    """Return a line to the daemon, which looks for it from now on; None where the surroundings name none."""
    if surroundings.server is None:
        return None
    # Here, and not in the thread of the link: what is imported while others fork may stay half done in a
    # child.
    from trainer_shim.link import Link

    return Link(surroundings.server, partial(_hello, surroundings, report), report, gate, say)


def _hello(surroundings: Surroundings, report: LinkReport) -> protocol.Hello:
    """Return what a connection begins with; called by the link's thread."""
    holding, by_hand = report.holding, surroundings.by_hand
    return protocol.Hello(
        job="" if by_hand else surroundings.job,
        incarnation=surroundings.incarnation,
        depths=report.depths,
        position=report.position(),
        holding=holding.request if holding else "",
        holding_depth=holding.depth if holding else None,
        checkpoint=report.checkpoint,
        **({} if by_hand is None else by_hand.words(surroundings.job, surroundings.checkpoints)),
    )


def say_notices(store: Store, say: Callable[[str], None]) -> None:
    """Say what a person should hear of the checkpoint folder, each notice once."""
    # One by one: the thread that writes in the background may add another meanwhile.
    while store.notices:
        notice = store.notices.pop(0)
        say(f"{notice.text} ({notice.hint})")
