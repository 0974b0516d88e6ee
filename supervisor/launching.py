"""What it takes to start a job: its command with the environment that its shim needs to find us.

Does not cover: starting it (launcher/), deciding to (core/).
"""

from __future__ import annotations

from supervisor.core.job import Job
from supervisor.paths import Paths
from supervisor.ports import LaunchSpec

__all__ = ["launch_spec"]

_GOES_ON = "TRAINING_SUPERVISOR_GOES_ON"
_EVERY = "TRAINING_SUPERVISOR_EVERY_S"


def launch_spec(job: Job, paths: Paths, *, journal: str, is_first: bool) -> LaunchSpec:
    """Return the job's present incarnation, ready to start."""
    run_dir = paths.incarnation_dir(job.name, job.incarnation)
    gpus = {"CUDA_VISIBLE_DEVICES": ",".join(job.gpus)} if job.gpus else {}
    ours = {
        **paths.for_shim(job.name, job.incarnation),
        "TRAINING_SUPERVISOR_JOB": job.name,
        "TRAINING_SUPERVISOR_INCARNATION": str(job.incarnation),
        "TRAINING_SUPERVISOR_CHECKPOINTS": job.spec.checkpoints,
        **({} if job.spec.every_s is None else {_EVERY: str(job.spec.every_s)}),
        **({_GOES_ON: "1"} if job.goes_on else {}),
    }
    # A job file may name any variable; these two say something by being there.
    theirs = {name: value for name, value in job.spec.env.items() if name not in (_EVERY, _GOES_ON)}
    return LaunchSpec(
        job=job.name,
        incarnation=job.incarnation,
        argv=job.spec.argv,
        cwd=job.spec.cwd,
        shell=job.spec.shell,
        env={**theirs, **gpus, **ours},
        run_dir=run_dir,
        log=paths.log(job.name),
        journal=journal,
        is_first=is_first,
    )
