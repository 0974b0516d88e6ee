"""Faults of peers: they vanish, do not read, talk nonsense or attack; and a socket that is removed."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from random import Random

import msgspec

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.errors import SupervisorError
from supervisor.server.zmtp import Wire, framed
from tests.faults.ground import BOUND_S, IS_ROOT, Ground, Lost
from tests.harness import ROOT, until
from tests.other_user import OTHER, THIRD, run_as
from trainer_shim import protocol

__all__ = ["FAULTS", "FAULTS_OF_ROOT", "FRAMES", "fuzz"]

GOLDEN = tuple(path.read_bytes() for path in sorted((ROOT / "tests/golden/protocol_v1").glob("*.frame")))
#: In one go.
FRAMES = 10_000
_NUM_CLIENTS, _NUM_SLOW = 2000, 20
_OPENING = Wire(b"DEALER").opening
_QUESTION = framed(protocol.encode(api.VersionRequest(id="last")))
_STATUS = framed(protocol.encode(api.StatusRequest(id="s", all=True)))


def remove_the_socket(ground: Ground, _rng: Random) -> None:
    """It is made anew, and connections live on."""
    path = ground.daemon.paths.run_dir / "control.sock"
    before = path.stat().st_ino
    path.unlink()
    ground.daemon.client.version()
    until(lambda: path.exists() and path.stat().st_ino != before, "the socket is back")


def vanishing_clients(ground: Ground, rng: Random) -> None:
    """They connect, say part of something, and are gone."""
    seed = rng.random()

    def come_and_go() -> None:
        mine = Random(seed)
        for _ in range(_NUM_CLIENTS):
            with _connected(ground, opening=b"") as peer:
                said = mine.choice((b"", _OPENING[: mine.randrange(64)], _OPENING + _STATUS))
                _sent(peer, said[: mine.randint(0, len(said))])

    _as_a_user(come_and_go)


def slow_readers(ground: Ground, _rng: Random) -> None:
    """They ask for much and read nothing of it; others are answered meanwhile."""
    peers = [_connected(ground) for _ in range(_NUM_SLOW)]
    try:
        for peer in peers:
            peer.setblocking(False)
            _sent(peer, _STATUS * 300)
        for _ in range(5):
            ground.status()
    finally:
        for peer in peers:
            peer.close()


def endless_message(ground: Ground, rng: Random) -> None:
    """A message that never ends is hung up on."""
    head = rng.choice((struct.pack(">BQ", 2, 1 << 40), b"\x01\x01a", b"\x04\x05READY"))
    with _connected(ground) as peer:
        peer.settimeout(BOUND_S)
        for _ in range(2000):
            if not _sent(peer, head if len(head) < 9 else head + bytes(1 << 16)):
                return
            head = head if len(head) < 9 else bytes(9)
        raise Lost("it went on to take a message without an end")


def fuzzed_frames(ground: Ground, rng: Random) -> None:
    """See `fuzz`."""
    fuzz(ground, rng, FRAMES)


def fuzz(ground: Ground, rng: Random, num: int) -> int:
    """Send so many frames that are almost right, as a user; returns how many were taken."""
    seed = rng.random()
    return _as_a_user(lambda: _fuzz(ground, Random(seed), num))


def hostile_users(ground: Ground, rng: Random) -> None:
    """They ask for everything that is not theirs, speak for jobs, and take what connections they get."""
    name = rng.choice(list(ground.trainers))
    for uid in (OTHER, THIRD):
        if taken := run_as(uid, lambda: _attack(ground, name)):
            raise Lost(f"user {uid} was served: {taken}")


def _attack(ground: Ground, name: str) -> list[str]:
    taken, job = [], f"root/{name}"
    flood = [_connected(ground) for _ in range(400)]
    for peer in flood:
        peer.setblocking(False)
        _sent(peer, _STATUS * 20)
    with Client(ground.daemon.paths, connect_s=5.0, answer_s=BOUND_S) as client:
        kinds = (api.PauseRequest, api.StopRequest, api.KillRequest, api.RestartRequest, api.RemoveRequest)
        for kind in (*kinds, api.ResumeRequest, api.CheckpointRequest):
            for how in ({"jobs": (job,)}, {"all_users": True}):
                answers = client.ask_jobs(kind(id=new_id(), **how))
                taken += [str(one) for one in answers if isinstance(one, api.Accepted) and one.job]
        with contextlib.suppress(SupervisorError):
            taken += client.show(job).argv
    with _connected(ground) as peer:
        hello = protocol.Hello(job=name, incarnation=1, depths=("hold",))
        _sent(peer, framed(protocol.encode(hello)) + _QUESTION)
        if b"welcome" in _until_answered(peer):
            taken.append("welcome as a shim")
    for peer in flood:
        peer.close()
    return taken


def _fuzz(ground: Ground, rng: Random, num: int) -> int:
    num_taken = 0
    while num_taken < num:
        frames = [_frame(rng) for _ in range(100)]
        with _connected(ground) as peer:
            # The last one is always answered: then all before it were understood, or dropped.
            _sent(peer, b"".join(framed(frame) for frame in frames) + _QUESTION)
            _until_answered(peer)
        num_taken += len(frames)
        if rng.random() < 0.1:
            with _connected(ground) as peer:
                _sent(peer, rng.randbytes(rng.randrange(400)))
                num_taken += 1
    return num_taken


def _frame(rng: Random) -> bytes:
    """Return a frame that is almost one of ours."""
    frame = bytearray(rng.choice(GOLDEN))
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(300))
        case 1:
            del frame[rng.randrange(len(frame)) :]
        case 2:
            frame[rng.randrange(len(frame)) :] = rng.choice(GOLDEN)[rng.randrange(20) :]
        case 3:
            return frame[:1] + msgspec.msgpack.encode(_value(rng, 4))
        case 4:
            at = rng.randrange(len(frame))
            frame[at:at] = rng.randbytes(rng.randrange(1, 40))
        case _:
            for _ in range(rng.randint(1, 8)):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
    return bytes(frame)


def _value(rng: Random, depth: int) -> object:
    kinds: list[Callable[[], object]] = [
        lambda: rng.randint(-(1 << 63), (1 << 64) - 1),
        lambda: rng.choice((0.0, float("inf"), float("nan"), -1e308, None, True)),
        lambda: rng.choice(("type", "hello", "status-request", "jobs", "id", "\0", "../" * 20, "x" * 2000)),
    ]
    if depth:
        kinds.append(lambda: [_value(rng, depth - 1) for _ in range(rng.randrange(5))])
        kinds.append(lambda: {str(_value(rng, 0)): _value(rng, depth - 1) for _ in range(rng.randrange(5))})
    return rng.choice(kinds)()


def _as_a_user(call: Callable[[], object]) -> int:
    return run_as(OTHER, call) if IS_ROOT else call()


def _connected(ground: Ground, opening: bytes = _OPENING) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(BOUND_S)
    path, until_at = str(ground.daemon.paths.run_dir / "control.sock"), time.monotonic() + BOUND_S
    # A queue of newcomers that is full says so at once.
    while (number := peer.connect_ex(path)) == errno.EAGAIN and time.monotonic() < until_at:
        time.sleep(0.001)
    if number:
        raise Lost(f"cannot connect: {os.strerror(number)}")
    _sent(peer, opening)
    return peer


def _sent(peer: socket.socket, data: bytes) -> bool:
    try:
        peer.sendall(data)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _until_answered(peer: socket.socket) -> bytes:
    """Return what comes until the last question is answered, or the connection is over."""
    got = b""
    until_at = time.monotonic() + BOUND_S
    while b"version-reply" not in got and time.monotonic() < until_at:
        try:
            more = peer.recv(1 << 16)
        except TimeoutError as error:
            raise Lost("no answer to a question behind fuzzed frames") from error
        except OSError:
            return got
        if not more:
            return got
        got += more
    return got


FAULTS = {
    "socket removed": remove_the_socket,
    f"{_NUM_CLIENTS} vanishing clients": vanishing_clients,
    f"{_NUM_SLOW} clients that never read": slow_readers,
    "message without an end": endless_message,
    f"{FRAMES} fuzzed frames": fuzzed_frames,
}
FAULTS_OF_ROOT = {"two hostile users": hostile_users}
