"""What the policy remembers from one decision to the next.

Covers: records only; the daemon stores them as JSON and hands them back after
a restart, so a field is never renamed, and a new one needs a default.
Does not cover: how they change (rulebook.py, history.py, policy.py).

A lost memory does no harm: a rule that paused a job is taken to be on until it
has been clear for its time, and a footprint that nobody remembers is asked of
the job's own figures.
"""

from __future__ import annotations

import msgspec

from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.hysteresis import Trend, Trigger
from supervisor.core.policy.usage import Account

__all__ = ["Footprint", "JobMemory", "Memory"]


class Footprint(msgspec.Struct, frozen=True, omit_defaults=True):
    """The most that a job has used since it last came back."""

    #: 100 is one CPU fully used.
    cpu_pct: float = 0.0
    rss_bytes: float = 0.0
    #: By UUID; only GPUs that it held, and 0 where the driver does not tell how much of one.
    gpu_bytes: dict[str, float] = {}
    #: Since when it has run; older peaks are not in here.
    since: float = 0.0


class JobMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of one job."""

    #: Its state at the last tick: what has changed since is what the policy learns from.
    last_state: JobState = JobState.QUEUED
    footprint: Footprint = Footprint()

    #: The rules, with their places, that keep it paused: the one that paused it, and those that deepened it.
    paused_by: tuple[str, ...] = ()
    #: When the pause began that a rule asked for (None: no rule keeps it); going deeper is no new one.
    paused_at: float | None = None
    #: When it was last asked to yield; 0: never.
    asked_at: float = 0.0
    #: When a rule last brought it back; None: never, or a new pause or a person came after it.
    returned_at: float | None = None
    #: How often in a row it was paused soon after a return; each doubles the wait.
    num_flaps: int = 0
    flapped_at: float = 0.0

    #: When the pause that a person asked for ends by itself; None: it does not, or there is none.
    wakes_at: float | None = None
    #: Rules, with their places, that a person overruled; each counts again once it has been off.
    overruled: tuple[str, ...] = ()
    #: Pauses in a row that the job could not carry out, and when it is asked again.
    num_refusals: int = 0
    ask_again_at: float = 0.0


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of it. Unknown fields of a later version are ignored, missing ones have their defaults."""

    #: When it was last brought up to date; 0: never.
    at: float = 0.0
    #: When the last verdict was that settling waits for, and when the last emergency was; None: never yet.
    acted_at: float | None = None
    urgent_at: float | None = None
    #: The newest verdict on each job that is still there.
    last: dict[str, Verdict] = {}
    #: By rule and place; one that is not here has never been looked at.
    triggers: dict[str, Trigger] = {}
    trends: dict[str, Trend] = {}
    #: A digest of the conditions that those are about, by rule and place: others begin anew.
    conditions: dict[str, str] = {}
    jobs: dict[str, JobMemory] = {}
    #: What each user has had; it has a place of its own in the journal, and is not stored with the rest.
    usage: dict[str, Account] = {}
