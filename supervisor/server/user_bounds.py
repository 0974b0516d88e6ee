"""What one user may take of the daemon's sockets: connections, bytes that wait, requests, words of shims.

Covers: counting, and whether a bound is reached.
Does not cover: what is done then, what all together may take (connections.py), jobs (request_context.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final

from supervisor.core.rights import UsersConfig
from supervisor.server.peers import Peer
from supervisor.settings.config import ShimConfig

__all__ = ["UserBounds"]

#: What a user's shims may say: each so much a second and twice its heartbeats, and so much at once. On the
#: way into a pause and out of it a shim says some ten words.
_WORDS_PER_S: Final = 5.0
_WORDS_AT_ONCE: Final = 100.0


class _Measures:
    """What is left to each user of so many at once and so many a second."""

    def __init__(self, of: Callable[[int], tuple[float, float]], clock: Callable[[], float]) -> None:
        """Take how many a user has at once and a second, and the clock."""
        self._of, self._clock = of, clock
        #: How many are left, and when it was so; all of them where a user is not in it.
        self._left: dict[int, tuple[float, float]] = {}

    def refill(self, uid: int) -> float:
        """Return what is left by now."""
        (full, per_s), now = self._of(uid), self._clock()
        left, at = self._left.get(uid, (full, now))
        self._left[uid] = min(full, left + (now - at) * per_s), now
        return self._left[uid][0]

    def spend(self, uid: int, num: float) -> None:
        self._left[uid] = self.refill(uid) - num, self._clock()

    def wait_s(self, uid: int) -> float:
        """Return how long it takes until there is room for another one."""
        return max(0.0, (1.0 - self.refill(uid)) / self._of(uid)[1]) if uid in self._left else 0.0

    def forget(self) -> None:
        """Let go of users who have all of it."""
        self._left = {
            uid: self._left[uid] for uid in tuple(self._left) if self.refill(uid) < self._of(uid)[0]
        }


class UserBounds:
    """By user id. Used from the loop's thread only."""

    def __init__(
        self, is_bounded: Callable[[Peer], bool] = lambda _: False, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """Take who is held to bounds at all, and the clock that requests are counted by."""
        self.config = UsersConfig()
        #: Seconds between two heartbeats of a shim.
        self.heartbeat_s = ShimConfig().heartbeat_s
        self._is_bounded = is_bounded
        self._connections: Counter[int] = Counter()
        self._held_bytes: Counter[int] = Counter()
        self._requests = _Measures(self._requests_of, clock)
        self._words = _Measures(self._words_of, clock)
        self._shims: Counter[int] = Counter()

    def joined(self, peer: Peer) -> None:
        """Count a connection."""
        self._connections[peer.uid] += 1

    def gone(self, peer: Peer, *, is_shim: bool = False) -> None:
        """Count one less."""
        if is_shim:
            self.shims(peer, -1)
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

    def shims(self, peer: Peer, more: int) -> None:
        """Count shims of a user that were welcomed, or (negative) are none any more."""
        if self._is_bounded(peer):
            # By the number until now. One that comes brings no room for words with it: whoever connects anew
            # again and again would have no bound.
            self._words.refill(peer.uid)
            self._shims[peer.uid] += more

    def spend(self, peer: Peer, num: float = 1.0, *, is_shim: bool = False) -> None:
        """Count a request, or what is worth some of them; or words of a shim."""
        if self._is_bounded(peer):
            (self._words if is_shim else self._requests).spend(peer.uid, num)

    def wait_s(self, peer: Peer, *, is_shim: bool = False) -> float:
        """Return how long it takes until another request, connection or word of a shim is listened to."""
        if not self._is_bounded(peer):
            return 0.0
        return (self._words if is_shim else self._requests).wait_s(peer.uid)

    def forget(self) -> None:
        """Let go of users who have asked and said nothing for a while; call it every few seconds."""
        for measures in (self._requests, self._words):
            measures.forget()
        self._shims = +self._shims

    def _requests_of(self, _uid: int) -> tuple[float, float]:
        return float(self.config.requests_at_once), self.config.requests_per_s

    def _words_of(self, uid: int) -> tuple[float, float]:
        num = max(1, self._shims[uid])
        return _WORDS_AT_ONCE * num, (_WORDS_PER_S + 2 / self.heartbeat_s) * num
