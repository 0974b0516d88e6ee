"""Everything that one decision is made from, side by side.

Covers: the record that the parts of the policy hand to each other, and the
questions that all of them ask. Does not cover: any decision.
"""

from __future__ import annotations

import fnmatch
from typing import NamedTuple

from supervisor.core.job import Job
from supervisor.core.policy_memory import JobMemory, Memory
from supervisor.core.rulebook import Instance, Instances, place_kind
from supervisor.core.rules import Selector, Settings
from supervisor.core.sample import JobUse, Sample
from supervisor.core.states import State

__all__ = ["Scene", "is_rules", "selects"]

_UNKNOWN_JOB = JobMemory()


class Scene(NamedTuple):
    """One moment: what is there, what was measured, what is wanted, what is remembered."""

    jobs: dict[str, Job]
    sample: Sample
    settings: Settings
    memory: Memory
    instances: Instances
    now: float

    def known(self, name: str) -> JobMemory:
        """Return what is remembered of a job."""
        return self.memory.jobs.get(name, _UNKNOWN_JOB)

    def use(self, name: str) -> JobUse | None:
        """Return what a job uses now, if that was measured."""
        return self.sample.jobs.get(name)

    def concerns(self, instance: Instance, job: Job) -> bool:
        """Say whether the rule at this place is about this job."""
        if not selects(instance.rule.jobs, job):
            return False
        kind = place_kind(instance.rule)
        if kind == "gpu":
            return instance.place in self.gpus_of(job)
        return kind == "host" or instance.place == job.name

    def gpus_of(self, job: Job) -> set[str]:
        """Return the GPUs that a job was given, holds, or held when it last ran."""
        use = self.use(job.name)
        if job.alive and job.state is not State.PAUSED:
            return {*job.gpus, *(use.gpu_bytes if use is not None else ())}
        return {
            *job.gpus,
            *(use.gpu_bytes if use is not None else ()),
            *self.known(job.name).footprint.gpu_bytes,
        }


def selects(selector: Selector, job: Job) -> bool:
    """Say whether a job matches everything that a selector says."""
    if not (selector.names or selector.users or selector.labels):
        return True
    spec = job.spec
    return (
        (not selector.names or any(fnmatch.fnmatchcase(job.name, name) for name in selector.names))
        and (not selector.users or spec.user in selector.users)
        and all(spec.labels.get(key) == value for key, value in selector.labels.items())
    )


def is_rules(job: Job) -> bool:
    """Say whether a rule, not a person, made it yield."""
    return (
        job.state in (State.PAUSING, State.PAUSED)
        and job.asked_by is not None
        and job.asked_by.kind == "rule"
    )
