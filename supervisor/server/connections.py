"""The daemon's sockets: who is connected, and the bounds of what all of them may take.

Covers: listening, accepting, reading and writing without waiting, the kernel's word on who is at the
other end, hanging up on who takes too much. Does not cover: frames (zmtp.py), messages (router.py).

Bounds, for one connection: a message, and answers that wait to be taken; for all of them: their number,
and bytes. At a bound it is not the newcomer who goes: a program that takes all connections
must not keep a person from asking what it does. Used from the loop's thread only.
"""

from __future__ import annotations

import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

from supervisor.errors import SupervisorError
from supervisor.server.open_files import FilesAlert, max_connections
from supervisor.server.peers import Peer, peer_of, with_groups
from supervisor.server.user_bounds import UserBounds
from supervisor.server.zmtp import Violation, Wire, framed
from supervisor.set_aside import keep_aside

__all__ = ["Connection", "Connections"]

#: At once from or to one peer, so that nobody keeps the others waiting.
_PIECE_BYTES: Final = 64 * 1024
#: Whoever has so many answers waiting is not listened to until it took them.
_ENOUGH_BYTES: Final = 1 << 20
#: One answer may be longer than that: `why` has a message for each job.
_MAX_UNSENT_BYTES: Final = 16 << 20
#: What all connections may make the daemon hold, both ways.
_MAX_HELD_BYTES: Final = 32 << 20
#: Between connecting and the end of the handshake.
_HANDSHAKE_S: Final = 10.0
_MAX_ACCEPTS: Final = 64
_MAX_LOOKS: Final = 1024
_BACKLOG: Final = 512
#: From then on it is told.
_ALARM_SHARE: Final = 0.8
#: What is queued at the end of the daemon may take that long.
_LINGER_S: Final = 0.2

#: Whoever has just connected is spared where there is another: it may be the person who looks what is wrong.
_FRESH_S: Final = 1.0


@dataclass(eq=False)
class Connection:
    """One peer."""

    socket: socket.socket
    number: int
    endpoint: str
    peer: Peer
    wire: Wire
    #: `time.monotonic()` when its last bytes came.
    heard_at: float
    begun_at: float = field(default_factory=monotonic)
    served_at: float = 0.0
    has_ended: bool = False
    topics: set[bytes] = field(default_factory=set)
    unsent: bytearray = field(default_factory=bytearray)
    #: What it makes the daemon hold, as counted in the sum over all.
    held_bytes: int = 0
    mask: int = select.EPOLLIN
    #: It was welcomed as a job's, and asked nothing since: it is held to words of shims, not to requests.
    is_shim: bool = False
    #: Its user asked for too much: it is not listened to for a while.
    is_resting: bool = False


