"""The bytes of a connection become messages, however they are cut, and more than is allowed is refused.

Does not cover: what libzmq makes of ours; all tests with a client or a shim do.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.server.zmtp import MAX_PARTS, Violation, Wire, framed
from trainer_shim.protocol import MAX_FRAME_BYTES

#: What a socket of libzmq says first, minor version 1.
OPENING = Wire(b"DEALER").opening.replace(b"\x03\x00NULL", b"\x03\x01NULL", 1)
MESSAGES = st.lists(st.lists(st.binary(max_size=400), min_size=1, max_size=4), max_size=5)


def taken(wire):
    """All messages that have arrived whole."""
    found = []
    while (parts := wire.step()) is not None:
        found += [parts] if parts else []
    return found


def fed(data, wire=None):
    wire = wire or Wire(b"ROUTER")
    wire.feed(data)
    return taken(wire)


def message(parts):
    return b"".join(framed(part, number < len(parts)) for number, part in enumerate(parts, 1))


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_messages_come_whole_wherever_the_bytes_are_cut(messages, cuts):
    """
    A stream knows no messages.
    """
    data = OPENING + b"".join(map(message, messages))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    wire = Wire(b"ROUTER")
    found = [one for begin, end in pairwise(edges) for one in fed(data[begin:end], wire)]

    assert messages == found
    assert 0 == wire.held_bytes


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n",
        b"\xff" + bytes(9),
        b"\xff" + bytes(8) + b"\x7f\x02",
        OPENING.replace(b"NULL", b"PLAIN", 1),
        OPENING[:64] + framed(b"before the handshake"),
        OPENING[:64] + framed(b"\x05HELLO", 4),
        OPENING + framed(b"\x09SUBSCRIBE", 4),
        OPENING + framed(b"a command in parts", 5),
        OPENING + framed(b"", 8),
        OPENING + struct.pack(">BQ", 2, MAX_FRAME_BYTES + 1),
        OPENING + struct.pack(">BQ", 2, 2**64 - 1),
        OPENING + framed(b"", 1) * (MAX_PARTS + 1),
        OPENING + framed(bytes(MAX_FRAME_BYTES), 1) + framed(b"x"),
    ],
)
def test_another_language_and_too_much_of_ours_are_refused(data):
    """
    At the byte that shows it, not when the rest has come.
    """
    with pytest.raises(Violation):
        fed(data)


def test_a_heartbeat_is_answered():
    """
    Clients of others may have them switched on; libzmq hangs up where none is answered.
    """
    wire = Wire(b"ROUTER")
    fed(OPENING, wire)
    wire.feed(framed(b"\x04PING\x00\x0acontext", 4))
    wire.step()

    assert framed(b"\x04PONGcontext", 4) == wire.reply
