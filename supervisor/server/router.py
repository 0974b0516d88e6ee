"""The sockets: frames in, messages out, and who sent them.

Covers: binding, decoding, counting and dropping what means nothing, answering
what is merely unknown, the kernel's word on who is at the other end.
Does not cover: what a message does (requests.py, shims.py).

Nothing that a peer sends can stop the loop: every frame is either a message,
an answerable mistake, or counted and dropped. libzmq itself closes the
connection of a peer whose frame is over the limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import zmq

from supervisor.core.job import Asker
from supervisor.errors import SupervisorError
from supervisor.server.fitting import fitted
from supervisor.users import user_name
from trainer_shim import protocol
from trainer_shim.protocol import ProtocolError

__all__ = ["Delivery", "Peer", "Router"]

#: Answers that may wait for one peer: one a job to `why` and `remove --all`. libzmq's own limit is 1000.
_MAX_QUEUED = 10_000

#: So that one busy peer cannot keep the loop from its timers.
_MAX_BATCH = 500

_HINTS = {
    "version": "upgrade the older of the two; `supervisorctl version` shows both",
    "unknown": "the other side is newer than this daemon: upgrade it",
    "malformed": "",
    "oversized": "",
}


class Peer(NamedTuple):
    """Who sent a message, as the kernel says (SO_PEERCRED, handed over by libzmq as Peer-Address)."""

    uid: int
    pid: int

    def asker(self) -> Asker:
        """Return the person, by user name."""
        return Asker("person", user_name(self.uid))


class Delivery(NamedTuple):
    """A message, and where its answer goes."""

    identity: bytes
    peer: Peer
    message: Any


class Router:
    """ROUTER for requests and shims, PUB for events. Used from the loop's thread only."""

    def __init__(self, control_endpoint: str, events_endpoint: str) -> None:
        self.num_dropped = 0
        self._log = structlog.get_logger("router")
        self._context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        # A peer that is gone must be an error here, not a message into nowhere.
        self.socket.router_mandatory = True
        self.socket.maxmsgsize = protocol.MAX_FRAME_BYTES
        self.socket.sndhwm = _MAX_QUEUED
        self.socket.linger = 200
        self._events: zmq.Socket[bytes] = self._context.socket(zmq.PUB)
        self._events.linger = 200
        self._endpoints = ((self.socket, control_endpoint), (self._events, events_endpoint))
        self.listen()

    def is_cut_off(self) -> bool:
        """Say whether a socket's file is gone: connections live on, but nobody can make a new one."""
        return not all(_path(endpoint).exists() for _, endpoint in self._endpoints)

    def listen(self) -> None:
        """Make the sockets' files, anew where they were."""
        for socket, endpoint in self._endpoints:
            # What listened before is not unbound: libzmq would do that later, and remove the new file.
            _bind(socket, endpoint)

    def receive(self) -> Iterator[Delivery]:
        """Return what has arrived, without waiting; understands or drops every frame."""
        for _ in range(_MAX_BATCH):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            delivery = self._understand(frames)
            if delivery is not None:
                yield delivery

    def send(self, identity: bytes, message: protocol.Message) -> bool:
        """Send without waiting; False when the peer is gone or takes nothing."""
        try:
            self.socket.send_multipart([identity, fitted(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self._log.debug("not-sent", error=str(error), message=type(message).__name__)
            return False
        except ProtocolError as error:
            # A mistake of ours; whoever waits for this answer must not take the others' with it.
            self._log.error("not-sent", error=str(error), message=type(message).__name__)
            return False
        return True

    def publish(self, event: protocol.Event) -> None:
        """Tell every subscriber; one that is slow misses some and asks the journal for them."""
        self._events.send(fitted(event), zmq.NOBLOCK)

    def close(self) -> None:
        """Send what is queued, for a moment, then close."""
        self.socket.close()
        self._events.close()
        self._context.term()

    def _understand(self, frames: list[zmq.Frame]) -> Delivery | None:
        peer = _peer(frames[-1])
        # identity and one payload; anything else was not sent by our code.
        if len(frames) != 2 or peer is None:
            self._drop("malformed", f"{len(frames)} frames", peer)
            return None
        identity = frames[0].bytes
        try:
            return Delivery(identity, peer, protocol.decode(frames[1].bytes))
        except ProtocolError as error:
            self._drop(error.kind, str(error), peer)
            if error.kind in ("version", "unknown"):
                answer = protocol.Refused(
                    id=error.request, error=f"cannot understand: {error}", hint=_HINTS[error.kind]
                )
                self.send(identity, answer)
            return None

    def _drop(self, kind: str, reason: str, peer: Peer | None) -> None:
        self.num_dropped += 1
        # The first ones and then every thousandth: garbage must not fill the log.
        if self.num_dropped <= 10 or self.num_dropped % 1000 == 0:
            pid = peer.pid if peer else None
            self._log.warning("frame-dropped", kind=kind, reason=reason, pid=pid, total=self.num_dropped)


def _peer(frame: zmq.Frame) -> Peer | None:
    try:
        address = frame.get("Peer-Address")
    except zmq.ZMQError:
        return None
    # "localhost:UID:GID:PID" for ipc://
    parts = str(address).rsplit(":", 3)
    try:
        return Peer(uid=int(parts[-3]), pid=int(parts[-1]))
    except (ValueError, IndexError):
        return None


def _path(endpoint: str) -> Path:
    return Path(endpoint.removeprefix("ipc://"))


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    path = _path(endpoint)
    try:
        # The daemon's lock is held, so a socket that lies here belongs to nobody.
        path.unlink(missing_ok=True)
        socket.bind(endpoint)
        os.chmod(path, 0o600)  # noqa: PTH101
    except (OSError, zmq.ZMQError) as error:
        raise SupervisorError(
            f"cannot listen on `{path}`: {error}",
            hint="check the folder's permissions, or choose another --home",
        ) from error
