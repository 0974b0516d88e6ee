"""The sockets: frames in, messages out, and who sent them.

Covers: decoding, counting and dropping what means nothing, answering what is merely
unknown, who hears of events.
Does not cover: connections and their bounds (connections.py), whose turn it is (turns.py), what a message
does (requests.py, shims.py).

Nothing that a peer sends can stop the loop: everything is either a message,
an answerable mistake, or counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import structlog

from supervisor import api
from supervisor.server.bounded_messages import fitted
from supervisor.server.connections import Connection, Connections
from supervisor.server.peers import Peer
from supervisor.server.turns import PeerTurns
from supervisor.server.user_bounds import UserBounds
from trainer_shim import protocol
from trainer_shim.protocol import ProtocolError

__all__ = ["Delivery", "Peer", "Router"]

#: So that busy peers cannot keep the loop from its timers.
_TURN_S: Final = 0.05

#: New questions are looked for that often while there are old ones.
_LOOK_S: Final = 0.0005

#: A request of a user that takes longer counts as several.
_REQUEST_S: Final = 1e-3
#: Words of a shim count once each, however busy the machine is; but for a hello of one that is known already,
#: for which much is read in /proc again.
_HELLO_WORDS: Final = 20.0

#: Events that wait for a subscriber that is slow.
_MAX_EVENT_BYTES: Final = 1 << 20
_MAX_TOPICS: Final = 16
_MAX_TOPIC_BYTES: Final = 256

_HINTS = {
    "version": "upgrade the older of the two; `supervisorctl version` shows both",
    "unknown": "the other side is newer than this daemon: upgrade it",
    "malformed": "the page on the wire is `trainer_shim/protocol.py`",
    "oversized": "",
}


class Delivery(NamedTuple):
    """A message, and where its answer goes."""

    identity: bytes
    peer: Peer
    message: Any


class Router:
    """Requests and shims at one socket, events at the other. Used from the loop's thread only."""

    def __init__(
        self,
        control_endpoint: str,
        events_endpoint: str,
        *,
        mode: int = 0o600,
        bounds: UserBounds | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Listen; `mode` is that of the sockets' files, `bounds` what one user may take, `clock` steady."""
        self._clock = clock
        self.num_dropped = 0
        self._log = structlog.get_logger("router")
        control, self._events = (one.removeprefix("ipc://") for one in (control_endpoint, events_endpoint))
        self._paths = (Path(control), Path(self._events))
        types = {control: b"ROUTER", self._events: b"PUB"}
        self._connections = Connections(types, self._hung_up, mode=mode, bounds=bounds)
        self._turns = PeerTurns(clock())

    def fileno(self) -> int:
        """Return a descriptor that is readable when something arrived, or can be sent on."""
        return self._connections.fileno()

    def has_more(self) -> bool:
        """Say whether something that has arrived waits for the next `receive()`."""
        return any(True for _ in self._connections.waiting())

    def is_cut_off(self) -> bool:
        """Say whether a socket's file is gone: connections live on, but nobody can make a new one."""
        return not all(path.exists() for path in self._paths)

    def listen(self) -> None:
        """Make the sockets' files, anew where they were."""
        self._connections.listen()

    def look_after(self) -> None:
        """Let go of peers that connected and said nothing; call it every few seconds."""
        self._connections.look_after()

    def alerts(self) -> list[str]:
        """Return what is near its bound."""
        return self._connections.alerts()

    def receive(self) -> Iterator[Delivery]:
        """Return what has arrived, without waiting; understands or drops every frame.

        A message at a time, of the user who took the least time lately, and of his process that did: whoever
        asks for much waits longer, and others wait for one of his questions at most, or some milliseconds of
        short ones. How many connections he has makes no difference.
        """
        self._connections.poll()
        begin = self._clock()
        until, look_at = begin + _TURN_S, begin + _LOOK_S
        self._turns.begin(self._connections.waiting(), begin)
        while begin < until and (connection := self._turns.take()) is not None:
            num_dropped = self.num_dropped
            delivery = self._understand(connection)
            # By what it was then: the answer to a hello makes it a shim.
            is_shim = connection.is_shim
            if delivery is not None:
                yield delivery
            connection.served_at = self._clock()
            is_request = delivery is not None or self.num_dropped > num_dropped
            used_s, num = connection.served_at - begin, 1.0 if is_request else 0.0
            if not is_shim:
                num = max(num, used_s / _REQUEST_S)
            elif delivery is not None and isinstance(delivery.message, protocol.Hello):
                num = _HELLO_WORDS
            self._connections.bounds.spend(connection.peer, num, is_shim=is_shim)
            self._turns.used(connection, used_s)
            if self._connections.is_due(connection):
                self._turns.add(connection)
            begin = self._clock()
            if begin >= look_at or not self._turns:
                # Somebody may have come meanwhile who has used nothing yet.
                look_at = begin + _LOOK_S
                for one in filter(self._connections.is_due, self._connections.poll()):
                    self._turns.add(one)

    def is_there(self, identity: bytes) -> bool:
        """Say whether a peer is still connected."""
        return int.from_bytes(identity, "big") in self._connections.all

    def peer(self, identity: bytes) -> Peer | None:
        """Return who it is that an answer goes to, None when it is gone."""
        connection = self._connections.all.get(int.from_bytes(identity, "big"))
        return None if connection is None else connection.peer

    def send(self, identity: bytes, message: protocol.Message) -> bool:
        """Send without waiting; False when the peer is gone or takes nothing."""
        connection = self._connections.all.get(int.from_bytes(identity, "big"))
        if connection is None:
            self._log.debug("not-sent", error="it is gone", message=type(message).__name__)
            return False
        if isinstance(message, protocol.Welcome | protocol.Unknown | protocol.Refusal):
            self._be_shim(connection, is_shim=isinstance(message, protocol.Welcome))
        try:
            return self._connections.send_message(connection, fitted(message))
        except ProtocolError as error:
            # A mistake of ours; whoever waits for this answer must not take the others' with it.
            self._log.error("not-sent", error=str(error), message=type(message).__name__)
            return False

    def publish(self, seen: Callable[[Peer], api.Event | None]) -> None:
        """Tell every subscriber what he may see of it; one that is slow misses some and asks the journal."""
        frames: dict[api.Event, bytes] = {}
        for connection in list(self._connections.all.values()):
            if not connection.topics or len(connection.unsent) >= _MAX_EVENT_BYTES:
                continue
            if (his := seen(connection.peer)) is None:
                continue
            frame = frames.get(his) or frames.setdefault(his, fitted(his))
            if any(map(frame.startswith, connection.topics)):
                self._connections.send_message(connection, frame)

    def close(self) -> None:
        """Send what is queued, for a moment, then close."""
        self._connections.close()

    def wait_s(self) -> float:
        """Return how long it takes until there is more to receive without news, inf where that is never."""
        return self._connections.wait_s()

    def _understand(self, connection: Connection) -> Delivery | None:
        parts = self._connections.step(connection)
        if not parts:
            return None
        peer, identity = connection.peer, connection.number.to_bytes(8, "big")
        if connection.endpoint == self._events:
            self._subscribe(connection, parts[0])
            return None
        if connection.wire.is_delimited and not parts[0]:
            del parts[0]
        if len(parts) != 1:
            # Our code sends one; anything else was sent by another.
            self._drop("malformed", f"{len(parts)} frames", peer)
            return None
        try:
            message = api.decode(parts[0])
        except ProtocolError as error:
            self._be_shim(connection, is_shim=False)
            self._drop(error.kind, str(error), peer)
            # Without the number of a question it may be a shim's word, and a refusal would send that away.
            if error.kind in ("version", "unknown") or error.request:
                answer = protocol.Refusal(
                    id=error.request, error=f"cannot understand: {error}", hint=_HINTS[error.kind]
                )
                self.send(identity, answer)
            return None
        # Who was not welcome as one may say the same, without end.
        self._be_shim(connection, is_shim=connection.is_shim and isinstance(message, protocol.FromShim))
        return Delivery(identity, peer, message)

    def _be_shim(self, connection: Connection, *, is_shim: bool) -> None:
        if is_shim != connection.is_shim and connection.number in self._connections.all:
            connection.is_shim = is_shim
            self._connections.bounds.shims(connection.peer, 1 if is_shim else -1)

    def _subscribe(self, connection: Connection, said: bytes) -> None:
        """Take a wish of a SUB socket: one byte for whether, and what events are to begin with."""
        if said[:1] == b"\x01":
            if len(connection.topics) >= _MAX_TOPICS or len(said) > 1 + _MAX_TOPIC_BYTES:
                self._connections.hang_up(connection, "more subscriptions, or longer ones, than are kept")
            else:
                connection.topics.add(said[1:])
        elif said[:1] == b"\0":
            connection.topics.discard(said[1:])

    def _hung_up(self, connection: Connection, why: str) -> None:
        self._drop("hung-up", why, connection.peer)

    def _drop(self, kind: str, reason: str, peer: Peer) -> None:
        self.num_dropped += 1
        # The first ones and then every thousandth: garbage must not fill the log.
        if self.num_dropped <= 10 or self.num_dropped % 1000 == 0:
            self._log.warning("frame-dropped", kind=kind, reason=reason, pid=peer.pid, total=self.num_dropped)
