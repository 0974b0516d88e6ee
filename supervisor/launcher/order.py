"""Starting a keeper, and handing over what it is to run.

Covers: the process, its descriptors, the order. Does not cover: what becomes of it (spawn.py), what it
does (keeper.py).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from supervisor.ports import LaunchSpec

__all__ = ["start_keeper"]

_KEEPER = Path(__file__).with_name("keeper.py")


def start_keeper(python: str, spec: LaunchSpec, max_files: int, control_group: str) -> tuple[int, int]:
    """Start a keeper; returns its pid and the end of its pipe."""
    label = f"{spec.job}.{spec.incarnation}"
    heading = [spec.log_heading] if spec.log_heading else []
    order = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        _write_order(order, spec)
        notice, keepers_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pid = os.posix_spawn(
                python,
                [
                    python,
                    "-I",
                    "-S",
                    str(_KEEPER),
                    label,
                    str(max_files),
                    spec.shell,
                    control_group,
                    *heading,
                ],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, order, 0),
                    (os.POSIX_SPAWN_DUP2, keepers_end, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0),
                ],
                setsid=True,
                # Blocked from the first instruction on; the command gets them back.
                setsigmask=signal.valid_signals(),
            )
        except OSError:
            os.close(notice)
            raise
        finally:
            os.close(keepers_end)
    finally:
        os.close(order)
    return pid, notice


def _write_order(fd: int, spec: LaunchSpec) -> None:
    """Hand over what to run in a file without a name, which no other user can open."""
    words = [str(spec.run_dir), str(spec.log), spec.cwd, str(len(spec.argv)), *spec.argv]
    words += [f"{name}={value}" for name, value in spec.env.items()]
    if any("\0" in word for word in words):
        raise ValueError("a word of the command or its environment holds a zero byte")
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    while text:
        text = text[os.write(fd, text) :]
    os.lseek(fd, 0, os.SEEK_SET)
