"""What each user has had: slots times the time that jobs had them, of which old ones count less. Pure.

Covers: how many slots a job takes and when, the account of each user, what was had up to now.
Does not cover: what follows from it (shares.py), storing it (accounts.py).

The idea is that of the fair share of Slurm's multifactor priority (PriorityDecayHalfLife) and of HTCondor's
effective user priority: what was had is halved every so many seconds, so nobody pays for ever, and a user who
always has N slots comes to a mean of N. An account is written when a job gives its slots back, so it is exact
whenever the daemon ended and began; what jobs have that still run is reckoned from their records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from supervisor.core.jobs.job import Job
from supervisor.core.jobs.names import user_of
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.rules import SharesConfig

__all__ = ["Account", "Use", "charged", "had", "is_over", "mean_slots", "num_slots", "takes", "use_of"]

#: Less is forgotten: users who were here once must not be remembered for ever.
_LEAST_SLOT_S = 1e-3


class Account(msgspec.Struct, frozen=True):
    """What one user had, as it counted at a moment of the steady clock."""

    slot_s: float
    at: float


class Use(NamedTuple):
    """Slots that a job of a user had from one moment to another."""

    user: str
    slots: float
    begin: float
    end: float


def takes(job: Job) -> bool:
    """Say whether it has its slots now: while it lives, but for a pause that it did not want itself."""
    if job.state is JobState.PAUSED and job.asked_by is not None and job.asked_by.kind == "rule":
        return False
    return job.alive


def num_slots(job: Job, seen_on: Iterable[str], shares: SharesConfig) -> float:
    """Return as how many slots it counts: by its GPUs, also such as it did not ask for, or by its CPUs.

    So what is asked for costs the same in one job as in many. Each counts as one at least.
    """
    num_gpus = max(len({*job.gpus, *seen_on}), job.spec.num_gpus)
    return max(1.0, num_gpus, job.spec.num_cpus / shares.slot_cpus)


def use_of(job: Job, slots: float, until: float) -> Use:
    """Return what its user has had of it in its present state."""
    return Use(user_of(job.name), slots, job.since, until)


def is_over(before: Job, after: Job) -> bool:
    """Say whether a use ends with a change of a job."""
    return takes(before) and (before.since != after.since or not takes(after))


def charged(usage: Mapping[str, Account], use: Use, shares: SharesConfig, now: float) -> dict[str, Account]:
    """Return the accounts with a use that is over."""
    known = usage.get(use.user, Account(0.0, now))
    slot_s = _left(known, shares, now) + _counted(use, shares, now)
    others = {name: one for name, one in usage.items() if _left(one, shares, now) >= _LEAST_SLOT_S}
    return {**others, use.user: Account(slot_s, now)}


def had(
    usage: Mapping[str, Account], uses: Iterable[Use], shares: SharesConfig, now: float
) -> dict[str, float]:
    """Return the slot seconds that each user has had, with uses that are not over, as they count now."""
    found = {user: _left(one, shares, now) for user, one in usage.items()}
    for use in uses:
        found[use.user] = found.get(use.user, 0.0) + _counted(use, shares, now)
    return found


def mean_slots(slot_s: float, shares: SharesConfig) -> float:
    """Return how many slots somebody has had all the time who has had so much."""
    return slot_s * math.log(2) / shares.half_life_s


def _left(one: Account, shares: SharesConfig, now: float) -> float:
    return one.slot_s * _halved(now - one.at, shares)


def _counted(use: Use, shares: SharesConfig, now: float) -> float:
    """Return its slot seconds, each as it counts now."""
    since_end, since_begin = _halved(now - use.end, shares), _halved(now - use.begin, shares)
    return use.slots * (since_end - since_begin) * shares.half_life_s / math.log(2)


def _halved(for_s: float, shares: SharesConfig) -> float:
    return float(0.5 ** (max(0.0, for_s) / shares.half_life_s))
