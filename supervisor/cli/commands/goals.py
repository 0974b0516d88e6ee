"""When a waiting command is done, and whether it got what it asked for. Pure.

Covers: one small function per goal, from a job's row to a verdict.
Does not cover: asking, showing stages, time-outs (waiting.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from supervisor.api import JobRow
from supervisor.cli.output.render import state_of
from supervisor.cli.output.text import clean
from supervisor.core.jobs.states import FINAL, JobState
from supervisor.core.jobs.verdict import QUEUE_IN_WORDS

__all__ = ["GOALS", "Since", "WaitOutcome", "is_over", "judge"]


class WaitOutcome(NamedTuple):
    """The end of waiting for one job; `text` reads on after its name."""

    ok: bool
    text: str


class Since(NamedTuple):
    """What is known of the time before the request."""

    #: The job's row then; None where nobody looked.
    before: JobRow | None = None
    #: Seconds since the request was sent.
    elapsed_s: float = 0.0


def is_over(row: JobRow) -> bool:
    """No process, and no restart planned."""
    return row.state in FINAL and row.restart_in_s is None


def judge(goal: str, row: JobRow, since: Since) -> WaitOutcome | None:
    """Return how it ended, or None while there is something to wait for."""
    return GOALS[goal](row, since)


def _ended(row: JobRow) -> str:
    """Say how a job ended, or what it does instead of ending."""
    text = state_of(row)
    return f"{text}: {clean(row.problem)}" if row.problem else text


def _at_step(row: JobRow) -> str:
    step = row.checkpoint_step if row.checkpoint_step is not None else row.step
    return state_of(row) if step is None else f"{state_of(row)} at step {step}"


def _pause(row: JobRow, _since: Since) -> WaitOutcome | None:
    match row.state:
        case JobState.PAUSED if row.problem and row.depth != "exit":
            # It goes on holding, but could not go deeper.
            return WaitOutcome(ok=False, text=_ended(row))
        case JobState.PAUSED:
            return WaitOutcome(ok=True, text=_at_step(row))
        case JobState.COMPLETED:
            # The pause lost the race with a clean finish, which is no error.
            return WaitOutcome(ok=True, text="completed before it came to the pause")
        case JobState.FAILED | JobState.STOPPED | JobState.STOPPING:
            return WaitOutcome(ok=False, text=_ended(row))
        case JobState.RUNNING | JobState.RESUMING:
            return WaitOutcome(
                ok=False, text=row.problem or f"it is {row.state} again: the pause was called off"
            )
        case _:
            return None


def _resume(row: JobRow, _since: Since) -> WaitOutcome | None:
    match row.state:
        case JobState.RUNNING:
            return WaitOutcome(ok=True, text="running")
        case JobState.COMPLETED:
            return WaitOutcome(ok=True, text="completed")
        case JobState.RESUMING | JobState.STARTING | JobState.QUEUED:
            return None
        case JobState.PAUSED if row.asked_by == QUEUE_IN_WORDS:
            # It goes on when it is its turn.
            return None
        case _:
            return WaitOutcome(ok=False, text=_ended(row))


def _stop(row: JobRow, _since: Since) -> WaitOutcome | None:
    match row.state:
        case JobState.STOPPED | JobState.COMPLETED:
            return WaitOutcome(ok=True, text=_at_step(row) if row.state == JobState.STOPPED else "completed")
        case JobState.STOPPING:
            return None
        case JobState.FAILED:
            return WaitOutcome(ok=False, text=_ended(row))
        case _:
            return WaitOutcome(ok=False, text=row.problem or f"it is {row.state}: the stop was called off")


def _kill(row: JobRow, _since: Since) -> WaitOutcome | None:
    if row.state == JobState.STOPPING:
        # Nothing more is needed of a disk that is full.
        return WaitOutcome(ok=True, text=row.stage) if row.ended else None
    return WaitOutcome(ok=is_over(row), text=_ended(row))


def _restart(row: JobRow, since: Since) -> WaitOutcome | None:
    is_new = since.before is None or row.incarnation > since.before.incarnation
    match row.state:
        case JobState.RUNNING if is_new:
            return WaitOutcome(ok=True, text="running")
        case JobState.RUNNING:
            return WaitOutcome(ok=False, text=row.problem or "it still runs: the restart was called off")
        case JobState.COMPLETED if is_new:
            return WaitOutcome(ok=True, text="completed")
        case JobState.FAILED | JobState.STOPPED | JobState.COMPLETED | JobState.PAUSED:
            return WaitOutcome(ok=False, text=_ended(row))
        case _:
            return None


def _checkpoint(row: JobRow, since: Since) -> WaitOutcome | None:
    if _is_newer(row, since):
        return WaitOutcome(ok=True, text=f"checkpoint at step {row.checkpoint_step}")
    before = since.before
    if row.state != JobState.RUNNING:
        return WaitOutcome(ok=False, text=f"it is {_ended(row)}, and wrote none since the request")
    if row.problem and (before is None or row.problem != before.problem):
        return WaitOutcome(ok=False, text=row.problem)
    return None


def _is_newer(row: JobRow, since: Since) -> bool:
    """Say whether the newest checkpoint was written for, or after, the request.

    Its age alone tells on one clock; the step rules out one that was begun before the request
    and only became durable after it.
    """
    if row.checkpoint_step is None or row.checkpoint_age_s is None:
        return False
    begun_at = since.before.step if since.before is not None else None
    return row.checkpoint_age_s <= since.elapsed_s and row.checkpoint_step >= (begun_at or 0)


def _completed(row: JobRow, _since: Since) -> WaitOutcome | None:
    return WaitOutcome(ok=row.state == JobState.COMPLETED, text=_ended(row)) if is_over(row) else None


def _over(row: JobRow, _since: Since) -> WaitOutcome | None:
    return WaitOutcome(ok=True, text=_ended(row)) if is_over(row) else None


def _until(state: JobState) -> Callable[[JobRow, Since], WaitOutcome | None]:
    def reached(row: JobRow, _since: Since) -> WaitOutcome | None:
        if row.state == state:
            return WaitOutcome(ok=True, text=_at_step(row) if state == JobState.PAUSED else state_of(row))
        return WaitOutcome(ok=False, text=_ended(row)) if is_over(row) else None

    return reached


#: The verbs that take --wait, and what `wait --for` takes.
GOALS: Final[dict[str, Callable[[JobRow, Since], WaitOutcome | None]]] = {
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
    "kill": _kill,
    "restart": _restart,
    "checkpoint": _checkpoint,
    "completed": _completed,
    "over": _over,
    "paused": _until(JobState.PAUSED),
    "running": _until(JobState.RUNNING),
}
