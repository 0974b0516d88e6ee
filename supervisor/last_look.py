"""What the policy saw last and remembers, where the engine can ask for GPUs without knowing the policy loop.

Covers: the newest sample, the memory, the GPUs of a job that a person lets go on.
Does not cover: when it is looked, and what is decided (policy_loop.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import structlog

from supervisor.core.jobs.job import Job
from supervisor.core.policy.decide import look_around
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.room import fit, least_wrong, needs_of
from supervisor.core.policy.rules import Settings
from supervisor.core.readings.sample import Sample

__all__ = ["MEMORY_FACT", "LastLook", "recalled"]

#: Under this name the journal has the memory.
MEMORY_FACT: Final = "policy.memory"


class LastLook:
    """Written by the policy loop, what users had by the accounts; the engine reads it. In one thread."""

    def __init__(self) -> None:
        #: The newest one; None: nobody has looked yet.
        self.sample: Sample | None = None
        self.memory = Memory()

    def gpus_for(self, job: Job, jobs: Iterable[Job], settings: Settings, now: float) -> tuple[str, ...]:
        """Return GPUs for a job that a person lets go on; where none are free, those that it had."""
        if self.sample is None:
            return job.gpus
        scene = look_around(tuple(jobs), self.sample, settings, self.memory, now)
        needs = needs_of(job, scene.known(job.name).footprint)
        gpus = fit(job, needs, scene).gpus or job.gpus
        return gpus or least_wrong(job, needs, scene)


def recalled(facts: Mapping[str, str]) -> Memory:
    """Return the memory that the journal has; nothing remembered where it cannot be read."""
    text = facts.get(MEMORY_FACT)
    if text is None:
        return Memory()
    try:
        return msgspec.json.decode(text, type=Memory)
    except msgspec.MsgspecError as error:
        # Losing it costs a wait at most; a daemon that does not start costs more.
        structlog.get_logger("policy").warning("memory-dropped", error=str(error))
        return Memory()
