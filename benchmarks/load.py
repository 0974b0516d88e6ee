"""What 10, 100 and 1,000 jobs with four connected shims each cost one daemon.

    python -m benchmarks.load [--quick]

Covers: CPU and memory of the daemon, a pause asked until the shim has it (which is when the gate is set),
`status`; beside a bare round trip over a Unix socket and a flush of 4 KiB, taken in turns.
Does not cover: training, a real shim's thread (pause_latency.py).

A shim speaks only for the job that owns its process, so there is a process for each job: a fork of this one
that opens its four connections, hands them over and waits. They were started by hand, as far as the daemon
knows, which takes them up as jobs. All connections are served here, in the shims' protocol. A job has one
shim in this version: the other three send heartbeats as often, and are asked each time who they are.
"""

from __future__ import annotations

import os
import random
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Self

from benchmarks.common import goal, main, print_table, range_of, scratch
from benchmarks.idle import cpu_s
from benchmarks.scene import Scene
from supervisor import api
from supervisor.client import new_id
from supervisor.server.zmtp import Wire, framed
from trainer_shim import protocol

_CONFIG = "[policy]\ndefault_rules = false\n[jobs]\nmax_adopted = 5000\nstart_grace_s = 5\n"
_PER_JOB = 4
_BEAT_S = 2.0
#: It is looked that often whose heartbeat is due.
_LOOK_S = 0.02
_GUARD_S = 60.0
GOAL_MS = 100.0
#: The greeting and the READY of the daemon.
_GREETING_BYTES = 64
_OPENING = Wire(b"DEALER").opening


@dataclass(eq=False)
class _Shim:
    """One connection."""

    socket: socket.socket
    is_first: bool
    beat_at: float = 0.0
    step: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    is_greeted: bool = False

    def say(self, message: protocol.Message) -> None:
        self.socket.sendall(framed(protocol.encode(message)))

    def heard(self) -> Iterator[Any]:
        """Return the messages that have arrived."""
        self.buffer += self.socket.recv(1 << 16)
        if not self.is_greeted and len(self.buffer) >= _GREETING_BYTES:
            del self.buffer[:_GREETING_BYTES]
            self.is_greeted = True
        while self.is_greeted and (frame := _first_frame(self.buffer)) is not None:
            flags, body = frame
            if not flags & 4:
                yield api.decode(body)


class Shims:
    """All connections of all jobs, served by `turn()`; a context manager that ends their processes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Shim] = {}
        self.children: list[int] = []
        self._life = os.pipe()
        self._beats_at = 0.0
        self._person: _Shim | None = None
        self.num_welcome = 0
        #: When each request came to its shim.
        self.paused_at: dict[str, float] = {}
        self.num_resumed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._life[1])
        for pid in self.children:
            os.waitpid(pid, 0)
        for shim in self._by_fd.values():
            shim.socket.close()

    def add(self, num_jobs: int) -> None:
        """Make so many processes with their connections, all of which say hello."""
        for _ in range(num_jobs):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                self._be_one(theirs)
            self.children.append(pid)
            theirs.close()
            with ours:
                _, fds, _, _ = socket.recv_fds(ours, 1, _PER_JOB)
            for number, fd in enumerate(fds):
                shim = _Shim(socket.socket(fileno=fd), is_first=number == 0)
                shim.beat_at = time.monotonic() + random.uniform(0, _BEAT_S)
                self._by_fd[fd] = shim
                self._epoll.register(fd, select.EPOLLIN)
                shim.socket.sendall(_OPENING)
                self._greet(shim)
            self._serve(0.0)

    def _be_one(self, theirs: socket.socket) -> None:
        """Open connections, so that they are of this process, hand them over, and wait for the end."""
        try:
            life, hand = os.dup2(self._life[0], 3), os.dup2(theirs.fileno(), 4)
            os.closerange(5, 65536)
            opened = []
            for _ in range(_PER_JOB):
                opened.append(socket.socket(socket.AF_UNIX))
                opened[-1].connect(self._path)
            socket.send_fds(socket.socket(fileno=hand), [b"!"], [one.fileno() for one in opened])
            os.closerange(4, 64)
            os.read(life, 1)
        finally:
            os._exit(0)

    def turn(self, for_s: float) -> None:
        """Serve all of them for some time."""
        until_at = time.monotonic() + for_s
        while (left_s := until_at - time.monotonic()) > 0:
            self._serve(min(left_s, _LOOK_S))

    def until(self, claim: Callable[[], bool]) -> None:
        """Serve all of them until something is true."""
        give_up_at = time.monotonic() + _GUARD_S
        while not claim():
            if time.monotonic() > give_up_at:
                raise TimeoutError("the daemon did not tell a shim what was asked of it")
            self._serve(_LOOK_S)

    def _serve(self, wait_s: float) -> None:
        for fd, _ in self._epoll.poll(wait_s):
            shim = self._by_fd[fd]
            for message in shim.heard():
                self._take(shim, message)
        now = time.monotonic()
        if now >= self._beats_at:
            self._beats_at = now + _LOOK_S
            for shim in self._by_fd.values():
                if shim.beat_at <= now:
                    self._beat(shim, now)

    def _beat(self, shim: _Shim, now: float) -> None:
        shim.beat_at, shim.step = max(now, shim.beat_at + _BEAT_S), shim.step + 1
        at = protocol.PositionReport(step=shim.step, num_steps=100_000)
        shim.say(protocol.Heartbeat(position=at, boundary_age_s=0.1, steps_per_s=10.0, depths=("hold",)))

    def ask(self, request: api.JobsRequest) -> None:
        """Ask as a person does, over a connection of its own; the answer is read and let go."""
        if self._person is None:
            made = socket.socket(socket.AF_UNIX)
            made.connect(self._path)
            self._person = self._by_fd[made.fileno()] = _Shim(made, is_first=False, beat_at=inf)
            self._epoll.register(made, select.EPOLLIN)
            made.sendall(_OPENING)
        self._person.say(request)

    def _greet(self, shim: _Shim) -> None:
        if shim.is_first:
            shim.say(protocol.Hello(job="", incarnation=0, depths=("hold",), script="load"))

    def _take(self, shim: _Shim, message: Any) -> None:
        match message:
            case protocol.Unknown():
                self._greet(shim)
            case protocol.Welcome():
                self.num_welcome += 1
            case protocol.Pause(request=request):
                self.paused_at[request] = time.monotonic()
                saved = protocol.Checkpointed(step=shim.step, epoch=0, path="/x", digest="", request=request)
                shim.say(protocol.Yielded(request=request, depth="hold", checkpoint=saved))
            case protocol.Resume(request=request):
                shim.say(protocol.Resumed(request=request, step=shim.step))
                self.num_resumed += 1


def _first_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take the first frame out of what has arrived, if it is whole."""
    if len(buffer) < 2:
        return None
    flags = buffer[0]
    head = 9 if flags & 2 else 2
    if len(buffer) < head:
        return None
    size = int.from_bytes(buffer[1:head], "big")
    if len(buffer) < head + size:
        return None
    body = bytes(buffer[head : head + size])
    del buffer[: head + size]
    return flags, body


