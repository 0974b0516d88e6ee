"""What it takes to start a job: its command with the environment that its shim needs to find us.

Covers: words about the shell that asked, which nothing else reads before the keeper.
Does not cover: starting it (launcher/), deciding to (core/).
"""

from __future__ import annotations

import re
from typing import Final

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.names import plain
from supervisor.paths import Paths
from supervisor.ports import LaunchSpec

__all__ = ["launch_spec", "shell_fault"]

_GOES_ON = "TRAINING_SUPERVISOR_GOES_ON"
_EVERY = "TRAINING_SUPERVISOR_EVERY_S"
_HEADING = (
    "training-supervisor: here a new job `{}` begins; what stands above is of an earlier one of that name"
)

#: Each word of a shell, and what its numbers may be. -1 is no limit.
_SHELL_WORDS: Final = (
    (re.compile(r"umask=(\d+)"), 0, 0o777),
    (re.compile(r"nice=(-?\d+)"), -20, 19),
    (re.compile(r"cpus=(\d+(?:,\d+)*)"), 0, 2**20),
    (re.compile(r"limit\.\d{1,3}=(-?\d+:-?\d+)"), -1, 2**63 - 1),
)


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
    is_new = job.incarnation == job.first_incarnation
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
        log_heading=_HEADING.format(plain(job.name)) if is_new else "",
        journal=journal,
        is_first=is_first,
        owner=job.spec.owner,
        limits=job.spec.limits,
    )


def shell_fault(words: str) -> str:
    """Return what is wrong with the words of a shell, of which the keeper takes over what it can; or ""."""
    for word in words.split():
        found = [(match[1], low, high) for form, low, high in _SHELL_WORDS if (match := form.fullmatch(word))]
        if not found:
            return f"`{word[:40]}` is no word about a shell"
        ((text, low, high),) = found
        if not all(low <= _whole(number) <= high for number in re.split("[,:]", text)):
            return f"`{word[:40]}` is not from {low} to {high}"
    return ""


def _whole(digits: str) -> int:
    """Return the number; of more digits than any has, one that is beyond all."""
    return int(digits) if len(digits) <= 20 else 2**64
