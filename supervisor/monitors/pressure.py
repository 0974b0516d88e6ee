"""How long tasks wait for CPU, memory and disks (PSI), and a call of the kernel when memory is short.

Covers: the averages over 10 s of the machine or of the group that limits us,
and the trigger on memory.
Does not cover: thresholds of rules.

The kernel looks at a trigger every 2 s, and the window must be a multiple of
that, unless we have CAP_SYS_RESOURCE: then the window is 0.5 s.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor.core.readings.sample import Missing, Pressure, Reading
from supervisor.monitors.files import KeptFile, attempt

__all__ = ["MemoryTrigger", "PressureFiles", "parse"]

#: Stall and window in us, the quickest first; which one we may have, the kernel says.
_WINDOWS: Final = ("some 50000 500000", "some 150000 2000000")


class PressureFiles:
    """For one thread; three files that are kept open."""

    def __init__(self, *, folder: Path = Path("/proc/pressure")) -> None:
        self._files = {name: KeptFile(str(folder / name)) for name in ("cpu", "memory", "io")}

    def limit_to(self, resource: str, group: Path) -> None:
        """Read one of them from a control group, where it has the file: its tasks wait first."""
        path = group / f"{resource}.pressure"
        if path.exists():
            self._files[resource].close()
            self._files[resource] = KeptFile(str(path))

    def read(self) -> Pressure:
        """Return the averages over the last 10 s."""
        cpu, memory, disk = (self._averages(file) for file in self._files.values())
        return Pressure(
            cpu_some_pct=_pick(cpu, "some"),
            memory_some_pct=_pick(memory, "some"),
            memory_full_pct=_pick(memory, "full"),
            io_some_pct=_pick(disk, "some"),
            io_full_pct=_pick(disk, "full"),
        )

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()

    def _averages(self, file: KeptFile) -> dict[str, float] | Missing:
        return attempt(file.path, lambda: parse(file.read()))


def parse(text: str) -> dict[str, float]:
    """Return `avg10` of each line: `some`, and `full` where there is one; raises ValueError."""
    found = {}
    for line in text.splitlines():
        kind, *words = line.split()
        values = dict(word.split("=", 1) for word in words)
        found[kind] = float(values["avg10"])
        if not 0 <= found[kind] <= 100:
            raise ValueError(line)
    if "some" not in found:
        raise ValueError(text)
    return found


def _pick(averages: dict[str, float] | Missing, kind: str) -> Reading:
    if isinstance(averages, Missing):
        return averages
    return averages[kind] if kind in averages else Missing(f"the kernel does not tell `{kind}` of it")


class MemoryTrigger:
    """The kernel's call when tasks begin to wait for memory.

    One descriptor for all files: it is readable once a call. Looking takes the
    call away, so `acknowledge` cannot know more than that there was one.
    """

    def __init__(self, paths: Iterable[Path] = (Path("/proc/pressure/memory"),)) -> None:
        self._epoll = select.epoll()
        self._fds: dict[str, int] = {}
        #: Why the kernel will not call, or "".
        self.problem = "nothing to wait for"
        for path in paths:
            self.add(path)

    @property
    def window(self) -> str:
        """What was asked of the kernel, or ""."""
        return self._window

    _window = ""

    def add(self, path: Path) -> None:
        """Wait for this file too; not being able to is no error, `problem` tells."""
        if str(path) in self._fds:
            return
        for window in _WINDOWS:
            try:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                self.problem = f"cannot open {path}: {error.strerror}"
                return
            try:
                # Epoll refuses an ordinary file, so nothing is ever written to one.
                self._epoll.register(fd, select.EPOLLPRI)
                self._epoll.unregister(fd)
                os.write(fd, window.encode() + b"\0")
                self._epoll.register(fd, select.EPOLLPRI)
            except OSError as error:
                os.close(fd)
                self.problem = f"cannot wait for {path}: {error.strerror}"
                continue
            self._fds[str(path)] = fd
            self._window, self.problem = window, ""
            return

    def fileno(self) -> int:
        """Return a descriptor that is readable (POLLIN) when the kernel has called."""
        return self._epoll.fileno()

    def acknowledge(self) -> None:
        """Take the call; a file whose group is gone would call for ever, so it is dropped."""
        for fd, events in self._epoll.poll(0):
            if events & select.EPOLLERR:
                for path, other in list(self._fds.items()):
                    if other == fd:
                        del self._fds[path]
                with suppress(OSError):
                    self._epoll.unregister(fd)
                os.close(fd)

    def close(self) -> None:
        """Let go of the triggers."""
        self._epoll.close()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
