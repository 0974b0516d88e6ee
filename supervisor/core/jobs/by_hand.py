"""Jobs that a person started without us, and that were taken up when their training shim said hello. Pure.

Covers: what such a process can give back, how its end is taken, what is refused of it.
Does not cover: who is taken up and under which name (server/adopting.py).

Its process is no child of ours: that it ended is seen, how is not. A start that we make later of its
command is a start as any other.
"""

from __future__ import annotations

from typing import Final

from supervisor.core.jobs.events import ProcessEnded
from supervisor.core.jobs.job import Exit, Job, JobRun
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.replacing import replace
from supervisor.errors import Refused

__all__ = ["able", "as_told", "check_startable", "how_to_exit", "is_over_with"]

_UNSEEN: Final = "ended; how is not known, it was started by hand"
_NOBODY_SAID: Final = "it was started by hand, and nobody said how it is started again"
_HOW: Final = "`attach(restart=[...])` in its script says how it is started again"


def able(job: Job, depths: tuple[Depth, ...]) -> tuple[Depth, ...]:
    """Return the depths that are of use: a process that nobody can start again is not to end for a pause."""
    if job.spec.by_hand == "once":
        return tuple(depth for depth in depths if depth is not Depth.EXIT)
    return depths


def as_told(job: Job, event: ProcessEnded) -> ProcessEnded:
    """Return the end of a process in the words that are true of one that was started by hand."""
    if job.is_by_hand and event.exit.error:
        return replace(event, exit=Exit(error=_UNSEEN))
    return event


def is_over_with(ended: Job, run: JobRun, *, yielded: bool) -> bool:
    """Say whether the end of a process is that of its job: unless we asked for it and can start it again."""
    if not ended.is_by_hand or ended.state is JobState.STOPPING:
        return False
    is_asked = ended.state is not JobState.RUNNING and (yielded or bool(run.insisted))
    return not (is_asked and ended.spec.by_hand == "again")


def check_startable(job: Job, verb: str) -> None:
    """Raise Refused for a job that nobody said how to start."""
    if job.spec.by_hand == "once":
        raise Refused(
            f"cannot {verb} job `{job.name}`: {_NOBODY_SAID}",
            hint=f"start it by hand once more; {_HOW}",
        )


def how_to_exit(job: Job, depth: Depth) -> tuple[str, str]:
    """Return why a job cannot be paused at depth `exit` and what to do; empty words where it is not that."""
    if job.spec.by_hand != "once" or depth is not Depth.EXIT:
        return "", ""
    return _NOBODY_SAID, f"`supervisorctl pause {job.name} --depth {job.depths[-1]}`; {_HOW}"
