"""How a job may be treated: the bounds and the words that files, commands and events take.

Covers: what they say of each, once. Does not cover: what follows from it (apply.py, core/policy/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta

__all__ = ["MAX_LABELS", "MAX_PRIORITY", "AtDeadline", "Labels", "Priority", "Restart", "inherited"]

#: Wide enough for any scheme, narrow enough to add ageing to; as far below zero.
MAX_PRIORITY: Final = 10_000

#: Higher yields later and returns earlier.
Priority = Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]

#: Of one job.
MAX_LABELS: Final = 32

Labels = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=200)]],
    Meta(max_length=MAX_LABELS),
]

#: When its command is launched anew by itself.
Restart = Literal["never", "on-failure"]

#: What is done with a pause that is late: nothing, stop all processes where they are, or end them.
AtDeadline = Literal["wait", "freeze", "terminate"]

#: Settings of ours in an environment: they are no job's business.
_OWN: Final = "TRAINING_SUPERVISOR_"


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a job inherits of the environment of whoever started it: all but our own settings."""
    return {name: value for name, value in environ.items() if not name.startswith(_OWN)}
