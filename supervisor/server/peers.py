"""Who is at the other end of a connection, as the kernel says.

Covers: user, process and groups of whoever connected. Does not cover: what he may do (access.py).
"""

from __future__ import annotations

import array
import socket
import struct
from typing import Final, NamedTuple

from supervisor.core.jobs.job import Asker
from supervisor.system.users import user_name

__all__ = ["Peer", "peer_of", "with_groups"]

#: struct ucred (unix(7)); a user id may have its highest bit set.
_CREDENTIALS: Final = struct.Struct("=iII")
#: Python has no name for it; Linux 4.13.
_SO_PEERGROUPS: Final = 59
#: As many groups as a process can be in (credentials(7)), four bytes each.
_MOST_GROUP_BYTES: Final = 65536 * 4


class Peer(NamedTuple):
    """Who connected, as the kernel says (SO_PEERCRED, SO_PEERGROUPS)."""

    uid: int
    pid: int
    #: By number, the first one and those beside it, as they were when it connected.
    groups: frozenset[int] = frozenset()

    def asker(self) -> Asker:
        """Return the person, by user name and number."""
        return Asker("person", user_name(self.uid), self.uid)


def peer_of(accepted: socket.socket) -> Peer:
    """Return who connected; of his groups the first one."""
    said = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(said)
    return Peer(uid, pid, frozenset({gid}))


def with_groups(peer: Peer, accepted: socket.socket) -> Peer:
    """Return who connected with all his groups, where the kernel tells them."""
    try:
        more = accepted.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError:
        try:
            more = accepted.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUP_BYTES)
        except OSError:
            more = b""
    return peer._replace(groups=peer.groups.union(array.array("I", more)))
