"""What `tests.trainers.forked` is asked for; loads nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Run:
    """A script that is run once, in a folder, and ended at a step if that is asked for."""

    script: str
    folder: str
    argv: list[str] = field(default_factory=list)
    #: The name of a signal; without one it ends by itself.
    signal: str = ""
    #: Boundaries that the training of that number has passed, counted from 1 in its process.
    step: int = 25
    training: int = 1
