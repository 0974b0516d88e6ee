"""Names for jobs that were given none: `job-N`, counted for each user.

Covers: the next name, also after a restart. Does not cover: names that people choose.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Final

from supervisor.core.jobs import names

__all__ = ["Numbering"]

_FACT: Final = "next_job_number"


class Numbering:
    """Used from the loop's thread. A number is never given twice, whatever was removed meanwhile."""

    def __init__(self, facts: Mapping[str, str], remember: Callable[[Mapping[str, str]], None]) -> None:
        """Take what the journal knows, and where it is told."""
        self._remember = remember
        self._next = {
            name.removeprefix(_FACT).removeprefix("."): int(value)
            for name, value in facts.items()
            if name == _FACT or name.startswith(f"{_FACT}.")
        }

    def next_key(self, user: str, taken: Container[str]) -> str:
        """Return the key of a user's next job; "" is the daemon's own user."""
        number = self._next.get(user, 1)
        while (key := names.key_of(user, f"job-{number}")) in taken:
            number += 1
        self._next[user] = number + 1
        self._remember({f"{_FACT}.{user}" if user else _FACT: str(number + 1)})
        return key
