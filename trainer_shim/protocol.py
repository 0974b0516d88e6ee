"""The wire between daemon and shims: message structs; and the form of every frame: version, codec, limits.

Covers: what may be said, how it is encoded, what is refused and why.
Does not cover: what commands ask the daemon (supervisor/api.py), sockets (link.py, server/router.py,
client.py) and who may say what.

A frame is one byte, the protocol version, then one struct as a MessagePack map
with its tag under "type". A compatible change is a new message or a new field
with a default: unknown fields are ignored, an unknown message is answered with
`Refusal`. Anything else raises the version. Nothing is ever unpickled.
A field that nobody reads may go; its name, like `Pause.deadline_s` and `Hello.shim_version`, is never
used for anything else: whoever still sends it means the old thing.

It imports msgspec only.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta

__all__ = [
    "MAX_FRAME_BYTES",
    "RECEIPT",
    "VERSION",
    "CannotYield",
    "Checkpoint",
    "Checkpointed",
    "Codec",
    "Count",
    "DepthName",
    "FromShim",
    "Heartbeat",
    "Hello",
    "JobName",
    "Message",
    "Metrics",
    "Pause",
    "PositionReport",
    "ProtocolError",
    "Refusal",
    "Reply",
    "RequestId",
    "Resume",
    "Resumed",
    "Saving",
    "Seconds",
    "Stage",
    "Stop",
    "ToShim",
    "Unknown",
    "Welcome",
    "Words",
    "Yielded",
    "as_utf8",
    "decode",
    "encode",
]

VERSION: Final = 1

#: Larger frames are neither sent nor taken: a message is a note, not a transport for data.
MAX_FRAME_BYTES: Final = 64 * 1024

#: A shim that is about to exit for a pause leaves its `Yielded` frame under that name in
#: $TRAINING_SUPERVISOR_RUN_DIR: its daemon may be gone, its exit code hidden by a wrapper.
RECEIPT: Final = "yielded.frame"

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Bounded, so that no peer can send infinity.
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
#: NAME, or USER/NAME for a job of another user than the one who asks, or whom the daemon runs for.
JobName = Annotated[
    str, Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
]
#: The same, or "" where there is none.
AnyJobName = Annotated[
    str, Meta(pattern=r"^(([A-Za-z0-9_][A-Za-z0-9._-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")
]
RequestId = Annotated[str, Meta(max_length=64)]
ShortWords = Annotated[str, Meta(max_length=256)]
Words = Annotated[str, Meta(max_length=4096)]
DepthName = Annotated[str, Meta(pattern=r"^(hold|offload|exit)\Z")]
#: What a script reports beside its loop, e.g. {"loss": 0.31}.
Metrics = Annotated[dict[Annotated[str, Meta(max_length=64)], float], Meta(max_length=64)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of everything on the wire."""


# --- from a shim ---------------------------------------------------------------------------


class PositionReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the loop is. A step is one batch boundary: one optimizer step."""

    step: Count = 0
    epoch: Count = 0
    #: None where the script does not say how much there is to do.
    num_steps: Count | None = None
    num_epochs: Count | None = None


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """First message on every connection, so it tells all that the daemon may have missed."""

    #: "": its process was started by hand; the daemon makes a job of it, or has one by its process.
    job: AnyJobName
    incarnation: Count
    rank: Annotated[int, Meta(ge=0, lt=2**20)] = 0
    world_size: Annotated[int, Meta(ge=1, lt=2**20)] = 1
    depths: tuple[DepthName, ...] = ()
    position: PositionReport = PositionReport()
    #: The pause request it holds for, and how deep; "" while it trains.
    holding: RequestId = ""
    holding_depth: DepthName | None = None
    #: The newest durable checkpoint, if there is one.
    checkpoint: Checkpointed | None = None
    #: Of a process that was started by hand: the name of its script, the folder of its checkpoints, and the
    #: command that starts it again in its working directory; () where there is none.
    script: ShortWords = ""
    checkpoints: Words = ""
    restart: Annotated[tuple[Words, ...], Meta(max_length=1000)] = ()


class Heartbeat(Message, tag="heartbeat", frozen=True, kw_only=True):
    """Every 2 s from the link thread, so it also comes while the loop is stuck."""

    position: PositionReport
    #: Seconds since the loop last passed a boundary, or since attach().
    boundary_age_s: Seconds
    #: Steps per second over the last seconds; None until it is known.
    steps_per_s: Seconds | None = None
    metrics: Metrics = {}
    #: What can be given back by now; () says nothing about it.
    depths: tuple[DepthName, ...] = ()


class Stage(Message, tag="stage", frozen=True, kw_only=True):
    """What it is that takes time on the way into a pause, or out of it, in words."""

    request: RequestId
    what: Annotated[str, Meta(max_length=500)]


class Saving(Message, tag="saving", frozen=True, kw_only=True):
    """The loop is at its boundary and writes a checkpoint for this request."""

    request: RequestId
    step: Count


class Checkpointed(Message, tag="checkpointed", frozen=True, kw_only=True):
    """A checkpoint is durable."""

    step: Count
    epoch: Count
    path: Words
    digest: Annotated[str, Meta(max_length=200)]
    size_bytes: Count = 0
    took_s: Seconds = 0.0
    #: The request that asked for it; "" for one that the script's own schedule made.
    request: RequestId = ""


class Yielded(Message, tag="yielded", frozen=True, kw_only=True):
    """The pause is reached: the checkpoint is durable, the loop holds or the process is about to end."""

    request: RequestId
    depth: DepthName
    checkpoint: Checkpointed
    bytes_freed: Count = 0


class CannotYield(Message, tag="cannot-yield", frozen=True, kw_only=True):
    """What was asked for could not be done: training goes on, or the loop holds as it did before."""

    request: RequestId
    why: Words
    #: How deep it holds all the same; None: training goes on.
    holding_depth: DepthName | None = None


class Resumed(Message, tag="resumed", frozen=True, kw_only=True):
    """The loop runs again after a hold."""

    request: RequestId
    step: Count


# --- to a shim -----------------------------------------------------------------------------


class Welcome(Message, tag="welcome", frozen=True, kw_only=True):
    """The answer to Hello."""

    heartbeat_s: Seconds = 2.0
    #: Without a daemon for that long, a loop that a rule paused goes on by itself.
    orphan_resume_s: Seconds = 300.0
    #: So long a loop that is to go on tries to get its GPU memory back, before its process ends
    #: with a receipt, to be started from its checkpoint.
    return_retry_s: Seconds = 60.0


class Pause(Message, tag="pause", frozen=True, kw_only=True):
    """Checkpoint at the next batch boundary, then give back what `depth` says."""

    request: RequestId
    depth: DepthName
    by_rule: bool = False


class Resume(Message, tag="resume", frozen=True, kw_only=True):
    """Go on; also calls off a pause that is not reached yet."""

    request: RequestId


class Stop(Message, tag="stop", frozen=True, kw_only=True):
    """Checkpoint at the next batch boundary, then end the process for good."""

    request: RequestId


class Checkpoint(Message, tag="checkpoint", frozen=True, kw_only=True):
    """Checkpoint at the next batch boundary and go on."""

    request: RequestId


class Unknown(Message, tag="unknown", frozen=True, kw_only=True):
    """The daemon does not know this connection: say Hello again."""


# --- answers -------------------------------------------------------------------------------


class Reply(Message, frozen=True, kw_only=True):
    """Base of the answers."""

    id: RequestId = ""


class Refusal(Reply, tag="refused", frozen=True, kw_only=True):
    """The request, or its part about one job, was not done. `exit_code` is for the command line."""

    error: str
    hint: str = ""
    job: str = ""
    exit_code: int = 1
    last: bool = True


FromShim = Hello | Heartbeat | Stage | Saving | Checkpointed | Yielded | CannotYield | Resumed
ToShim = Welcome | Pause | Resume | Stop | Checkpoint | Unknown | Refusal


class ProtocolError(Exception):
    """A frame that cannot be understood; `kind` is `oversized`, `version`, `unknown` or `malformed`."""

    def __init__(self, kind: str, message: str, *, request: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        #: The id of the request, where it could be read.
        self.request = request


class _Header(msgspec.Struct):
    type: str
    id: RequestId = ""


_encoder = msgspec.msgpack.Encoder()
_header = msgspec.msgpack.Decoder(_Header)
_PREFIX = bytes([VERSION])


def as_utf8(text: str) -> str:
    """Return a text with `?` for what is not UTF-8, as in names of files: a message has no place for it."""
    return text.encode("utf-8", "replace").decode()


def encode(message: Message) -> bytes:
    """Return the frame of a message; raises ProtocolError when it is over the limit."""
    frame = _PREFIX + _encoder.encode(message)
    if len(frame) > MAX_FRAME_BYTES:
        size = f"{len(frame):,} bytes, the limit is {MAX_FRAME_BYTES:,}"
        raise ProtocolError("oversized", f"a {type(message).__name__} of {size}")
    return frame


class Codec:
    """Frames of one kind of message, or of a union of kinds, as messages."""

    def __init__(self, messages: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages)
        self._tags = frozenset(str(one.__struct_config__.tag) for one in get_args(messages) or (messages,))

    def decode(self, frame: bytes) -> Any:
        """Return the message of a frame; raises ProtocolError, and nothing else, for every other input."""
        if len(frame) > MAX_FRAME_BYTES:
            size = f"{len(frame):,} bytes, the limit is {MAX_FRAME_BYTES:,}"
            raise ProtocolError("oversized", f"a frame of {size}")
        if not frame:
            raise ProtocolError("malformed", "an empty frame")
        if frame[0] != VERSION:
            raise ProtocolError("version", f"protocol version {frame[0]}, this side speaks {VERSION}")
        body = memoryview(frame)[1:]
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._reason(body, error) from None

    def _reason(self, body: memoryview, error: Exception) -> ProtocolError:
        """Tell an unknown message, which gets an answer, from bytes that mean nothing."""
        try:
            header = _header.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ProtocolError("malformed", f"not a message: {error}")
        if header.type not in self._tags:
            return ProtocolError("unknown", f"unknown message `{header.type[:64]}`", request=header.id)
        return ProtocolError("malformed", f"a bad `{header.type}`: {error}", request=header.id)


@functools.cache
def _codec() -> Codec:
    # Not made at once: a run without a daemon decodes nothing.
    return Codec(FromShim | ToShim)


def decode(frame: bytes) -> Any:
    """Return the message of what shims say or hear; as `Codec.decode`."""
    return _codec().decode(frame)
