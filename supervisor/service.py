"""What a service manager is told: ready, reloading, stopping, how many jobs there are, that the loop turns.

Covers: systemd's notification protocol (sd_notify(3)) and its watchdog. Started by hand there is nobody
to tell, and all of this does nothing.
Does not cover: when something is told (daemon.py), the units (systemd/).

The protocol is one datagram a message, is promised to stay, and systemd's manual recommends to write it
out where a library would only be there for it. Those for Python are not maintained, or need a C compiler.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, MutableMapping
from types import MappingProxyType
from typing import Final

import structlog

from supervisor.core.jobs.states import FINAL, JobState

__all__ = ["ServiceManager", "job_counts"]

#: What systemd says to a service of itself; a job that has them would take itself for the service.
_OURS = (
    "CONFIGURATION_DIRECTORY", "INVOCATION_ID", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE",
    "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "SYSTEMD_EXEC_PID",
)  # fmt: skip

#: Every other job that is not over has a process, or is about to.
_SHOWN_AS: Final = MappingProxyType({JobState.PAUSED: "paused", JobState.QUEUED: "waiting"})

#: The watchdog is fed that often in its time, so that one late round does no harm.
_FEEDS = 3


class ServiceManager:
    """Tells systemd where we are; telling never waits and never fails. Used from the loop's thread."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take what the manager wants out of the environment: it is meant for us, and not for jobs."""
        self._log = structlog.get_logger("service")
        for name in _OURS:
            environ.pop(name, None)
        address = environ.pop("NOTIFY_SOCKET", "")
        limit_s = _watchdog_s(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        # "@" stands for the zero byte that begins the name of a socket without a file.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        #: Whether a manager of services has started us.
        self.is_there = bool(address)
        self._feed_every_s = limit_s / _FEEDS if address else 0.0
        self._feed_at = 0.0
        self._is_deaf = False
        self._shown = ""

    def ready(self) -> None:
        """Whoever asks from now on is answered; also the end of a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Settings are being read again, until `ready()`."""
        # systemd matches a reload with its own signal by this time (Type=notify-reload).
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """We end by ourselves; how many jobs there are is not true any more."""
        self._tell("STOPPING=1\nSTATUS=")

    def show(self, text: str) -> None:
        """Have `systemctl status` say this, if it is another text than before."""
        if text != self._shown:
            self._shown = text
            self._tell(f"STATUS={text}")

    def cannot_start(self, why: str) -> None:
        """Have `systemctl status` say why; the number tells it from what a daemon that runs shows."""
        self._tell(f"STATUS={' '.join(why.split())}\nERRNO={errno.ECANCELED}")

    def feed(self) -> None:
        """Say that the loop turns, if it is time; call it in every round."""
        if self._feed_every_s and self.feed_in_s() <= 0:
            self._feed_at = time.monotonic() + self._feed_every_s
            self._tell("WATCHDOG=1")

    def feed_in_s(self) -> float:
        """Return in how many seconds `feed()` has something to say; infinite without a watchdog."""
        return self._feed_at - time.monotonic() if self._feed_every_s else float("inf")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(message.encode(), self._address)
        except (OSError, ValueError) as error:
            # Once: with a watchdog this comes again and again.
            if not self._is_deaf:
                self._log.warning("service-manager-not-told", message=message, problem=str(error))
            self._is_deaf = True
        else:
            self._is_deaf = False


def job_counts(states: Iterable[JobState]) -> str:
    """Return how many jobs do what, for people."""
    counts = Counter(_SHOWN_AS.get(state, "running") for state in states if state not in FINAL)
    said = [f"{counts[word]} {word}" for word in ("running", "paused", "waiting") if counts[word]]
    return f"jobs: {', '.join(said) or 'none'}"


def _watchdog_s(usec: str, pid: str) -> float:
    """Return the watchdog's time in seconds; 0 when there is none, or when it is another process's."""
    is_ours = pid in ("", str(os.getpid()))
    return int(usec) / 1e6 if is_ours and usec.isascii() and usec.isdecimal() else 0.0
