"""The line to the daemon: a DEALER socket in one daemon thread.

Covers: asking who listens before anything is sent, hello, heartbeats, reconnecting for
ever, handing commands to the gate, going on alone when the daemon stays away.
Does not cover: what a command means (gate.py), what is saved (saving.py).

The thread owns the socket; others put messages into a queue and wake it. It
never blocks training: what cannot be sent is dropped, because the Hello after
the next connection tells everything again. A forked child has no such thread
and must not touch the socket: libzmq's contexts do not survive fork().
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from trainer_shim import protocol
from trainer_shim.gate import Gate
from trainer_shim.link_report import LinkReport
from trainer_shim.safe_files import Unsafe
from trainer_shim.server_check import Server

__all__ = ["Link"]

#: First frame of a monitor message: event and value (zmq_socket_monitor(3)).
_MONITOR_EVENT = struct.Struct("=hi")

_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 1000

#: A listening socket takes a connection at once; longer means that nobody serves it.
_PROBE_S = 0.3

#: Steps per second are taken over that many seconds: long enough to be calm, short enough to be now.
_RATE_WINDOW_S = 10.0

#: A daemon that does not want us, or that is none of ours, is asked again after that long.
_REFUSED_AGAIN_S = 30.0

#: After the answer "who are you?" while the daemon is still learning of the process.
_HELLO_AGAIN_S = 0.1


class Link:
    """Started once per session. `send` may be called from the training thread only."""

    def __init__(
        self,
        server: Server,
        hello: Callable[[], protocol.Hello],
        report: LinkReport,
        gate: Gate,
        say_aloud: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._server = server
        self._hello = hello
        self._report = report
        self._gate = gate
        self._say_aloud = say_aloud
        self._pid = os.getpid()
        self._outbox: queue.SimpleQueue[protocol.Message] = queue.SimpleQueue()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        self._linger_ms = 0
        #: Why the daemon does not want us, or ""; said once.
        self._refused = ""
        self._heartbeat_s = protocol.Welcome().heartbeat_s
        self._orphan_resume_s = protocol.Welcome().orphan_resume_s
        self._welcome = False
        self._lost_at = time.monotonic()
        self._next_beat = 0.0
        #: When to ask who listens; never again once the socket is connected.
        self._next_try = 0.0
        self._try_again_s = _RECONNECT_MS / 1000
        self._boundary_at = time.monotonic()
        self._steps: deque[tuple[float, int]] = deque()
        self._thread = threading.Thread(target=self._run, name="trainer_shim.link", daemon=True)
        self._thread.start()

    def send(self, message: protocol.Message) -> None:
        """Hand a message over; returns at once."""
        if os.getpid() == self._pid:
            self._outbox.put(message)
            os.eventfd_write(self._wake_fd, 1)

    def close(self, *, wait_s: float) -> None:
        """Send what is queued, for at most that long, and end the thread."""
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        self._linger_ms = int(wait_s * 1000)
        self._closing = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join(wait_s + 1.0)
        if not self._thread.is_alive():
            os.close(self._wake_fd)

    # --- the link's thread ------------------------------------------------------------------

    def _run(self) -> None:
        context = zmq.Context()
        socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        # Only to a connection that stands: what waits for one is stale when it comes.
        socket.immediate = True
        socket.reconnect_ivl = _RECONNECT_MS
        socket.reconnect_ivl_max = _RECONNECT_MAX_MS
        socket.maxmsgsize = protocol.MAX_FRAME_BYTES
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            self._serve(socket, monitor)
        except Exception as error:  # noqa: BLE001  # one of the few places that may: training must go on
            reason = f"{type(error).__name__}: {error}"
            self._say_aloud(
                f"internal error of the line to the daemon ({reason}); training goes on without it"
            )
        finally:
            socket.disable_monitor()
            monitor.close(0)
            socket.close(self._linger_ms)
            # Waits for the linger; a peer that takes nothing cannot hold it longer.
            context.term()

    def _serve(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[Any]) -> None:
        poller = zmq.Poller()
        for source in (socket, monitor, self._wake_fd):
            poller.register(source, zmq.POLLIN)
        while True:
            if time.monotonic() >= self._next_try:
                self._try_to_connect(socket)
            wait_s = max(0.0, min(self._next_beat, self._next_try) - time.monotonic())
            ready = dict(poller.poll(int(wait_s * 1000) + 1))
            if monitor in ready:
                self._connection(socket, monitor)
            if socket in ready:
                self._take(socket)
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            self._send_queued(socket)
            if self._closing:
                # The last words: where the loop ended.
                self._beat(socket)
                return
            if time.monotonic() >= self._next_beat:
                self._beat(socket)

    def _try_to_connect(self, socket: zmq.Socket[bytes]) -> None:
        """Connect for good once it is our daemon that listens; until then nothing can be sent."""
        try:
            self._server.check(limit_s=_PROBE_S)
        except Unsafe as error:
            self._say_aloud(
                f"cannot trust who listens on `{self._server.endpoint}`: {error.strerror}; "
                f"training goes on without a daemon ({error.hint})"
            )
            self._next_try = time.monotonic() + _REFUSED_AGAIN_S
        except OSError:  # Nobody is there yet.
            self._next_try = time.monotonic() + self._try_again_s
            self._try_again_s = min(2 * self._try_again_s, _RECONNECT_MAX_MS / 1000)
        else:
            socket.connect(self._server.endpoint)
            self._next_try = math.inf

    def _connection(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[Any]) -> None:
        # zmq.utils.monitor would read this for us, but it imports asyncio.
        event, _ = _MONITOR_EVENT.unpack(monitor.recv_multipart()[0])
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._refused = ""
            self._say(socket, self._hello())
        else:
            self._lost()

    def _take(self, socket: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            # Nobody but the daemon can answer; what it sends and we do not know is from a newer one.
            with contextlib.suppress(protocol.ProtocolError):
                self._handle(protocol.decode(frames[-1]))

    def _handle(self, message: Any) -> None:
        match message:
            case protocol.Welcome():
                self._welcome = self._report.has_daemon = True
                self._refused = ""
                self._heartbeat_s = message.heartbeat_s
                self._orphan_resume_s = message.orphan_resume_s
                self._report.return_retry_s = message.return_retry_s
                self._next_beat = 0.0
            case protocol.Pause() | protocol.Resume() | protocol.Stop() | protocol.Checkpoint():
                self._gate.put(message)
                # Whoever asked sees at once how long ago the last boundary was.
                self._next_beat = 0.0
            case protocol.Unknown():
                self._lost()
                self._next_beat = time.monotonic() + _HELLO_AGAIN_S
            case protocol.Refusal():
                self._lost()
                # Without words: it takes up no process that was started by hand, and nobody minds.
                if not self._refused and message.error:
                    self._say_aloud(f"{message.error}; {message.hint}" if message.hint else message.error)
                self._refused = message.error
                # The reason may pass: the process before this one may still be on its way out.
                self._next_beat = time.monotonic() + _REFUSED_AGAIN_S

    def _send_queued(self, socket: zmq.Socket[bytes]) -> None:
        if self._welcome and not self._outbox.empty():
            # Whoever hears of a pause also hears how far the run is.
            self._beat(socket)
        while True:
            try:
                message = self._outbox.get_nowait()
            except queue.Empty:
                return
            self._say(socket, message)

    def _beat(self, socket: zmq.Socket[bytes]) -> None:
        """Tell how far the loop is; without an answer yet, say hello instead."""
        now = time.monotonic()
        self._next_beat = now + self._heartbeat_s
        rate = self._look_at_loop(now)
        self._resume_orphan(now)
        if not self._welcome:
            self._say(socket, self._hello())
        else:
            beat = protocol.Heartbeat(
                position=self._report.position(),
                boundary_age_s=now - self._boundary_at,
                steps_per_s=rate,
                metrics=self._metrics(),
                depths=self._report.depths,
            )
            self._say(socket, beat)

    def _look_at_loop(self, now: float) -> float | None:
        """Note whether the loop moved since the last look; return its speed."""
        step = self._report.step
        if self._report.holding is not None:
            # The time that it holds is neither slow nor late.
            self._steps.clear()
            self._boundary_at = now
            return None
        if not self._steps or step != self._steps[-1][1]:
            self._boundary_at = now
        self._steps.append((now, step))
        while now - self._steps[0][0] > _RATE_WINDOW_S:
            self._steps.popleft()
        since, first = self._steps[0]
        if now == since or (step == first and now - since < _RATE_WINDOW_S / 2):
            return None
        return (step - first) / (now - since)

    def _metrics(self) -> dict[str, float]:
        with self._report.reading:
            return self._report.numbers()

    def _say(self, socket: zmq.Socket[bytes], message: protocol.Message) -> None:
        try:
            socket.send(protocol.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            self._lost()
        except (protocol.ProtocolError, ValueError):
            # A report that is too long for one message, or no UTF-8, is worth less than the link.
            return

    def _lost(self) -> None:
        if self._welcome:
            self._lost_at = time.monotonic()
        self._welcome = self._report.has_daemon = False

    def _resume_orphan(self, now: float) -> None:
        """Let a loop that a rule paused go on without a daemon; one that a person paused holds."""
        holding = self._report.holding
        if holding is None or not holding.by_rule or self._welcome:
            return
        if now - self._lost_at >= self._orphan_resume_s:
            self._gate.put(protocol.Resume(request=holding.request))
