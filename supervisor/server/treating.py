"""How a job is to be treated, as far as who asks may say: its record as `run` makes it and `set` changes it.

Covers: priority, protection and CPU weight by the rights of a peer, labels, what else a request says.
Does not cover: files of jobs, which are the daemon's own user's (settings/jobfile.py), what follows from it.

A priority is taken as it is said, for it decides among jobs of one user. What it counts against jobs of
others is written down beside it, and only an admin writes that.
"""

from __future__ import annotations

from supervisor import api
from supervisor.core.jobs.job import Job, JobSpec
from supervisor.core.jobs.treatment import MAX_LABELS, USUAL_CPU_WEIGHT
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.shares import granted
from supervisor.core.replacing import replace
from supervisor.errors import Refused
from supervisor.server.access import Access
from supervisor.server.router import Peer

__all__ = ["changed_spec", "counts_less", "new_spec"]


def new_spec(access: Access, peer: Peer, request: api.RunRequest) -> JobSpec:
    """Return the record of a new job of who asks; raises Refused for what he may not have."""
    if request.protected:
        access.check_protect(peer, request, "")
    weight = request.limits.cpu_weight or 0
    if weight > USUAL_CPU_WEIGHT and not access.is_admin(peer):
        raise Refused(
            f"cannot run it with CPU weight {weight}: more than {USUAL_CPU_WEIGHT}, which all jobs have, is "
            "an admin's to give",
            hint=f"ask for {USUAL_CPU_WEIGHT} or less",
        )
    return JobSpec(
        argv=request.argv,
        cwd=request.cwd,
        env=request.env,
        checkpoints=request.checkpoints,
        restart=request.restart,
        user=peer.asker().name,
        owner=access.owner(peer),
        priority=request.priority,
        granted=_granted(access, peer, request.priority or None, None),
        protected=request.protected,
        labels=request.labels,
        num_gpus=request.num_gpus,
        gpu_memory_bytes=request.gpu_memory_bytes,
        memory_bytes=request.memory_bytes,
        num_cpus=request.num_cpus,
        keep_children=request.keep_children,
        log_max_bytes=request.log_max_bytes,
        log_files=request.log_files,
        every_s=request.every_s,
        shell=request.shell,
        limits=request.limits,
    )


def changed_spec(access: Access, peer: Peer, job: Job, request: api.SetRequest) -> JobSpec:
    """Return the record of a job as who asks wants it; raises Refused for what he may not change."""
    spec = job.spec
    if spec.source:
        raise Refused(
            f"cannot change job `{job.name}`: it comes from `{spec.source}`",
            hint="edit the file; it is read again by itself",
        )
    if request.protected and not spec.protected:
        access.check_protect(peer, request, job.name)
    labels = {name: text for name, text in {**spec.labels, **request.labels}.items() if text}
    # One request brings so many at most; together they must not grow for ever.
    if len(labels) > max(MAX_LABELS, len(spec.labels)):
        raise Refused(
            f"cannot give job `{job.name}` {len(labels)} labels: it may have {MAX_LABELS}",
            hint=f"take some away: `supervisorctl set {job.name} --label KEY=`",
        )
    return replace(
        spec,
        priority=spec.priority if request.priority is None else request.priority,
        granted=_granted(access, peer, request.priority, spec.granted),
        protected=spec.protected if request.protected is None else request.protected,
        labels=labels,
        every_s=None if request.no_every else request.every_s or spec.every_s,
    )


def counts_less(job: Job, shares: SharesConfig) -> str:
    """Return what a priority counts where that is less than it says, or ""."""
    counts = granted(job, shares)
    if counts == job.spec.priority:
        return ""
    return f"against jobs of other users its priority counts as {counts}; an admin may give it more"


def _granted(access: Access, peer: Peer, said: int | None, before: int | None) -> int | None:
    """Return what a priority counts between users: what is said by an admin, of a job that has a user."""
    return said if said is not None and access.serves_all and access.is_admin(peer) else before
