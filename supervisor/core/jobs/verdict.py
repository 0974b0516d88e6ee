"""What the policy wants done now, with everything that led to it.

Covers: the records that travel from the policy to the engine, into the journal
and to whoever asks `why`. Does not cover: how they come about (policy.py), what
an event does to a job (apply.py).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from supervisor.core.jobs.states import Depth
from supervisor.core.jobs.treatment import AtDeadline
from supervisor.core.readings.sample import Reading

__all__ = ["QUEUE", "QUEUE_IN_WORDS", "Candidate", "Evidence", "Verdict"]

#: Stands for the rule in verdicts that make room for a queued job, or start one.
QUEUE: Final = "queue"
#: As people read it.
QUEUE_IN_WORDS: Final = "the queue"


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One condition of a rule as it was seen."""

    #: The metric, the clock window or the program.
    what: str
    #: "" for the host, a GPU's UUID, or a job's name.
    place: str = ""
    reading: Reading = 0.0
    unit: str = ""
    #: The threshold that was crossed, with its direction: "> 50" or "< 20".
    threshold: str = ""
    #: How long the reading had been on that side.
    for_s: float = 0.0


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job that was considered, in the order of preference."""

    job: str
    #: In words: "priority 0, frees 3.1 GiB, last checkpoint 40 s ago"; or why it was left alone.
    why: str
    is_chosen: bool = False
    is_eligible: bool = True


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to do to one job, and why."""

    kind: Literal["pause", "deepen", "resume", "start"]
    job: str
    #: The rule, or "queue" for a start and for making room for a queued job.
    rule: str
    #: One line for people: "cpu_foreign_pct 83 % > 50 % for 31 s".
    reason: str
    depth: Depth | None = None
    #: GPUs given to a job that starts or returns, by UUID.
    gpus: tuple[str, ...] = ()
    deadline_s: float = 300.0
    at_deadline: AtDeadline = "wait"
    evidence: tuple[Evidence, ...] = ()
    #: A message has of many the first ones.
    candidates: tuple[Candidate, ...] = ()
    #: All of them, where a message says it; the journal has them all, and leaves it out.
    num_candidates: int = 0
