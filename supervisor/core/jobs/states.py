"""The job state machine, as one table.

Covers: which state follows which kind of event. Nothing else decides that.
Does not cover: when an event is raised, what is done about it (effects.py),
what else of the job changes (job.py), how it is remembered (store/).

Every test here is a table lookup. The diagram in docs/ARCHITECTURE.md is
drawn from TRANSITIONS by `python -m supervisor.core.jobs.diagram`; a test fails
when the two differ.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from supervisor.errors import InvalidTransition

__all__ = ["FINAL", "TRANSITIONS", "Depth", "JobState", "Kind", "accepts", "next_state"]


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class Depth(StrEnum):
    """How much a paused job gives back; each gives back what the one before does, and more."""

    HOLD = "hold"
    OFFLOAD = "offload"
    EXIT = "exit"


class Kind(StrEnum):
    """What can happen to a job, as the table sees it. The value is the verb that errors use."""

    LAUNCH = "launch"
    ADOPT = "adopt"
    READY = "ready"
    PAUSE = "pause"
    YIELDED = "yielded"
    NOT_PAUSED = "not-paused"
    STILL_HELD = "still-held"
    RESUME = "resume"
    RESUMED = "resumed"
    STOP = "stop"
    STOP_IDLE = "stop-idle"
    ENDED_OK = "ended-ok"
    ENDED_BAD = "ended-bad"
    ENDED_YIELDED = "ended-yielded"
    ENDED_UNSEEN = "ended-unseen"
    RESTART = "restart"


S, K = JobState, Kind

TRANSITIONS: Final = MappingProxyType(
    {
        # Whatever it waits for, a person may start it now.
        S.QUEUED: {
            K.LAUNCH: S.STARTING,
            # Its process runs already: a person started it by hand.
            K.ADOPT: S.RUNNING,
            K.RESUME: S.STARTING,
            K.PAUSE: S.PAUSED,
            K.STOP_IDLE: S.STOPPED,
        },
        S.STARTING: {
            K.READY: S.RUNNING,
            K.PAUSE: S.PAUSING,
            K.STOP: S.STOPPING,
            K.ENDED_OK: S.COMPLETED,
            K.ENDED_BAD: S.FAILED,
        },
        S.RUNNING: {
            K.PAUSE: S.PAUSING,
            K.STOP: S.STOPPING,
            K.ENDED_OK: S.COMPLETED,
            K.ENDED_BAD: S.FAILED,
            # A pause was called off when its process was already on its way out, and the
            # shim had said hello once more in between.
            K.ENDED_YIELDED: S.RESUMING,
            # Started by hand: how it ended nobody saw, and who started it may again.
            K.ENDED_UNSEEN: S.STOPPED,
        },
        # A pause can lose the race with a clean finish. That is not an error.
        S.PAUSING: {
            K.YIELDED: S.PAUSED,
            # A held job that could not go deeper goes on holding, not training.
            K.STILL_HELD: S.PAUSED,
            K.NOT_PAUSED: S.RUNNING,
            K.PAUSE: S.PAUSING,
            K.RESUME: S.RESUMING,
            K.STOP: S.STOPPING,
            K.ENDED_OK: S.COMPLETED,
            K.ENDED_BAD: S.FAILED,
            K.ENDED_YIELDED: S.PAUSED,
            K.ENDED_UNSEEN: S.STOPPED,
        },
        # A process that dies while it is held leaves a durable checkpoint: the job stays
        # paused, one depth further down. So a power cut during a pause loses nothing.
        S.PAUSED: {
            K.PAUSE: S.PAUSING,
            K.RESUME: S.RESUMING,
            K.RESUMED: S.RUNNING,
            K.STOP: S.STOPPING,
            K.STOP_IDLE: S.STOPPED,
            # Paused by a rule it went on alone while the daemon was away, to its end.
            K.ENDED_OK: S.COMPLETED,
            K.ENDED_YIELDED: S.PAUSED,
            K.ENDED_UNSEEN: S.STOPPED,
        },
        # A resume may overtake a pause whose process is already on its way out
        # (ENDED_YIELDED): the job is launched again and stays resuming.
        S.RESUMING: {
            K.READY: S.RUNNING,
            K.RESUMED: S.RUNNING,
            K.PAUSE: S.PAUSING,
            K.STOP: S.STOPPING,
            K.ENDED_OK: S.COMPLETED,
            K.ENDED_BAD: S.FAILED,
            K.ENDED_YIELDED: S.RESUMING,
            K.ENDED_UNSEEN: S.STOPPED,
        },
        # Whatever the exit status, a job that was asked to stop has stopped.
        # NOT_PAUSED: without a checkpoint a stop would lose work, so training goes on; `kill` insists.
        S.STOPPING: {
            K.STOP: S.STOPPING,
            K.NOT_PAUSED: S.RUNNING,
            K.ENDED_OK: S.STOPPED,
            K.ENDED_BAD: S.STOPPED,
            K.ENDED_YIELDED: S.STOPPED,
        },
        S.COMPLETED: {K.RESTART: S.QUEUED},
        # STOP_IDLE of a failed job calls off a restart that is due.
        S.FAILED: {K.RESTART: S.QUEUED, K.STOP_IDLE: S.STOPPED},
        S.STOPPED: {K.RESTART: S.QUEUED},
    }
)

#: States without a process and without a plan to have one.
FINAL: Final = frozenset({S.COMPLETED, S.FAILED, S.STOPPED})

#: What a person may type for each kind that a person can cause.
_VERBS: Final = MappingProxyType(
    {K.PAUSE: "pause", K.RESUME: "resume", K.STOP: "stop", K.STOP_IDLE: "stop", K.RESTART: "restart"}
)


def accepts(state: JobState, kind: Kind) -> bool:
    """Say whether the table has a row for it."""
    return kind in TRANSITIONS[state]


def next_state(job: str, state: JobState, kind: Kind, *, verb: str = "") -> JobState:
    """Return the state that follows; raises InvalidTransition, in the words typed, and changes nothing."""
    try:
        return TRANSITIONS[state][kind]
    except KeyError:
        verbs = dict.fromkeys(_VERBS[kind] for kind in TRANSITIONS[state] if kind in _VERBS)
        allowed = ", ".join(verbs) or "nothing, it is over"
        raise InvalidTransition(job, state, verb or _VERBS.get(kind, kind), allowed) from None
