"""What each user has had, kept in the journal: written with the change of a job that ends a use.

Covers: the accounts across restarts of the daemon and of the machine.
Does not cover: what counts, and for how long (core/policy/usage.py).

An account and the change that it comes from are stored with one batch, so neither is ever without the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from supervisor.core.jobs.job import Job
from supervisor.core.policy.memory import JobMemory
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.usage import Account, charged, is_over, num_slots, use_of
from supervisor.core.replacing import replace
from supervisor.last_look import LastLook, recalled
from supervisor.ports import Journal
from supervisor.system.procfs import boot_id

__all__ = ["Accounts"]

_FACT: Final = "users.usage"


class Accounts:
    """Used from the loop's thread. The policy reads them in the memory of its last look."""

    def __init__(
        self, journal: Journal, remember: Callable[[Mapping[str, str]], None], look: LastLook
    ) -> None:
        """Take what the journal knows, where it is told, and where the policy looks."""
        self._remember, self._look = remember, look
        facts, present = journal.facts(), boot_id()
        look.memory = replace(look.memory, usage=_usage_in(facts))
        #: The last moment before the reboot that is known of; before all: the machine is up since then.
        self._lost_at = -math.inf
        if facts.get("clock.boot_id", present) != present:
            newest = journal.history(after_seq=-1, job=None, limit=1)
            self._lost_at = max([recalled(facts).at, *(row.at for row in newest)])

    def note(self, before: Job, after: Job, shares: SharesConfig, now: float) -> None:
        """Take a change of a job; where a use ends with it, that is stored with the next batch."""
        if not is_over(before, after):
            return
        memory = self._look.memory
        # A machine that was off for days was nobody's.
        until = self._lost_at if before.since <= self._lost_at else now
        seen_on = memory.jobs.get(before.name, JobMemory()).footprint.gpu_bytes
        use = use_of(before, num_slots(before, seen_on, shares), until)
        usage = charged(memory.usage, use, shares, now)
        self._look.memory = replace(memory, usage=usage)
        self._remember({_FACT: msgspec.json.encode(usage).decode()})


def _usage_in(facts: Mapping[str, str]) -> dict[str, Account]:
    """Return what the journal has of them; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(facts.get(_FACT, "{}"), type=dict[str, Account])
    except msgspec.MsgspecError as error:
        # Accounts begin anew for all alike; a daemon that does not start costs more.
        structlog.get_logger("accounts").warning("fact-dropped", fact=_FACT, error=str(error))
        return {}
