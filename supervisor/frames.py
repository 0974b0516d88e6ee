"""Between messages and the client's errors: what cannot be sent, what makes no sense as an answer.

Covers: encoding requests, decoding answers and published events, in words where that fails; refusals.
Does not cover: the connection (client.py).
"""

from __future__ import annotations

from typing import Any

import msgspec
import zmq

from supervisor import api
from supervisor.errors import NotStored, Refused, SupervisorError, UnknownJob, UsageError
from trainer_shim import protocol

__all__ = ["decode", "encode", "next_event", "not_an_answer", "refusal"]


def encode(request: api.Request) -> bytes:
    """Return the frame; what the daemon could not read is refused here, with a better error."""
    jobs = (*getattr(request, "jobs", ()), *filter(None, [getattr(request, "job", None)]))
    for job in jobs:
        try:
            msgspec.convert(job, protocol.JobName)
        except msgspec.ValidationError:
            raise UnknownJob(job) from None
    try:
        frame = protocol.encode(request)
        # It alone: no other message can come of it.
        protocol.Codec(type(request)).decode(frame)
    except (protocol.ProtocolError, UnicodeEncodeError) as error:
        raise UsageError(
            f"cannot send the request: {error}", hint="shorten it, or name fewer jobs at a time"
        ) from None
    return frame


def decode(frames: list[bytes]) -> Any:
    """Return the answer; raises SupervisorError, with what to do, for what is none."""
    frame = b"".join(frames)
    try:
        reply = _answer(frame)
    except protocol.ProtocolError as error:
        if error.kind == "version":
            theirs, ours = frames[0][0], protocol.VERSION
            raise SupervisorError(
                f"cannot talk to the daemon: it speaks protocol version {theirs}, this command speaks {ours}",
                hint="install the same version of training-supervisor for both, then restart the daemon",
            ) from None
        raise SupervisorError(
            f"cannot understand the daemon's answer: {error}",
            hint="is another program using its socket? `supervisorctl doctor` looks",
        ) from None
    if not isinstance(reply, protocol.Reply):
        raise not_an_answer(reply)
    return reply


def _answer(frame: bytes) -> Any:
    try:
        return api.decode_answer(frame)
    except protocol.ProtocolError:
        # Perhaps a message all the same, which can be named.
        return api.decode(frame)


def not_an_answer(reply: object) -> SupervisorError:
    """Return the error for a message that the daemon would not send here."""
    return SupervisorError(
        f"cannot understand the daemon's answer: a {type(reply).__name__} where none belongs",
        hint="`supervisorctl version` tells whether both are of the same version",
    )


def next_event(subscriber: zmq.Socket[bytes], silence_s: float) -> api.Event | None:
    """Return the next published event, or None after a silence."""
    if not subscriber.poll(int(silence_s * 1000)):
        return None
    try:
        event = api.decode_answer(subscriber.recv())
    except protocol.ProtocolError:
        return None
    return event if isinstance(event, api.Event) else None


def refusal(refused: protocol.Refusal) -> SupervisorError:
    """Return what the daemon refused as an error of this side, with the same exit code."""
    kinds = {2: UsageError, 3: Refused, 5: NotStored}
    return kinds.get(refused.exit_code, SupervisorError)(refused.error, hint=refused.hint)