@dataclass
class _Measured:
    num_jobs: int
    cpu_pct: float
    rss_mb: float
    pauses: list[float]
    statuses: list[float]
    bare: list[float]
    flushes: list[float]


def run(*, quick: bool) -> None:
    counts, rounds, window_s = ((10, 50), 20, 3.0) if quick else ((10, 100, 1000), 300, 20.0)
    measured = []
    with scratch() as folder:
        for num_jobs in counts:
            with (
                Scene(folder / str(num_jobs), _CONFIG) as scene,
                Shims(str(scene.paths.run_dir / "control.sock")) as shims,
            ):
                measured.append(_measure(scene, shims, num_jobs, (rounds, window_s)))
    header = ["jobs, connections", "CPU %", "of it a job", "RSS MB", "pause to gate p50", "p99"]
    header += ["`status` p50", "p99", "bare round trip", "flush of 4 KiB", f"pause p99 at most {GOAL_MS:g}"]
    print_table("Load, ms where nothing else is said", header, [_row(one) for one in measured])


def _measure(scene: Scene, shims: Shims, num_jobs: int, amount: tuple[int, float]) -> _Measured:
    rounds, window_s = amount
    for _ in range(0, num_jobs, 50):
        shims.add(min(50, num_jobs - len(shims.children)))
        shims.turn(0.2)
    shims.until(lambda: shims.num_welcome >= num_jobs)
    names = [row.name for row in scene.rows()]
    shims.turn(2 * _BEAT_S)
    began, before = time.monotonic(), cpu_s(scene.pid)
    shims.turn(window_s)
    cpu_pct = 100 * (cpu_s(scene.pid) - before) / (time.monotonic() - began)
    status = Path(f"/proc/{scene.pid}/status").read_text(encoding="ascii")
    one = _Measured(num_jobs, cpu_pct, int(status.split("VmRSS:")[1].split()[0]) / 1024, [], [], [], [])
    with _echo() as bare, (scene.home / "flushed").open("wb") as file:
        for number in range(rounds):
            one.pauses.append(_pause(shims, names[number % len(names)]))
            one.statuses.append(_timed(scene.rows))
            one.bare.append(_timed(bare))
            file.write(bytes(4096))
            one.flushes.append(_timed(lambda: (file.flush(), os.fsync(file.fileno()))))
            shims.turn(0.02)
    return one


def _pause(shims: Shims, name: str) -> float:
    """Return ms from asking for a pause until its shim has it; the job trains again afterwards."""
    num, num_resumed = len(shims.paused_at), shims.num_resumed
    began = time.monotonic()
    shims.ask(api.PauseRequest(id=new_id(), jobs=(name,), depth="hold"))
    shims.until(lambda: len(shims.paused_at) > num)
    took_s = max(shims.paused_at.values()) - began
    shims.turn(0.02)
    shims.ask(api.ResumeRequest(id=new_id(), jobs=(name,)))
    shims.until(lambda: shims.num_resumed > num_resumed)
    return took_s * 1000


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


@contextmanager
def _echo() -> Iterator[Any]:
    """Yield a call that goes to another process over a Unix socket and back."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        while data := theirs.recv(64):
            theirs.sendall(data)
        os._exit(0)
    theirs.close()
    try:
        yield lambda: (ours.sendall(b"?"), ours.recv(64))
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _row(one: _Measured) -> Sequence[str]:
    p50, p99 = statistics.median(one.pauses), _p99(one.pauses)
    return [
        f"{one.num_jobs:,}, {one.num_jobs * _PER_JOB:,}",
        f"{one.cpu_pct:.1f}",
        f"{one.cpu_pct / one.num_jobs:.3f}",
        f"{one.rss_mb:.0f}",
        f"{p50:.1f}",
        f"{p99:.1f}",
        f"{statistics.median(one.statuses):.1f}",
        f"{_p99(one.statuses):.1f}",
        f"{statistics.median(one.bare):.2f}",
        f"{statistics.median(one.flushes):.2f} ({range_of(one.flushes)})",
        goal(f"{p99 / statistics.median(one.flushes):.0f} flushes", met=p99 <= GOAL_MS),
    ]


def _p99(figures: Sequence[float]) -> float:
    return statistics.quantiles(figures, n=100, method="inclusive")[-1]


if __name__ == "__main__":
    main(run)
