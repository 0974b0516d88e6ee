"""Freeing the CUDA context of a job that is paused at depth `offload`, and taking it back. Pure.

Covers: when that may begin; that nothing is asked of a process before its context is back; tries, a
limit to them, and what becomes of a process whose context does not come back.
Does not cover: how (freezer.py), whether it is wanted at all (`[jobs] free_cuda_context`, engine.py).

A process without its context runs, but waits for ever in its next call of CUDA. So whatever ends the
pause takes the context back first; only then the shim hears of it. SIGKILL alone waits for nothing. What
the driver came to and nobody heard of (`unsure`) counts as freed: taking back what is there does no harm.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from supervisor.core.jobs.asking import ask_again
from supervisor.core.jobs.effects import (
    AskCheckpoint,
    AskPause,
    AskResume,
    AskStop,
    Effect,
    EndGroup,
    Launch,
    Signal,
    Suspend,
    Unsuspend,
)
from supervisor.core.jobs.events import (
    Attached,
    ContextMoved,
    ContextUnknown,
    JobEvent,
    PauseFailed,
    PauseReached,
    SuspendAsked,
    TimerFired,
)
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import Depth, JobState

__all__ = [
    "NOT_SUSPENDED",
    "again",
    "in_order",
    "is_away",
    "may_begin",
    "moved",
    "suspend",
    "taken_up",
    "with_more_time",
    "words",
]

_Outcome = tuple[Job, tuple[Effect, ...]]

#: Between two tries to take a context back, and between two SIGKILLs.
_AGAIN_S: Final = 10.0

#: Where the context is as it always was.
NOT_SUSPENDED: Final[dict[str, Any]] = {
    "context": "held",
    "context_process": None,
    "context_problem": "",
    "context_at": None,
    "context_limit_at": None,
}


def may_begin(job: Job, event: JobEvent) -> bool:
    """Say whether a job's context can be freed after this event.

    It waits at a boundary, in the words of its shim: the journal alone does not know that it still does.
    """
    is_word = isinstance(event, PauseReached | PauseFailed | Attached)
    return is_word and _is_free_to(job)


def is_away(job: Job) -> bool:
    """Say whether its process may be without its context: it has done nothing since its checkpoint."""
    return job.context not in ("held", "kept")


def suspend(job: Job, event: SuspendAsked, _now: float) -> _Outcome:
    """Free the context of a job that rests."""
    if not _is_free_to(job):
        return job, ()
    job = replace(
        job, context="freeing", context_process=event.process, context_limit_s=event.restore_limit_s
    )
    return job, (Suspend(job.name, event.process),)


def taken_up(job: Job, event: ContextUnknown, _now: float) -> _Outcome:
    """Do again what may not have been done; nobody tells any more what came of freeing it."""
    if not job.alive or event.incarnation != job.incarnation:
        return job, ()
    match job.context:
        case "freeing":
            return replace(job, context="unsure"), ()
        case "taking":
            return job, _unsuspend(job)
        case "lost":
            return job, (Signal(job.name, job.incarnation, "KILL"),)
        case _:
            return job, ()


def moved(job: Job, event: ContextMoved, now: float) -> _Outcome:
    """Note where the context is; the driver may also say so late, when nobody waits for it any more."""
    if job.context_process != event.process or job.context == "lost":
        return job, ()
    if event.is_freed is False:
        return _is_back(job, event.why, now)
    if job.context == "taking":
        at = now + _AGAIN_S
        if job.context_limit_at is not None:
            at = min(at, job.context_limit_at)
        return replace(job, context_at=at, context_problem=event.why or job.context_problem), ()
    if event.is_freed:
        return replace(job, context="freed", context_problem=""), ()
    if job.context == "freeing":
        return replace(job, context="unsure", context_problem=event.why), ()
    return job, ()


def _is_back(job: Job, why: str, now: float) -> _Outcome:
    """It can listen; what was kept from it is said now."""
    if job.context == "freeing" and _rests(job):
        return replace(job, context="kept", context_problem=why), ()
    was_away = is_away(job)
    job = replace(job, **NOT_SUSPENDED)
    return job, (ask_again(job, now) if was_away else ())


def again(job: Job, now: float) -> _Outcome:
    """Try once more to take it back; behind the limit, end the process: its checkpoint is durable."""
    job = replace(job, context_at=None)
    if job.context == "taking" and job.context_limit_at is not None and now < job.context_limit_at:
        return replace(job, context_at=job.context_limit_at), _unsuspend(job)
    if job.context not in ("taking", "lost"):
        return job, ()
    why = f" ({job.context_problem})" if job.context == "taking" and job.context_problem else ""
    problem = (
        f"cannot take its CUDA context back within {job.context_limit_s:g} s{why}; its process was ended, "
        "it starts again from its checkpoint"
    )
    problem = job.problem if job.context == "lost" else problem
    job = replace(job, context="lost", context_at=now + _AGAIN_S, problem=problem)
    return job, (Signal(job.name, job.incarnation, "KILL"),)


def with_more_time(job: Job, event: JobEvent) -> JobEvent:
    """Give a pause more time while the context comes back: neither SIGSTOP nor SIGTERM would help then."""
    if isinstance(event, TimerFired) and event.timer == "deadline" and is_away(job):
        return replace(event, is_saving=True)
    return event


def in_order(job: Job, effects: tuple[Effect, ...], now: float) -> _Outcome:
    """Begin to take the context back when the job no longer rests, and ask nothing of it before that."""
    if _rests(job) or job.context == "held":
        return job, effects
    if job.context == "kept":
        return replace(job, **NOT_SUSPENDED), effects
    if job.context in ("freed", "unsure"):
        limit_at = now + job.context_limit_s
        job = replace(job, context="taking", context_at=limit_at, context_limit_at=limit_at)
        effects = (*_unsuspend(job), *effects)
    return job, tuple(effect for effect in effects if not _needs_it_to_run(effect))


def words(job: Job) -> str:
    """Say where the context is, where that is to be known."""
    why = f": {job.context_problem}" if job.context_problem else ""
    match job.context:
        case "freeing":
            return "freeing its CUDA context"
        case "freed":
            return "CUDA context freed"
        case "unsure":
            return f"it is not known whether its CUDA context is freed{why}"
        case "kept":
            return f"keeps its CUDA context{why}"
        case "taking":
            return f"taking its CUDA context back{why}"
        case "lost":
            return "waiting for the process to end"
        case "held":
            return ""


def _unsuspend(job: Job) -> tuple[Effect, ...]:
    return () if job.context_process is None else (Unsuspend(job.name, job.context_process),)


def _needs_it_to_run(effect: Effect) -> bool:
    match effect:
        case AskPause() | AskResume() | AskStop() | AskCheckpoint():
            return True
        case EndGroup():
            return False
        case Signal(_, _, word):
            return word in ("TERM", "STOP")
        case Launch() | Suspend() | Unsuspend():
            return False


def _is_free_to(job: Job) -> bool:
    """It rests, and it was not tried in this pause."""
    return _rests(job) and job.context == "held"


def _rests(job: Job) -> bool:
    return job.alive and job.state is JobState.PAUSED and job.depth is Depth.OFFLOAD
