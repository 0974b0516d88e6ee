"""What the policy answers to people: records only.

Covers: why a job is where it is, and a rule at one place as it is now; messages to commands hold them as
they are.
Does not cover: how they come about (explain.py, rule_states.py), what is printed (cli/).

The command line imports this with the messages, so nothing of the policy that decides is imported here.
A field of a record that travels is never renamed, and a new one needs a default.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import Candidate, Verdict
from supervisor.core.policy.hysteresis import Side
from supervisor.core.readings.sample import Reading

__all__ = ["USUAL_WAIT", "ConditionState", "Explanation", "RuleState", "Share", "WentOn"]

#: Times `resume_after_s` of a rule: the wait of a job that was not paused soon after a return.
USUAL_WAIT: Final = 1.0


class ConditionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One condition of a rule as it is now."""

    what: str
    unit: str = ""
    reading: Reading = 0.0
    #: Beyond this it is short: "> 50"; beyond that it is clear: "< 20". "" for windows and programs.
    short: str = ""
    clear: str = ""
    side: Side = Side.UNKNOWN
    #: 0 at the clear threshold or beyond, 100 where it is short.
    near_pct: float = 0.0


class RuleState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule at one place, now."""

    rule: str
    #: "" for the host, a GPU's UUID, or a job's name.
    place: str = ""
    about: str = ""
    is_enabled: bool = True
    is_on: bool = False
    side: Side = Side.UNKNOWN
    conditions: tuple[ConditionState, ...] = ()
    #: The least near of its conditions: all have to be short.
    near_pct: float = 0.0
    #: How long it has been on or off; 0: since the daemon knows it.
    for_s: float = 0.0
    #: How long it has been on the side that would turn it, and how long that has to be.
    held_s: float = 0.0
    hold_s: float = 0.0
    #: Jobs that it is about, whether or not they could be asked; a message has of many the first ones.
    jobs: tuple[str, ...] = ()
    #: All of them; 0: an earlier daemon, which names all it counts.
    num_jobs: int = 0
    #: It has no reading, why and for how long.
    missing: str = ""
    missing_for_s: float = 0.0
    #: To be said aloud, or "".
    alarm: str = ""


class WentOn(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job came to run; without `by` it happened by itself."""

    by: str = ""
    by_kind: Literal["", "person", "rule"] = ""
    did: str = ""
    why: str = ""


class Share(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one user's jobs have had of the machine, and have now."""

    #: "": the daemon's own user; a message has his name.
    user: str
    weight: float = 1.0
    #: Hours times slots, as they count now: what was had long ago counts less.
    slot_h: float = 0.0
    num_slots: float = 0.0
    num_waiting: int = 0
    #: One of his jobs is the next that goes on.
    is_next: bool = False
    #: The job that is asked about is his.
    is_jobs: bool = False


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `why JOB`."""

    job: str
    state: JobState
    #: One sentence: where it is and who wanted that.
    summary: str
    for_s: float = 0.0
    #: What asked for it: a person's name or a rule's, "" where nobody did.
    by: str = ""
    by_kind: Literal["", "person", "rule"] = ""
    reason: str = ""
    #: Of a job that runs, or is about to.
    went_on: WentOn | None = None
    #: The verdict of the policy that led here, with what it was made from; None: none did.
    verdict: Verdict | None = None
    #: The rules that keep it paused, or for a running job the one that is nearest to being short.
    rules: tuple[RuleState, ...] = ()
    #: What stands in its way now, each in words; empty: nothing does.
    waits_for: tuple[str, ...] = ()
    #: What has to happen for it to go on, or what would make it yield.
    next: str = ""
    #: Seconds until the pause is late, or ends by itself.
    deadline_in_s: float | None = None
    wakes_in_s: float | None = None
    #: Among the jobs that wait to go on, from 1.
    position: int | None = None
    line_length: int = 0
    #: Of a job that waits: who has had how much, the least for his weight first; empty: there is one user.
    shares: tuple[Share, ...] = ()
    #: A person may start this queued job all the same: there is a GPU for it, if not a free one.
    can_be_started: bool = True
    #: How often in a row it was paused soon after a return, and by how much that lengthens the wait.
    num_flaps: int = 0
    wait_factor: float = USUAL_WAIT
    #: Who would be asked, in order, by the rule that is nearest or on.
    candidates: tuple[Candidate, ...] = ()
