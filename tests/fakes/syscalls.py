"""Every system call of a process below one folder: failed on purpose, or written down.

Covers: building the library that stands before the C library (syscalls.c),
and driving it from inside a process that runs with it.
Does not cover: what a power cut leaves of the calls (powercut.py).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["CHANGES", "KINDS", "SHORT", "Faults", "run_with_library", "why_not"]

#: In the order of syscalls.c.
KINDS = (
    "open", "make", "read", "write", "allocate", "cut", "flush", "close", "rename", "link", "unlink", "mkdir",
    "rmdir", "mode", "lock", "flags", "lease", "room", "look", "list",
)  # fmt: skip
#: Those that a read-only or full disk refuses.
CHANGES = frozenset(KINDS) - {"open", "read", "close", "lock", "flags", "lease", "room", "look", "list"}
#: Instead of an error: half of the bytes are transferred.
SHORT = -1


@cache
def _compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def why_not() -> str:
    """The reason why this cannot be used here, empty if it can."""
    if not sys.platform.startswith("linux"):
        return "the library stands before glibc"
    return "" if _compiler() else "building the library needs a C compiler"


@cache
def _library() -> Path:
    """Build it; once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="ts-syscalls-"))
    library = folder / "syscalls.so"
    source = Path(__file__).with_suffix(".c")
    command = [_compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library


def run_with_library(*argv: str, timeout_s: float = 100) -> str:
    """Run a Python program with the library before the C library; return what it prints."""
    try:
        environment = os.environ | {"LD_PRELOAD": str(_library()), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, *argv]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    finally:
        shutil.rmtree(_library().parent)
        _library.cache_clear()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


class Faults:
    """The library, seen from a process that runs with it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_disarm.restype = ctypes.c_long

    def arm(self, folder: Path, kinds: frozenset[str], at: int, code: int, *, always: bool = False) -> None:
        """Fail call number `at` (from 0) of these kinds below `folder`, and perhaps all after it."""
        mask = sum(1 << KINDS.index(kind) for kind in kinds)
        self._library.faults_arm(
            os.fsencode(folder), ctypes.c_uint64(mask), ctypes.c_long(at), code, int(always)
        )

    def disarm(self) -> int:
        """Fail nothing any more; return how many calls there were."""
        return int(self._library.faults_disarm())

    def log(self, folder: Path, target: Path) -> None:
        """Write down every change below `folder` from now on."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._library.faults_log(os.fsencode(folder), descriptor)

    def mark(self, text: str) -> None:
        """Write a word of one's own between the calls."""
        self._library.faults_mark(text.encode())
