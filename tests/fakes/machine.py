"""Folders that look like /proc, /sys and a control group, with the contents that a test wants."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["BOOT", "FakeMachine"]

BOOT = "boot-1"


class FakeMachine:
    """One machine: two CPUs, 8 GiB, 4 GiB of them available, no swap, no battery, no groups."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.sys = root / "sys"
        self.write("proc/sys/kernel/random/boot_id", f"{BOOT}\n")
        (self.proc / "self/ns").mkdir(parents=True)
        self.cpu([0, 0])
        self.memory(total_kib=8 << 20, available_kib=4 << 20)
        for name in ("cpu", "memory", "io"):
            self.pressure(name)
        self.put(1, 0, name="init")

    def write(self, path: str, text: str) -> Path:
        """Put a text there; `path` is below the root of the machine."""
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # In place: a file that is kept open must see it.
        file.write_text(text)
        return file

    def cpu(self, busy_ticks: Iterable[int]) -> None:
        """Let each CPU have been busy for so long."""
        lines = [f"cpu{number} {ticks} 0 0 5000 0 0 0 0 0 0" for number, ticks in enumerate(busy_ticks)]
        self.write(
            "proc/stat", "\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *lines, "intr 12 0 9", "processes 5\n"])
        )

    def memory(
        self, *, total_kib: int, available_kib: int, swap_kib: int = 0, swap_free_kib: int = 0
    ) -> None:
        self.write(
            "proc/meminfo",
            f"MemTotal: {total_kib} kB\nMemFree: 1 kB\nMemAvailable: {available_kib} kB\n"
            f"SwapTotal: {swap_kib} kB\nSwapFree: {swap_free_kib} kB\nHugePages_Total: 0\n",
        )

    def pressure(self, name: str, some: float = 0.0, full: float = 0.0) -> None:
        self.write(
            f"proc/pressure/{name}",
            f"some avg10={some:.2f} avg60=0.00 avg300=0.00 total=9\n"
            f"full avg10={full:.2f} avg60=0.00 avg300=0.00 total=9\n",
        )

    def put(
        self,
        pid,
        parent=1,
        *,
        cpu=(0, 0, 0, 0),
        pages=0,
        file_pages=0,
        start=500,
        state="S",
        session=1,
        name="python",
    ) -> None:
        """Let a process be, or change it; `cpu` is user and kernel time, and that of children waited for."""
        used = " ".join(map(str, cpu))
        text = (
            f"{pid} ({name}) {state} {parent} 1 {session} 0 -1 0 0 0 0 0 {used} 20 0 1 0 {start} 99 {pages}\n"
        )
        self.write(f"proc/{pid}/stat", text)
        self.write(f"proc/{pid}/comm", f"{name}\n")
        file_kib = file_pages * os.sysconf("SC_PAGE_SIZE") // 1024
        self.write(f"proc/{pid}/status", f"Name:\t{name}\nRssAnon:\t  8 kB\nRssFile:\t  {file_kib} kB\n")

    def remove(self, pid) -> None:
        shutil.rmtree(self.proc / str(pid))
