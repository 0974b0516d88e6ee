"""Freeing the CUDA context of a job that is paused at depth `offload`, and taking it back. Pure.

Covers: when that may begin; that nothing is asked of a process before its context is back; tries, a
limit to them, and what becomes of a process whose context does not come back.
Does not cover: how (freezer.py), whether it is wanted at all (`[jobs] free_cuda_context`, engine.py).

A process without its context runs, but waits for ever in its next call of CUDA. So whatever ends the
pause takes the context back first; only then the shim hears of it. SIGKILL alone waits for nothing. What
the driver came to and nobody heard of (`unsure`) counts as freed: taking back what is there does no harm.
"""

from __future__ import annotations

from typing import Final, Literal

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
    TakeUp,
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
from supervisor.core.jobs.job import CudaContext, Job, JobRun
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.replacing import replace

__all__ = [
    "again",
    "in_order",
    "is_away",
    "may_begin",
    "moved",
    "suspend",
    "taken_up",
    "where",
    "with_more_time",
    "words",
]

_Outcome = tuple[Job, tuple[Effect, ...]]

#: Between two tries to take a context back, and between two SIGKILLs.
_AGAIN_S: Final = 10.0


def may_begin(job: Job, event: JobEvent) -> bool:
    """Say whether a job's context can be freed after this event.

    It waits at a boundary, in the words of its shim: the journal alone does not know that it still does.
    """
    is_word = isinstance(event, PauseReached | PauseFailed | Attached)
    return is_word and _is_free_to(job)


def is_away(run: JobRun) -> bool:
    """Say whether a process may be without its context: it has done nothing since its checkpoint."""
    return run.context is not None and run.context.where != "kept"


def suspend(job: Job, event: SuspendAsked, _now: float) -> _Outcome:
    """Free the context of a job that rests."""
    if job.run is None or not _is_free_to(job):
        return job, ()
    context = CudaContext(where="freeing", process=event.process, limit_s=event.restore_limit_s)
    return _with(job, job.run, context), (Suspend(job.name, event.process),)


def taken_up(job: Job, event: ContextUnknown, _now: float) -> _Outcome:
    """Do again what may not have been done; nobody tells any more what came of freeing it."""
    run = job.run
    if run is None or run.context is None or event.incarnation != job.incarnation:
        return job, ()
    match run.context.where:
        case "freeing":
            return _with(job, run, replace(run.context, where="unsure")), ()
        case "taking":
            return job, (Unsuspend(job.name, run.context.process),)
        case "lost":
            return job, (Signal(job.name, job.incarnation, "KILL"),)
        case _:
            return job, ()


def moved(job: Job, event: ContextMoved, now: float) -> _Outcome:
    """Note where the context is; the driver may also say so late, when nobody waits for it any more."""
    run = job.run
    if run is None or run.context is None or run.context.process != event.process:
        return job, ()
    context = run.context
    if context.where == "lost":
        return job, ()
    if event.is_freed is False:
        return _is_back(job, run, context, event.why)
    if context.where == "taking":
        at = now + _AGAIN_S if context.limit_at is None else min(now + _AGAIN_S, context.limit_at)
        return _with(job, run, replace(context, at=at, problem=event.why or context.problem)), ()
    if event.is_freed:
        return _with(job, run, replace(context, where="freed", problem="")), ()
    if context.where == "freeing":
        return _with(job, run, replace(context, where="unsure", problem=event.why)), ()
    return job, ()


def _is_back(job: Job, run: JobRun, context: CudaContext, why: str) -> _Outcome:
    """It can listen; what was kept from it is said now."""
    if context.where == "freeing" and _rests(job):
        return _with(job, run, replace(context, where="kept", problem=why)), ()
    back = _with(job, run, None)
    return back, (ask_again(back) if is_away(run) else ())


def again(job: Job, now: float) -> _Outcome:
    """Try once more to take it back; behind the limit, end the process: its checkpoint is durable."""
    run = job.run
    if run is None or run.context is None:
        return job, ()
    context = replace(run.context, at=None)
    if context.where == "taking" and context.limit_at is not None and now < context.limit_at:
        retried = replace(context, at=context.limit_at)
        return _with(job, run, retried), (Unsuspend(job.name, context.process),)
    if context.where not in ("taking", "lost"):
        return _with(job, run, context), ()
    problem = job.problem if context.where == "lost" else _not_back(context)
    lost = replace(context, where="lost", at=now + _AGAIN_S)
    killed = replace(_with(job, run, lost), problem=problem)
    return killed, (Signal(job.name, job.incarnation, "KILL"),)


def _not_back(context: CudaContext) -> str:
    why = f" ({context.problem})" if context.problem else ""
    return (
        f"cannot take its CUDA context back within {context.limit_s:g} s{why}; its process was ended, "
        "it starts again from its checkpoint"
    )


def with_more_time(job: Job, event: JobEvent) -> JobEvent:
    """Give a pause more time while the context comes back: neither SIGSTOP nor SIGTERM would help then."""
    if isinstance(event, TimerFired) and event.timer == "deadline" and job.run and is_away(job.run):
        return replace(event, is_saving=True)
    return event


def in_order(job: Job, effects: tuple[Effect, ...], now: float) -> _Outcome:
    """Begin to take the context back when the job no longer rests, and ask nothing of it before that."""
    run = job.run
    if run is None or run.context is None or _rests(job):
        return job, effects
    context = run.context
    if context.where == "kept":
        return _with(job, run, None), effects
    if context.where in ("freed", "unsure"):
        limit_at = now + context.limit_s
        job = _with(job, run, replace(context, where="taking", at=limit_at, limit_at=limit_at))
        effects = (Unsuspend(job.name, context.process), *effects)
    return job, tuple(effect for effect in effects if not _needs_it_to_run(effect))


def where(job: Job) -> Literal["held", "kept", "freeing", "freed", "unsure", "taking", "lost"]:
    """Say where the context is; `held` where it always was."""
    return job.run.context.where if job.run and job.run.context else "held"


def words(job: Job) -> str:
    """Say where the context is, where that is to be known."""
    context = job.run.context if job.run else None
    why = f": {context.problem}" if context and context.problem else ""
    match where(job):
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


def _with(job: Job, run: JobRun, context: CudaContext | None) -> Job:
    return replace(job, run=replace(run, context=context))


def _needs_it_to_run(effect: Effect) -> bool:
    match effect:
        case AskPause() | AskResume() | AskStop() | AskCheckpoint():
            return True
        case EndGroup():
            return False
        case Signal(_, _, word):
            return word in ("TERM", "STOP")
        case Launch() | TakeUp() | Suspend() | Unsuspend():
            return False


def _is_free_to(job: Job) -> bool:
    """It rests, and it was not tried in this pause."""
    # What cannot be started again is not to depend on a driver that may not give the context back.
    return _rests(job) and where(job) == "held" and job.spec.by_hand != "once"


def _rests(job: Job) -> bool:
    return job.alive and job.state is JobState.PAUSED and job.depth is Depth.OFFLOAD
