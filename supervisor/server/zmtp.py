"""ZMTP 3.0, the bytes that libzmq sockets exchange, for the side that is connected to. Pure.

Covers: greeting, the NULL handshake, frames into messages, messages into frames, and the
bounds of what one peer may make us hold. Does not cover: sockets (connections.py), what is
in a message (router.py).

libzmq holds the parts of a message until its last one has come, however many there are, and no
option of it bounds that; docs/decisions/0011-the-daemon-speaks-zmtp-itself.md tells the rest.
Peers are libzmq 4 or newer: shims and clients of any version of ours. See https://rfc.zeromq.org/spec/23/.
"""

from __future__ import annotations

import struct
from typing import Final

from trainer_shim.protocol import MAX_FRAME_BYTES

__all__ = ["MAX_PARTS", "Violation", "Wire", "framed"]

#: Our own messages have one part; more is answered with a drop, and so many more with a hang-up.
MAX_PARTS: Final = 16

_MORE, _LONG, _COMMAND = 1, 2, 4
_GREETING: Final = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
_SIGNATURE_END, _MAJOR, _MECHANISM = 9, 10, slice(12, 32)


_OF_REQ = b"\x0bSocket-Type\0\0\0\x03REQ"


class Violation(Exception):  # It is what the peer did, not what we could not do.
    """The peer speaks something else, or more of it than is allowed: hang up."""


def framed(body: bytes, flags: int = 0) -> bytes:
    """Return a frame: the last or only part of a message."""
    if len(body) < 256:
        return struct.pack("BB", flags, len(body)) + body
    return struct.pack(">BQ", flags | _LONG, len(body)) + body


class Wire:
    """One connection: `feed()` it what arrives, call `step()` until it wants more."""

    def __init__(self, socket_type: bytes) -> None:
        #: The handshake is over.
        self.is_ready = False
        #: It is a REQ socket: an empty part stands before what it says, and before each answer.
        self.is_delimited = False
        self._is_greeted = False
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        properties = b"\x0bSocket-Type" + struct.pack(">I", len(socket_type)) + socket_type
        #: What we say first; it waits for nothing that the peer says.
        self.opening = _GREETING + framed(b"\x05READY" + properties, _COMMAND)
        #: What is to be sent for the last step, besides.
        self.reply = b""

    @property
    def held_bytes(self) -> int:
        """What the peer makes us keep; a buffer from which something was taken is up to twice as large."""
        return (self._buffer.__alloc__() if self._buffer else 0) + self._parts_bytes

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    def let_go(self) -> None:
        """Keep nothing of what arrived; it is over."""
        self._buffer, self._parts, self._parts_bytes = bytearray(), [], 0

    def step(self) -> list[bytes] | None:
        """Return the parts of the next message, [] for what is none, None when bytes are missing.

        Raises Violation. Each call does little, so that a flood of tiny frames can be interrupted.
        """
        self.reply = b""
        if not self._is_greeted:
            return self._greet()
        frame = self._frame()
        if frame is None:
            return None
        flags, body = frame
        if flags & _COMMAND:
            self._command(body)
            return []
        if not self.is_ready:
            raise Violation("a message before the handshake")
        self._parts.append(body)
        self._parts_bytes += len(body)
        if self._parts_bytes > MAX_FRAME_BYTES or len(self._parts) > MAX_PARTS:
            raise Violation(f"a message of more than {MAX_FRAME_BYTES} bytes or {MAX_PARTS} parts")
        if flags & _MORE:
            return []
        message, self._parts, self._parts_bytes = self._parts, [], 0
        return message

    def _greet(self) -> list[bytes] | None:
        said = self._buffer
        if not _GREETING.startswith(said[:1]) or (
            len(said) > _SIGNATURE_END and not said[_SIGNATURE_END] & 1
        ):
            raise Violation("no ZeroMQ")
        if len(said) > _MAJOR and said[_MAJOR] < 3:
            raise Violation(f"ZMTP {said[_MAJOR]}")
        if len(said) < len(_GREETING):
            return None
        if said[_MECHANISM].rstrip(b"\0") != b"NULL":
            raise Violation("another security mechanism than NULL")
        del said[: len(_GREETING)]
        self._is_greeted = True
        return []

    def _frame(self) -> tuple[int, bytes] | None:
        """Return flags and body of the next whole frame; refuses one that is too long before it is there."""
        said = self._buffer
        if len(said) < 2:
            return None
        flags, begin, size = said[0], 2, said[1]
        if flags > _MORE | _LONG | _COMMAND or flags & (_MORE | _COMMAND) == _MORE | _COMMAND:
            raise Violation(f"a frame with flags {flags}")
        if flags & _LONG:
            begin = 9
            if len(said) < begin:
                return None
            (size,) = struct.unpack_from(">Q", said, 1)
        if size > MAX_FRAME_BYTES:
            raise Violation(f"a frame of {size} bytes")
        if len(said) < begin + size:
            return None
        body = bytes(said[begin : begin + size])
        del said[: begin + size]
        return flags, body

    def _command(self, body: bytes) -> None:
        if not self.is_ready:
            if not body.startswith(b"\x05READY"):
                raise Violation("no READY in the handshake")
            self.is_ready = True
            self.is_delimited = body.find(_OF_REQ) >= 0
        elif body.startswith(b"\x04PING") and len(body) <= 5 + 2 + 16:
            # Of a client with heartbeats on; two bytes of it are a time.
            self.reply = framed(b"\x04PONG" + body[7:], _COMMAND)
        else:
            raise Violation("an unknown command")
