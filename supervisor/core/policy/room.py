"""What is left of the machine for one more job, and whether a job fits into it.

Covers: what a job needs, what others have been promised, which GPUs it would get.
Does not cover: whose turn it is (admission.py, returning.py).

A job that has just come back has not taken its memory yet. Until it has, or has
shown that it needs less, what it is expected to take is reserved for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.scene import Scene, is_rules
from supervisor.core.policy.shares import weighs
from supervisor.core.readings.sample import Gpu, Missing, Reading
from supervisor.core.units import format_bytes

__all__ = ["Fit", "Needs", "asked", "fit", "least_wrong", "needs_of"]

_LIVE = frozenset(
    {JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.RESUMING, JobState.STOPPING}
)


class Needs(NamedTuple):
    """What a job takes when it starts or comes back; 0: nobody said, and it is not asked after."""

    cpu_pct: float = 0.0
    num_cpus: float = 0.0
    memory_bytes: float = 0.0
    #: What it takes on GPUs that it has already, by UUID; empty: it has none.
    gpu_bytes: Mapping[str, float] = MappingProxyType({})
    #: GPUs that have to be found for it, and how much of each.
    num_gpus: int = 0
    gpu_memory_bytes: float = 0.0


class Fit(NamedTuple):
    """Whether it fits. `lacks` names what is short: gpu, memory, cpus."""

    why_not: str = ""
    lacks: frozenset[str] = frozenset()
    gpus: tuple[str, ...] = ()
    #: It never fits on this machine, whoever else goes.
    is_hopeless: bool = False


def needs_of(job: Job, known: Footprint) -> Needs:
    """Return what a queued or paused job takes when it goes on."""
    spec = job.spec
    if job.state is JobState.QUEUED:
        return Needs(0.0, spec.num_cpus, spec.memory_bytes, {}, spec.num_gpus, spec.gpu_memory_bytes)
    if job.alive:
        is_held = job.depth is Depth.HOLD or job.depth is None
        return Needs(known.cpu_pct, spec.num_cpus, gpu_bytes={} if is_held else known.gpu_bytes)
    memory_bytes = max(spec.memory_bytes, known.rss_bytes)
    if not spec.num_gpus:
        return Needs(known.cpu_pct, spec.num_cpus, memory_bytes, known.gpu_bytes)
    each_bytes = max([spec.gpu_memory_bytes, *known.gpu_bytes.values()])
    return Needs(known.cpu_pct, spec.num_cpus, memory_bytes, {}, spec.num_gpus, each_bytes)


def fit(job: Job, needs: Needs, scene: Scene) -> Fit:
    """Say whether it fits now, and on which GPUs; what it never gets comes before what it waits for."""
    *answers, last = (check(job, needs, scene) for check in (_cpus, _memory, _own_gpus, _new_gpus))
    short = [answer for answer in (*answers, last) if answer.why_not]
    return min(short, key=lambda answer: not answer.is_hopeless, default=last)


def asked(needs: Needs) -> frozenset[str]:
    """Return what it asks for, in the words of `Fit.lacks`."""
    wanted = {"cpus": needs.num_cpus, "memory": needs.memory_bytes, "gpu": needs.num_gpus or needs.gpu_bytes}
    return frozenset(what for what, much in wanted.items() if much)


def _cpus(job: Job, needs: Needs, scene: Scene) -> Fit:
    if not needs.num_cpus:
        return Fit()
    total = scene.sample.num_cpus
    if needs.num_cpus > total:
        return Fit(
            f"needs {needs.num_cpus:g} CPUs, there are {total:g}", frozenset({"cpus"}), is_hopeless=True
        )
    taken = sum(
        other.spec.num_cpus for other in scene.present if other.state in _LIVE and other.name != job.name
    )
    if taken + needs.num_cpus > total:
        return Fit(
            f"needs {needs.num_cpus:g} CPUs, {total - taken:g} are not given away", frozenset({"cpus"})
        )
    return Fit()


def _memory(job: Job, needs: Needs, scene: Scene) -> Fit:
    if not needs.memory_bytes:
        return Fit()
    lacks = frozenset({"memory"})
    total, available = scene.sample.memory_total_bytes, scene.sample.memory_available_bytes
    if isinstance(available, Missing):
        return Fit(f"memory cannot be read: {available.why}", lacks)
    if not isinstance(total, Missing) and needs.memory_bytes > total:
        text = f"needs {format_bytes(needs.memory_bytes)} of memory, the machine has {format_bytes(total)}"
        return Fit(text, lacks, is_hopeless=True)
    promised = scene.promised_bytes(job)
    if available - promised < needs.memory_bytes:
        also = f", {format_bytes(promised)} of it promised to others" if promised else ""
        there = f"{format_bytes(available)} are available{also}"
        return Fit(f"needs {format_bytes(needs.memory_bytes)} of memory, {there}", lacks)
    return Fit()


def _own_gpus(job: Job, needs: Needs, scene: Scene) -> Fit:
    for uuid, bytes_ in needs.gpu_bytes.items():
        free = _free_bytes(uuid, job, scene)
        if isinstance(free, Missing):
            return Fit(f"memory of GPU {uuid} cannot be read: {free.why}", frozenset({"gpu"}))
        if free < bytes_:
            text = f"needs {format_bytes(bytes_)} of GPU {uuid}, {format_bytes(max(free, 0.0))} are free"
            return Fit(text, frozenset({"gpu"}))
    return Fit()


def _new_gpus(job: Job, needs: Needs, scene: Scene) -> Fit:
    """Find GPUs: nobody else's, enough memory free; rather those it had, then the emptiest."""
    if not needs.num_gpus:
        return Fit(gpus=tuple(needs.gpu_bytes))
    lacks, gpus = frozenset({"gpu"}), scene.sample.gpus
    if isinstance(gpus, Missing):
        return Fit(f"GPUs cannot be read: {gpus.why}", lacks)
    total = [gpu for gpu in gpus if not _is_too_small(gpu, needs.gpu_memory_bytes)]
    if len(total) < needs.num_gpus:
        text = f"needs {_gpus(needs)}, this machine has {len(total)}"
        return Fit(text, lacks, is_hopeless=True)
    reasons = {gpu.uuid: _not_free(gpu, job, needs, scene) for gpu in total}
    free = [gpu for gpu in total if not reasons[gpu.uuid]]
    if len(free) < needs.num_gpus:
        text = "; ".join(f"{uuid} {why}" for uuid, why in reasons.items() if why)
        return Fit(f"needs {_gpus(needs)}, {len(free)} of {len(total)} are free: {text}", lacks)
    best = sorted(free, key=lambda gpu: (gpu.uuid not in job.gpus, _used(gpu), gpu.index, gpu.uuid))
    return Fit(gpus=tuple(gpu.uuid for gpu in best[: needs.num_gpus]))