class Connections:
    """All peers of some listening sockets. `fileno()` is readable when `poll()` has something to do."""

    def __init__(
        self,
        endpoints: dict[str, bytes],
        on_hang_up: Callable[[Connection, str], None],
        *,
        mode: int = 0o600,
        bounds: UserBounds | None = None,
    ) -> None:
        """Take the ZMTP socket type of each path, and whom to tell of peers that were hung up on, and why.

        `mode` is that of the sockets' files: who may write one may connect.
        """
        self.bounds = bounds or UserBounds()
        self._mode = mode
        #: By number; a number is given once.
        self.all: dict[int, Connection] = {}
        self._on_hang_up = on_hang_up
        self._types = endpoints
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, str]] = {}
        self._by_fd: dict[int, Connection] = {}
        self._next_number = 0
        self._held_bytes = 0
        #: Those that may have a whole message that nobody took yet.
        self._waiting: set[Connection] = set()
        self._read_from: list[int] = []  # Numbers: who is hung up on meanwhile is not kept in memory.
        #: Why nobody can connect, in words; "": they can.
        self._problem = ""
        self._files_alert = FilesAlert()
        self.listen()

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def listen(self) -> None:
        """Make the sockets' files, anew where they were; raises SupervisorError."""
        made = [(_bind(path, self._mode), path) for path in self._types]
        self._stop_listening()
        for listener, path in made:
            self._listeners[listener.fileno()] = (listener, path)
            self._epoll.register(listener.fileno(), select.EPOLLIN)

    def poll(self) -> list[Connection]:
        """Accept, read and write what can be, without waiting; return those that said something."""
        self._read_from = []
        for fd, events in self._epoll.poll(0):
            if fd in self._listeners:
                self._accept(*self._listeners[fd])
            elif (connection := self._by_fd.get(fd)) is not None:
                self._serve(connection, events)
        return [self.all[number] for number in self._read_from if number in self.all]

    def waiting(self) -> Iterator[Connection]:
        """Yield those that may have a message to take, and can take an answer; wakes who rested enough."""
        return filter(self.is_due, list(self._waiting))

    def is_due(self, connection: Connection) -> bool:
        """Say whether one may have a message to take now, can take an answer and may ask; else it rests."""
        if connection not in self._waiting:
            return False
        may_ask = not self.bounds.wait_s(connection.peer, is_shim=connection.is_shim)
        if may_ask is connection.is_resting:
            connection.is_resting = not may_ask
            self._listen_as_due(connection)
        return may_ask and len(connection.unsent) < _ENOUGH_BYTES

    def wait_s(self) -> float:
        """Return how long it takes until somebody is listened to again whose user asked for too much."""
        resting = (one for one in self._waiting if one.is_resting)
        return min((self.bounds.wait_s(one.peer, is_shim=one.is_shim) for one in resting), default=inf)

    def step(self, connection: Connection) -> list[bytes]:
        """Return the parts of a message that has arrived whole, or [] when there is none just now."""
        try:
            parts = connection.wire.step()
        except Violation as violation:
            self.hang_up(connection, str(violation))
            return []
        self._count(connection)
        if connection.wire.reply:
            self.send(connection, connection.wire.reply)
        if parts is None:
            self._waiting.discard(connection)
            if connection.has_ended:
                self._drop(connection)
        return parts or []

    def send_message(self, connection: Connection, body: bytes) -> bool:
        """Send a message of one part without waiting; False when the peer is gone or takes nothing."""
        return self.send(connection, (framed(b"", 1) if connection.wire.is_delimited else b"") + framed(body))

    def send(self, connection: Connection, data: bytes) -> bool:
        """Send bytes without waiting; False when the peer is gone or takes nothing."""
        if connection.number not in self.all:
            return False
        if len(connection.unsent) + len(data) > _MAX_UNSENT_BYTES:
            self.hang_up(connection, f"more than {_MAX_UNSENT_BYTES} bytes of answers that it does not take")
            return False
        connection.unsent += data
        return self._flush(connection) and self._count(connection)

    def hang_up(self, connection: Connection, why: str) -> None:
        """Close it, and say so."""
        self._on_hang_up(connection, why)
        self._drop(connection)

    def look_after(self) -> None:
        """Let go of who never ended its handshake, and listen again; call it every few seconds."""
        now = monotonic()
        for connection in list(self.all.values()):
            is_late = not connection.wire.is_ready and now - connection.heard_at > _HANDSHAKE_S
            if is_late and connection not in self._waiting:  # Else what it said waits for us.
                self._drop(connection)
        self.bounds.forget()
        self._listen_again()

    def alerts(self) -> list[str]:
        """Return what is near its bound, and who takes most of it."""
        alerts = [text for text in (self._problem, self._files_alert.text()) if text]
        most = max_connections()
        if len(self.all) >= _ALARM_SHARE * most:
            # Without numbers that change: it is logged when it is new.
            (pid, num), *_ = Counter(one.peer.pid for one in self.all.values()).most_common(1)
            whose = f"most of them by process {pid}" if 2 * num > len(self.all) else "by many processes"
            alerts.append(
                f"almost all of the {most} connections that may be open are, {whose}; "
                "at the limit silent ones of whoever has most are closed for newcomers"
            )
        return alerts

    def close(self) -> None:
        """Send what is queued, for a moment, then close."""
        self._stop_listening()
        until = monotonic() + _LINGER_S
        while any(one.unsent for one in self.all.values()) and (left_s := until - monotonic()) > 0:
            for fd, _ in self._epoll.poll(left_s):
                if (connection := self._by_fd.get(fd)) is not None:
                    self._flush(connection, reads=False)
        for connection in list(self.all.values()):
            self._drop(connection)
        self._epoll.close()

    def _accept(self, listener: socket.socket, path: str) -> None:
        num_added = 0
        for _ in range(_MAX_LOOKS):
            if num_added >= _MAX_ACCEPTS:
                return
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                # No descriptors, or no memory.
                self._problem = f"cannot take connections: {error.strerror}"
                self._epoll.modify(listener.fileno(), 0)
                if self.all:
                    self._evict(self.all.values())
                return
            peer = peer_of(accepted)
            if self.bounds.wait_s(peer):
                # At once, and many of them: others wait in the kernel's queue behind him.
                accepted.close()
                continue
            self._add(accepted, path, with_groups(peer, accepted))
            num_added += 1

    def _add(self, accepted: socket.socket, path: str, peer: Peer) -> None:
        self.bounds.spend(peer)
        if self.bounds.is_crowded(peer):
            self._evict([one for one in self.all.values() if one.peer.uid == peer.uid])
        elif len(self.all) >= max_connections():
            self._evict(self.all.values())
        accepted.setblocking(False)
        self._next_number += 1
        connection = Connection(accepted, self._next_number, path, peer, Wire(self._types[path]), monotonic())
        self.bounds.joined(peer)
        self.all[connection.number] = self._by_fd[accepted.fileno()] = connection
        self._epoll.register(accepted.fileno(), connection.mask)
        self.send(connection, connection.wire.opening)

    def _evict(self, among: Collection[Connection]) -> None:
        """Close a connection of the user and process that have most, one that has been silent for longest."""
        of_user = Counter(one.peer.uid for one in among)
        most = max(of_user.values())
        found = [one for one in among if of_user[one.peer.uid] == most]
        of_process = Counter(one.peer.pid for one in found)
        most = max(of_process.values())
        found = [one for one in found if of_process[one.peer.pid] == most]
        fresh_at = monotonic() - _FRESH_S
        self._drop(min(found, key=lambda one: (one.begun_at > fresh_at, one.wire.is_ready, one.heard_at)))

    def _count(self, connection: Connection) -> bool:
        """Keep the sum of what is held, and that within bounds; False when this connection had to go."""
        if connection.number not in self.all:
            return False
        held_bytes = connection.wire.held_bytes + len(connection.unsent)
        self._held_bytes += held_bytes - connection.held_bytes
        self.bounds.hold(connection.peer, held_bytes - connection.held_bytes)
        connection.held_bytes = held_bytes
        while self.bounds.is_heavy(connection.peer):
            his = (one for one in self.all.values() if one.peer.uid == connection.peer.uid)
            fattest = max(his, key=lambda one: one.held_bytes)
            self.hang_up(fattest, "its user's connections hold more bytes than those of one may, it most")
        while self._held_bytes > _MAX_HELD_BYTES:
            fattest = max(self.all.values(), key=lambda one: one.held_bytes)
            self.hang_up(fattest, f"all peers hold more than {_MAX_HELD_BYTES} bytes, and it most of them")
        return connection.number in self.all

    def _serve(self, connection: Connection, events: int) -> None:
        if events & select.EPOLLOUT and not (self._flush(connection) and self._count(connection)):
            return
        # What has arrived is taken first; until then more of it waits in the kernel, and then with the peer.
        if connection.mask & select.EPOLLIN and connection not in self._waiting:
            self._read(connection)
        elif events & (select.EPOLLHUP | select.EPOLLERR) and connection not in self._waiting:
            self._drop(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.has_ended |= not data
        connection.heard_at = monotonic()
        connection.wire.feed(data)
        self._waiting.add(connection)  # Also at its end: what it said before counts.
        self._read_from.append(connection.number)
        self._count(connection)

    def _flush(self, connection: Connection, *, reads: bool = True) -> bool:
        while connection.unsent:
            try:
                sent = connection.socket.send(connection.unsent[:_PIECE_BYTES])
            except BlockingIOError:
                break
            except OSError:
                self._drop(connection)
                return False
            del connection.unsent[:sent]
        self._listen_as_due(connection, reads=reads)
        return True

    def _listen_as_due(self, connection: Connection, *, reads: bool = True) -> None:
        """Have the kernel tell what concerns a connection now."""
        may_read = reads and not connection.is_resting and len(connection.unsent) < _ENOUGH_BYTES
        mask = (select.EPOLLIN if may_read else 0) | (select.EPOLLOUT if connection.unsent else 0)
        # Its end is told whether we like it or not: once is enough.
        mask |= select.EPOLLET if connection.is_resting else 0
        if mask != connection.mask:
            connection.mask = mask
            self._epoll.modify(connection.socket.fileno(), mask)

    def _drop(self, connection: Connection) -> None:
        if self.all.pop(connection.number, None) is None:
            return
        self._held_bytes -= connection.held_bytes
        self.bounds.hold(connection.peer, -connection.held_bytes)
        self.bounds.gone(connection.peer, is_shim=connection.is_shim)
        self._waiting.discard(connection)
        del self._by_fd[connection.socket.fileno()]
        self._epoll.unregister(connection.socket.fileno())
        connection.socket.close()
        # Whoever still knows of it keeps no memory by that.
        connection.wire.let_go()
        connection.unsent.clear()
        self._listen_again()

    def _listen_again(self) -> None:
        if self._problem:
            self._problem = ""
            for fd in self._listeners:
                self._epoll.modify(fd, select.EPOLLIN)

    def _stop_listening(self) -> None:
        for fd, (listener, _) in self._listeners.items():
            with suppress(OSError):
                self._epoll.unregister(fd)
            listener.close()
        self._listeners.clear()


def _bind(path: str, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # The daemon's lock is held, so a socket that lies here belongs to nobody.
        if Path(path).is_dir() and not Path(path).is_symlink():
            kept = keep_aside(Path(path))
            structlog.get_logger("router").warning("kept-aside", was=path, kept=str(kept))
        Path(path).unlink(missing_ok=True)
        listener.bind(path)
        os.chmod(path, mode)  # noqa: PTH101
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SupervisorError(
            f"cannot listen on `{path}`: {error}",
            hint="check the folder's permissions, or choose another --home",
        ) from error
    return listener
