"""What each user has had, kept in the journal: written with the change of a job that ends a use.

Covers: the accounts across restarts. Does not cover: what counts, and for how long (core/policy/usage.py).

An account and the change that it comes from are stored with one batch, so neither is ever without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from supervisor.core.jobs.job import Job
from supervisor.core.policy.memory import JobMemory
from supervisor.core.policy.rules import SharesConfig
from supervisor.core.policy.usage import Account, charged, is_over, num_slots, use_of
from supervisor.core.replacing import replace
from supervisor.last_look import LastLook
from supervisor.system.procfs import boot_id

__all__ = ["Accounts"]

_FACT: Final = "users.usage"


class Accounts:
    """Used from the loop's thread. The policy reads them in the memory of its last look."""

    def __init__(
        self, facts: Mapping[str, str], remember: Callable[[Mapping[str, str]], None], look: LastLook
    ) -> None:
        """Take what the journal knows, where it is told, and where the policy looks."""
        self._remember, self._look, self._boot_id = remember, look, boot_id()
        try:
            usage = msgspec.json.decode(facts.get(_FACT, "{}"), type=dict[str, Account])
        except msgspec.MsgspecError as error:
            # All begin anew and alike; a daemon that does not start costs more.
            structlog.get_logger("accounts").warning("usage-dropped", error=str(error))
            usage = {}
        look.memory = replace(look.memory, usage=usage)

    def note(self, before: Job, after: Job, shares: SharesConfig, now: float) -> None:
        """Take a change of a job; where a use ends with it, that is stored with the next batch."""
        if not is_over(before, after):
            return
        memory = self._look.memory
        # Of one that a reboot ended nobody knows when that was: the machine was there until the last look.
        is_of_this_boot = before.process is None or before.process.boot_id == self._boot_id
        until = now if is_of_this_boot else max(before.since, min(now, memory.at))
        seen_on = memory.jobs.get(before.name, JobMemory()).footprint.gpu_bytes
        use = use_of(before, num_slots(before, seen_on, shares), until)
        usage = charged(memory.usage, use, shares, now)
        self._look.memory = replace(memory, usage=usage)
        self._remember({_FACT: msgspec.json.encode(usage).decode()})
