"""What a shim is to be asked so that it does what its job's record says. Pure.

Covers: the words for the present state. Does not cover: when they are said (apply.py, cuda_context.py).
"""

from __future__ import annotations

from supervisor.core.jobs.effects import AskPause, AskResume, AskStop, Effect, Signal
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState

__all__ = ["ask_again", "ask_pause"]


def ask_pause(job: Job) -> AskPause:
    """Return the pause that is under way, as its shim is asked for it."""
    pause = job.pause
    assert pause is not None
    by_rule = pause.by is not None and pause.by.kind == "rule"
    return AskPause(job.name, job.request, pause.depth, by_rule)


def ask_again(job: Job) -> tuple[Effect, ...]:
    """Return what a process that could not listen is to be asked now that it can."""
    match job.state:
        case JobState.PAUSING:
            return (ask_pause(job),)
        case JobState.RUNNING | JobState.RESUMING:
            return (AskResume(job.name, job.request),)
        case JobState.STOPPING if not job.is_ending:
            return (AskStop(job.name, job.request),)
        case JobState.STOPPING if job.run and job.run.insisted == "TERM":
            return (Signal(job.name, job.incarnation, "TERM"),)
        case _:
            return ()
