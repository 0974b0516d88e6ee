"""The sockets: frames in, messages out, and who sent them.

Covers: decoding, counting and dropping what means nothing, answering what is merely
unknown, whose turn it is, who hears of events.
Does not cover: connections and their bounds (connections.py), what a message does (requests.py, shims.py).

Nothing that a peer sends can stop the loop: everything is either a message,
an answerable mistake, or counted and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import structlog

from supervisor import api
from supervisor.server.bounded_messages import fitted
from supervisor.server.connections import Connection, Connections, Peer
from trainer_shim import protocol
from trainer_shim.protocol import ProtocolError

__all__ = ["Delivery", "Peer", "Router"]

#: So that busy peers cannot keep the loop from its timers.
_TURN_S: Final = 0.05

#: Time that a process took counts half as much after so long, and nothing below that.
_HALF_LIFE_S: Final = 1.0
_NOTHING_S: Final = 1e-4

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

    def __init__(self, control_endpoint: str, events_endpoint: str) -> None:
        self.num_dropped = 0
        self._log = structlog.get_logger("router")
        control, self._events = (one.removeprefix("ipc://") for one in (control_endpoint, events_endpoint))
        self._paths = (Path(control), Path(self._events))
        self._connections = Connections({control: b"ROUTER", self._events: b"PUB"}, self._hung_up)
        #: Seconds that the messages of a process took, the older ones for less.
        self._used_s: dict[Peer, float] = {}
        self._halved_at = monotonic()

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

        A message of each in turn, and first those of processes that took the least time lately: whoever asks
        for much waits longer, and others wait for one of his questions at most.
        """
        self._connections.poll()
        self._forget_use()
        until = monotonic() + _TURN_S
        while waiting := sorted(self._connections.waiting(), key=self._turn):
            for connection in waiting:
                begin = monotonic()
                if begin >= until:
                    return
                delivery = self._understand(connection)
                if delivery is not None:
                    yield delivery
                connection.served_at = monotonic()
                used_s = connection.served_at - begin
                self._used_s[connection.peer] = self._used_s.get(connection.peer, 0.0) + used_s

    def is_there(self, identity: bytes) -> bool:
        """Say whether a peer is still connected."""
        return int.from_bytes(identity, "big") in self._connections.all

    def send(self, identity: bytes, message: protocol.Message) -> bool:
        """Send without waiting; False when the peer is gone or takes nothing."""
        connection = self._connections.all.get(int.from_bytes(identity, "big"))
        if connection is None:
            self._log.debug("not-sent", error="it is gone", message=type(message).__name__)
            return False
        try:
            return self._connections.send_message(connection, fitted(message))
        except ProtocolError as error:
            # A mistake of ours; whoever waits for this answer must not take the others' with it.
            self._log.error("not-sent", error=str(error), message=type(message).__name__)
            return False

    def publish(self, event: api.Event) -> None:
        """Tell every subscriber; one that is slow misses some and asks the journal for them."""
        frame = fitted(event)
        for connection in list(self._connections.all.values()):
            if len(connection.unsent) < _MAX_EVENT_BYTES and any(map(frame.startswith, connection.topics)):
                self._connections.send_message(connection, frame)

    def close(self) -> None:
        """Send what is queued, for a moment, then close."""
        self._connections.close()

    def _turn(self, connection: Connection) -> tuple[float, float]:
        return self._used_s.get(connection.peer, 0.0), connection.served_at

    def _forget_use(self) -> None:
        now = monotonic()
        if now - self._halved_at >= _HALF_LIFE_S:
            self._halved_at = now
            self._used_s = {one: used / 2 for one, used in self._used_s.items() if used > _NOTHING_S}

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
            return Delivery(identity, peer, api.decode(parts[0]))
        except ProtocolError as error:
            self._drop(error.kind, str(error), peer)
            # Without the number of a question it may be a shim's word, and a refusal would send that away.
            if error.kind in ("version", "unknown") or error.request:
                answer = protocol.Refusal(
                    id=error.request, error=f"cannot understand: {error}", hint=_HINTS[error.kind]
                )
                self.send(identity, answer)
            return None

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
