"""The wire: every message there and back, and nothing that a stranger sends gets past `decode`."""

import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor import api
from supervisor.api import decode
from tests.property.structs import values
from trainer_shim import protocol
from trainer_shim.protocol import MAX_FRAME_BYTES, VERSION, Message, ProtocolError, encode

GOLDEN = Path(__file__).parents[1] / "golden/protocol_v1"
MESSAGES = sorted(get_args(api.AnyMessage), key=lambda kind: kind.__name__)
PREFIX = bytes([VERSION])


#: Fields that were said and that nobody ever read; their names mean nothing else for ever.
RETIRED = {"pause": {"deadline_s"}, "hello": {"shim_version"}}


def tag(kind):
    return kind.__struct_config__.tag


@pytest.mark.parametrize("kind", MESSAGES, ids=tag)
def test_a_message_arrives_as_it_was_sent(kind):
    """
    Whatever is in its fields.
    """

    @given(values(kind))
    def check(message):
        assert message == decode(encode(message))

    check()


def _widened(tree):
    """Return a message with one more field, in it and in the structs that it is made of."""
    free = ("metrics", "env", "labels")
    nested = {
        key: _widened(value) if isinstance(value, dict) and key not in free else value
        for key, value in tree.items()
    }
    return nested | {"from-the-future": [1, {"x": None}]}


@pytest.mark.parametrize("kind", MESSAGES, ids=tag)
def test_a_field_from_a_newer_version_is_ignored(kind):
    """
    So fields can be added without a new protocol version, at any depth.
    """

    @given(values(kind))
    def check(message):
        wide = _widened(msgspec.msgpack.decode(encode(message)[1:]))

        assert message == decode(PREFIX + msgspec.msgpack.encode(wide))

    check()


@given(st.binary(max_size=300))
@example(b"")
@example(PREFIX)
@example(bytes([VERSION + 1]) + b"\x80")
@example(PREFIX + b"\x91" * 3000)
@example(PREFIX + msgspec.msgpack.encode({"type": "hello"}))
@example(PREFIX + msgspec.msgpack.encode({"type": 7}))
@example(PREFIX + b"\x81\xa4type\xa2\xff\xfe")
@example(PREFIX + bytes(MAX_FRAME_BYTES))
def test_bytes_that_mean_nothing_are_a_protocol_error(frame):
    """
    Never another exception, never a hang, whoever sends what.
    """
    message, kind = None, ""
    try:
        message = decode(frame)
    except ProtocolError as error:
        kind = error.kind

    assert isinstance(message, Message) or kind in ("oversized", "version", "unknown", "malformed")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=9)
        | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([tag(kind) for kind in MESSAGES]),
)
def test_well_formed_nonsense_is_a_protocol_error(tree, kind):
    """
    Right encoding, right tag, wrong contents.
    """
    fields = tree if isinstance(tree, dict) else {"id": tree, "job": tree, "jobs": tree, "request": tree}
    try:
        decode(PREFIX + msgspec.msgpack.encode({"type": kind} | fields))
    except ProtocolError:
        return


@given(values(api.PauseRequest), st.data())
def test_a_damaged_frame_is_a_protocol_error_or_a_message(message, data):
    """
    A flipped byte or a cut is never anything worse.
    """
    frame = bytearray(encode(message))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(frame), bytes(frame[:at])):
        try:
            decode(damaged)
        except ProtocolError:
            continue


def test_each_way_of_being_wrong_has_its_name():
    """
    An unknown message is answered, under its request's id; the rest is dropped and counted.
    """

    def kind_of(frame):
        with pytest.raises(ProtocolError) as caught:
            decode(frame)
        return caught.value.kind, caught.value.request

    unknown = msgspec.msgpack.encode({"type": "teleport", "id": "r1"})
    bad = msgspec.msgpack.encode({"type": "pause-request", "id": "r2", "depth": "abyss"})

    assert ("unknown", "r1") == kind_of(PREFIX + unknown)
    assert ("malformed", "r2") == kind_of(PREFIX + bad)
    assert ("malformed", "") == kind_of(PREFIX + b"\xff")
    assert ("malformed", "") == kind_of(b"")
    assert ("version", "") == kind_of(bytes([VERSION + 1]) + unknown)
    assert ("oversized", "") == kind_of(PREFIX + bytes(MAX_FRAME_BYTES))


def test_a_training_process_knows_nothing_of_what_commands_say():
    """
    For a shim they are unknown messages.
    """
    with pytest.raises(ProtocolError) as caught:
        protocol.decode(encode(api.StatusRequest(id="1")))

    assert ("unknown", "1") == (caught.value.kind, caught.value.request)


def test_a_frame_over_the_limit_is_not_sent():
    """
    64 KiB with the prefix is the last that goes; the sender learns the size.
    """
    request = api.RunRequest(id="1", argv=("x",), cwd="/", env={})
    room = MAX_FRAME_BYTES - len(encode(request)) - 100
    full = msgspec.structs.replace(request, env={"A": "x" * room})

    assert full == decode(encode(full))
    with pytest.raises(ProtocolError, match=r"a RunRequest of 6.,... bytes, the limit is 65,536") as caught:
        encode(msgspec.structs.replace(request, env={"A": "x" * (room + 200)}))
    assert "oversized" == caught.value.kind


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.frame")), ids=lambda path: path.stem)
def test_what_version_1_said_is_understood_for_ever(path):
    """
    Never edit or replace a golden file: a shim in a run of three weeks speaks like that. What
    cannot be said compatibly needs a new version and a new folder.
    """
    message = decode(path.read_bytes())
    said = json.loads(path.with_suffix(".json").read_text())
    said = {key: value for key, value in said.items() if key not in RETIRED.get(said["type"], ())}

    # A file that came with new fields of an old message is named for both.
    assert path.stem.partition("+")[0] == said["type"]
    assert _holds(_told(message), said)


@pytest.mark.parametrize("kind", [kind for kind in MESSAGES if tag(kind) in RETIRED], ids=tag)
def test_the_name_of_a_field_that_went_is_not_used_again(kind):
    """
    An old shim or daemon that still says it would be misunderstood.
    """
    assert not RETIRED[tag(kind)] & set(kind.__struct_fields__)


def _told(value):
    """Return a message with all its fields, also those that have their defaults."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag else {}
        return tag | {name: _told(part) for name, part in msgspec.structs.asdict(value).items()}
    if isinstance(value, dict):
        return {key: _told(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_told(part) for part in value]
    return msgspec.to_builtins(value)


def _holds(found, said):
    """Say whether all that was said is found; a later version may know more."""
    if isinstance(said, dict):
        return all(key in found and _holds(found[key], value) for key, value in said.items())
    if isinstance(said, list):
        return len(found) == len(said) and all(map(_holds, found, said))
    return found == said


def test_every_message_has_its_golden_frame():
    """
    A new message type adds a file.
    """
    assert {tag(kind) for kind in MESSAGES} == {
        path.stem.partition("+")[0] for path in GOLDEN.glob("*.frame")
    }
