"""How a job may be treated: the bounds and the words that files, commands and events take.

Covers: what they say of each, once. Does not cover: what follows from it (apply.py, core/policy/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "LEAST_MEMORY_BYTES",
    "MAX_CPU_WEIGHT",
    "MAX_LABELS",
    "MAX_PRIORITY",
    "USUAL_CPU_WEIGHT",
    "AtDeadline",
    "CpuWeight",
    "JobLimits",
    "Labels",
    "Priority",
    "Restart",
    "inherited",
]

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

#: With less not even a Python starts; it is a slip of whoever wrote it.
LEAST_MEMORY_BYTES: Final = 64 << 20

#: As systemd has it; who says nothing has the usual one.
USUAL_CPU_WEIGHT: Final = 100
MAX_CPU_WEIGHT: Final = 10_000

CpuWeight = Annotated[int, Meta(ge=1, le=MAX_CPU_WEIGHT)]


class JobLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all processes of a start may take together; None: as much as there is."""

    #: What would take more is ended by the kernel.
    memory_max_bytes: Annotated[int, Meta(ge=LEAST_MEMORY_BYTES, le=2**62)] | None = None
    #: Its share of busy CPUs beside others, who have 100 each.
    cpu_weight: CpuWeight | None = None

    @property
    def controllers(self) -> frozenset[str]:
        """What has to keep them: "cpu", "memory"."""
        said = {"memory": self.memory_max_bytes, "cpu": self.cpu_weight}
        return frozenset(name for name, value in said.items() if value is not None)


#: When its command is launched anew by itself.
Restart = Literal["never", "on-failure"]

#: What is done with a pause that is late: nothing, stop all processes where they are, or end them.
AtDeadline = Literal["wait", "freeze", "terminate"]

#: Settings of ours in an environment: they are no job's business.
_OWN: Final = "TRAINING_SUPERVISOR_"


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a job inherits of the environment of whoever started it: all but our own settings."""
    return {name: value for name, value in environ.items() if not name.startswith(_OWN)}