def least_wrong(job: Job, needs: Needs, scene: Scene) -> tuple[str, ...]:
    """Return GPUs for a job that has to start although none are free: rather those without a job of ours."""
    gpus = () if isinstance(scene.sample.gpus, Missing) else scene.sample.gpus
    big = [gpu for gpu in gpus if not _is_too_small(gpu, needs.gpu_memory_bytes)]
    others = [other for other in scene.present if other.name != job.name and other.alive]
    taken = {uuid for other in others for uuid in scene.gpus_of(other)}
    big.sort(key=lambda gpu: (gpu.uuid in taken, _used(gpu), gpu.index, gpu.uuid))
    return tuple(gpu.uuid for gpu in big[: needs.num_gpus]) if len(big) >= needs.num_gpus else ()


def _gpus(needs: Needs) -> str:
    each = f" with {format_bytes(needs.gpu_memory_bytes)}" if needs.gpu_memory_bytes else ""
    return f"{needs.num_gpus} {'GPU' if needs.num_gpus == 1 else 'GPUs'}{each}"


def _is_too_small(gpu: Gpu, bytes_: float) -> bool:
    return not isinstance(gpu.memory_total_bytes, Missing) and gpu.memory_total_bytes < bytes_


def _not_free(gpu: Gpu, job: Job, needs: Needs, scene: Scene) -> str:
    for other in scene.on_gpus.get(gpu.uuid, ()):
        # A job that is paused and has its process still is on its GPU.
        if other.name != job.name and other.alive:
            return f"has {other.name}"
        if _keeps(other, job, scene):
            return f"is kept for {other.name}, which a rule has paused"
    if isinstance(gpu.processes, Missing):
        return f"cannot be read: {gpu.processes.why}"
    if any(not process.job for process in gpu.processes):
        return "has somebody else"
    short = [instance for instance in scene.on if instance.place == gpu.uuid]
    if short:
        return f"rule {short[0].rule.name} is on"
    free = _free_bytes(gpu.uuid, job, scene) if needs.gpu_memory_bytes else 0.0
    if isinstance(free, Missing):
        return f"cannot be read: {free.why}"
    return f"has {format_bytes(max(free, 0.0))} free" if free < needs.gpu_memory_bytes else ""


def _keeps(other: Job, job: Job, scene: Scene) -> bool:
    """A job that made room for a while does not lose its GPU for days to one that has never run."""
    ageing_s = scene.settings.queue.ageing_s
    return (
        job.state is JobState.QUEUED
        and other.name != job.name
        and other.state is JobState.PAUSED
        and is_rules(other)
        and weighs(other, job, scene.settings.shares) >= weighs(job, other, scene.settings.shares)
        and (not ageing_s or scene.now - other.since < ageing_s)
    )


def _free_bytes(uuid: str, job: Job, scene: Scene) -> Reading:
    gpus = scene.sample.gpus
    if isinstance(gpus, Missing):
        return gpus
    gpu = next((gpu for gpu in gpus if gpu.uuid == uuid), None)
    if gpu is None:
        return Missing("it is gone")
    for reading in (gpu.memory_total_bytes, gpu.memory_used_bytes):
        if isinstance(reading, Missing):
            return reading
    assert not isinstance(gpu.memory_total_bytes, Missing)
    assert not isinstance(gpu.memory_used_bytes, Missing)
    promised = sum(
        others.gpu_bytes.get(uuid, 0.0) for name, others in scene.promised.items() if name != job.name
    )
    return gpu.memory_total_bytes - gpu.memory_used_bytes - promised


def _used(gpu: Gpu) -> float:
    return gpu.memory_used_bytes if not isinstance(gpu.memory_used_bytes, Missing) else float("inf")
