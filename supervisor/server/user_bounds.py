"""What one user may take of the daemon's sockets: connections, bytes that wait, requests a second.

Covers: counting, and whether a bound is reached.
Does not cover: what is done then, what all together may take (connections.py), jobs (request_context.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic

from supervisor.core.rights import UsersConfig
from supervisor.server.peers import Peer

__all__ = ["UserBounds"]


class UserBounds:
    """By user id. Used from the loop's thread only."""

    def __init__(
        self, is_bounded: Callable[[Peer], bool] = lambda _: False, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """Take who is held to bounds at all, and the clock that requests are counted by."""
        self.config = UsersConfig()
        self._is_bounded = is_bounded
        self._clock = clock
        self._connections: Counter[int] = Counter()
        self._held_bytes: Counter[int] = Counter()
        #: What is left of a user's requests, and when it was so.
        self._left: dict[int, tuple[float, float]] = {}

    def joined(self, peer: Peer) -> None:
        """Count a connection."""
        self._connections[peer.uid] += 1

    def gone(self, peer: Peer) -> None:
        """Count one less."""
        self._connections[peer.uid] -= 1
        if self._connections[peer.uid] <= 0:
            del self._connections[peer.uid]
            del self._held_bytes[peer.uid]

    def hold(self, peer: Peer, more_bytes: int) -> None:
        """Count bytes that the daemon holds for a user, or holds no longer."""
        self._held_bytes[peer.uid] += more_bytes

    def is_crowded(self, peer: Peer) -> bool:
        """Say whether a user has as many connections as he may."""
        return self._is_bounded(peer) and self._connections[peer.uid] >= self.config.max_connections

    def is_heavy(self, peer: Peer) -> bool:
        """Say whether the daemon holds more for a user than it would."""
        return self._is_bounded(peer) and self._held_bytes[peer.uid] > self.config.max_held_bytes

    def spend(self, peer: Peer, requests: float = 1.0) -> None:
        """Count a request, or what is worth some of them."""
        if self._is_bounded(peer):
            self._left[peer.uid] = (self._refilled(peer.uid) - requests, self._clock())

    def wait_s(self, peer: Peer) -> float:
        """Return how long it takes until another request or connection of a user is listened to."""
        if peer.uid not in self._left or not self._is_bounded(peer):
            return 0.0
        return max(0.0, (1.0 - self._refilled(peer.uid)) / self.config.requests_per_s)

    def forget(self) -> None:
        """Let go of users who have asked nothing for a while; call it every few seconds."""
        full = self.config.requests_at_once
        self._left = {uid: one for uid, one in self._left.items() if self._refilled(uid) < full}

    def _refilled(self, uid: int) -> float:
        full = float(self.config.requests_at_once)
        left, at = self._left.get(uid, (full, 0.0))
        return min(full, left + (self._clock() - at) * self.config.requests_per_s)
