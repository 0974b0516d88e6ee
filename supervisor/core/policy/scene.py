"""Everything that one decision is made from, side by side.

Covers: the record that the parts of the policy hand to each other, and the
questions that all of them ask. Does not cover: any decision.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.names import plain, user_of
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.memory import Footprint, JobMemory, Memory
from supervisor.core.policy.rulebook import Instance, Instances, place_kind
from supervisor.core.policy.rules import Selector, Settings
from supervisor.core.policy.usage import had, num_slots, takes, use_of
from supervisor.core.readings.sample import JobUse, Missing, Sample

__all__ = ["FILL_S", "Scene", "is_rules", "selects"]

#: After that long a job has taken what it takes.
FILL_S: Final = 300.0

_UNKNOWN_JOB = JobMemory()


@dataclass(frozen=True)
class Scene:
    """One moment: what is there, what was measured, what is wanted, what is remembered.

    What many jobs ask for is worked out once: hundreds may be queued, and each is looked at.
    """

    jobs: dict[str, Job]
    sample: Sample
    settings: Settings
    memory: Memory
    instances: Instances
    now: float

    @cached_property
    def present(self) -> tuple[Job, ...]:
        """Return the jobs that are neither queued nor over."""
        return tuple(
            job for job in self.jobs.values() if job.state is not JobState.QUEUED and not job.is_over
        )

    @cached_property
    def is_shared(self) -> bool:
        """Say whether several users have jobs that are not over."""
        return len({user_of(job.name) for job in self.jobs.values() if not job.is_over}) > 1

    @cached_property
    def on_gpus(self) -> dict[str, list[Job]]:
        """Return who is, or was when it last ran, on each GPU, by UUID."""
        found: dict[str, list[Job]] = {}
        for job in self.present:
            for uuid in self.gpus_of(job):
                found.setdefault(uuid, []).append(job)
        return found

    @cached_property
    def on(self) -> tuple[Instance, ...]:
        """Return the rules that are on, with their places."""
        return tuple(instance for instance in self.instances.values() if instance.is_on)

    @cached_property
    def _by_place(self) -> dict[str, list[tuple[int, Instance]]]:
        found: dict[str, list[tuple[int, Instance]]] = {}
        for number, instance in enumerate(self.instances.values()):
            found.setdefault(instance.place, []).append((number, instance))
        return found

    def about(self, job: Job) -> list[Instance]:
        """Return the rules, with their places, that are about a job, in the order of their importance."""
        places = {"", job.name, *self.gpus_of(job)}
        found = [one for place in places for one in self._by_place.get(place, ())]
        return [instance for _, instance in sorted(found) if self.concerns(instance, job)]

    @cached_property
    def promised(self) -> dict[str, Footprint]:
        """Return what jobs are expected to take on top of what they have now, by name."""
        return {job.name: self._promised(job) for job in self.present if self._is_filling(job)}

    @cached_property
    def _promised_bytes(self) -> float:
        return sum(one.rss_bytes for one in self.promised.values())

    def promised_bytes(self, job: Job) -> float:
        """Return the memory that all jobs but this one are expected to take on top."""
        own = self.promised.get(job.name)
        return self._promised_bytes - (own.rss_bytes if own is not None else 0.0)

    def _is_filling(self, job: Job) -> bool:
        return job.state in (JobState.STARTING, JobState.RESUMING) or (
            job.state is JobState.RUNNING and self.now - job.since < FILL_S
        )

    def _promised(self, job: Job) -> Footprint:
        known, use, spec = self.known(job.name).footprint, self.use(job.name), job.spec
        rss_bytes = use.rss_bytes if use is not None else 0.0
        now_bytes = 0.0 if isinstance(rss_bytes, Missing) else rss_bytes
        held = use.gpu_bytes if use is not None else {}
        expected = {**dict.fromkeys(job.gpus, float(spec.gpu_memory_bytes)), **known.gpu_bytes}
        return Footprint(
            rss_bytes=max(0.0, max(known.rss_bytes, spec.memory_bytes) - now_bytes),
            gpu_bytes={uuid: max(0.0, bytes_ - (held.get(uuid) or 0)) for uuid, bytes_ in expected.items()},
        )

    def slots_of(self, job: Job) -> float:
        """Return as how many slots a job counts, by what it was given and seen on."""
        return num_slots(job, self.known(job.name).footprint.gpu_bytes, self.settings.shares)

    @cached_property
    def had(self) -> dict[str, float]:
        """Return the slot seconds that each user has had, as they count now."""
        uses = [use_of(job, self.slots_of(job), self.now) for job in self.present if takes(job)]
        return had(self.memory.usage, uses, self.settings.shares, self.now)

    @cached_property
    def slots_now(self) -> dict[str, float]:
        """Return the slots that each user's jobs have now."""
        found: dict[str, float] = {}
        for job in self.present:
            if takes(job):
                user = user_of(job.name)
                found[user] = found.get(user, 0.0) + self.slots_of(job)
        return found

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
        """Return the GPUs that a job was given, holds, or, where none were given, held when it last ran."""
        use = self.use(job.name)
        if job.gpus or (job.alive and job.state is not JobState.PAUSED):
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
    # `night-*` is about the jobs of all users that are called so, `ada/*` about those of one.
    called = (job.name, plain(job.name))
    is_named = any(fnmatch.fnmatchcase(one, name) for name in selector.names for one in called)
    return (
        (not selector.names or is_named)
        and (not selector.users or spec.user in selector.users)
        and all(spec.labels.get(key) == value for key, value in selector.labels.items())
    )


def is_rules(job: Job) -> bool:
    """Say whether a rule, not a person, made it yield."""
    return (
        job.state in (JobState.PAUSING, JobState.PAUSED)
        and job.asked_by is not None
        and job.asked_by.kind == "rule"
    )
