"""What is to be done for several users, one thing at a time: users are served in turn.

Covers: the order, and handing over between threads. Does not cover: what it is.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["UserTurns"]

T = TypeVar("T")


class UserTurns(Generic[T]):
    """A queue in which nobody waits for all that another user has asked for; one user's stay in order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._changed = threading.Condition()
        #: Who is next comes first.
        self._by_user: dict[str, deque[T]] = {}
        self._is_closed = False

    def put(self, user: str, one: T) -> None:
        """Add one; any thread."""
        with self._changed:
            self._by_user.setdefault(user, deque()).append(one)
            self._changed.notify()

    def close(self) -> None:
        """Add no more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def get(self) -> T | None:
        """Wait for the next one; None: there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._by_user or self._is_closed)
            if not self._by_user:
                return None
            user = next(iter(self._by_user))
            waiting = self._by_user.pop(user)
            one = waiting.popleft()
            if waiting:
                self._by_user[user] = waiting
            return one
