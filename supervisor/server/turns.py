"""Whose turn it is: of the user who took the least time lately, and of his process that did.

Covers: the order, and what was taken. Does not cover: who has something to take (connections.py), bounds of
what one user may take (user_bounds.py).

To take one costs the same whether ten or four thousand wait.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Final

from supervisor.server.connections import Connection
from supervisor.server.peers import Peer

__all__ = ["PeerTurns"]

#: Time that a process took counts half as much after so long, and nothing below that.
_HALF_LIFE_S: Final = 1.0
_NOTHING_S: Final = 1e-4


class PeerTurns:
    """Used from the loop's thread only."""

    def __init__(self, now: float) -> None:
        #: Seconds that the messages of a process took, the older ones for less; and those of a user.
        self._used_s: dict[Peer, float] = {}
        self._used_by_user_s: dict[int, float] = {}
        self._halved_at = now
        #: Connections that have something to take; a process with some stands once in the heap of its user,
        #: by what it used, and then by how long it waits.
        self._of_peer: dict[Peer, deque[Connection]] = {}
        self._of_user: dict[int, list[tuple[float, int, Peer]]] = {}
        self._next = 0

    def __bool__(self) -> bool:
        """Say whether anybody stands there."""
        return bool(self._of_user)

    def begin(self, waiting: Iterable[Connection], now: float) -> None:
        """Take all who have something to take now; whoever was served last stands last."""
        if now - self._halved_at >= _HALF_LIFE_S:
            self._halved_at = now
            self._used_s = {one: used / 2 for one, used in self._used_s.items() if used > _NOTHING_S}
            by_user = self._used_by_user_s.items()
            self._used_by_user_s = {uid: used / 2 for uid, used in by_user if used > _NOTHING_S}
        self._of_peer.clear()
        self._of_user.clear()
        for connection in sorted(waiting, key=lambda one: one.served_at):
            self.add(connection)

    def add(self, connection: Connection) -> None:
        """Take one more, who stands there no longer or not yet."""
        peer = connection.peer
        if peer in self._of_peer:
            self._of_peer[peer].append(connection)
        else:
            self._of_peer[peer] = deque((connection,))
            self._push(peer)

    def take(self) -> Connection | None:
        """Return whose turn it is; say `used` before the next one is taken."""
        if not self._of_user:
            return None
        uid = min(self._of_user, key=lambda uid: self._used_by_user_s.get(uid, 0.0))
        _, _, peer = heapq.heappop(self._of_user[uid])
        if not self._of_user[uid]:
            del self._of_user[uid]
        connections = self._of_peer.pop(peer)
        connection = connections.popleft()
        if connections:
            self._of_peer[peer] = connections
        return connection

    def used(self, connection: Connection, used_s: float) -> None:
        """Take note of what its turn took."""
        peer = connection.peer
        self._used_s[peer] = self._used_s.get(peer, 0.0) + used_s
        self._used_by_user_s[peer.uid] = self._used_by_user_s.get(peer.uid, 0.0) + used_s
        if peer in self._of_peer:
            self._push(peer)

    def _push(self, peer: Peer) -> None:
        self._next += 1
        heap = self._of_user.setdefault(peer.uid, [])
        heapq.heappush(heap, (self._used_s.get(peer, 0.0), self._next, peer))
