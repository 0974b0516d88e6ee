"""What a process may do in the sandbox of the system's unit; run there, in place of the daemon.

usage: python sandbox_probe.py PID_OF_A_USER UID CLOSED_FILE_OF_THE_USER RESULT

Covers: each thing that the daemon needs, and some that it must not be able to do.
Does not cover: what is right (test_hardening.py).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

STATE = Path("/var/lib/training-supervisor/probe")
CLONE_NEWNS = 0x20000
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def as_user(uid: int, file: Path) -> None:
    """Read a file as its user does, in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            file.read_bytes()
            os._exit(0)
        except OSError:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        raise PermissionError


def trigger() -> None:
    """Ask the kernel to call within half a second, which takes a right of its own."""
    fd = os.open("/proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"some 50000 500000\0")
    os.close(fd)


def own_file(uid: int) -> None:
    STATE.write_text("x")
    os.chown(STATE, uid, uid)


def set_user_id() -> None:
    program = STATE.with_name("program")
    program.write_text("x")
    program.chmod(0o4755)


def things(pid: int, uid: int, closed: Path) -> dict[str, Callable[[], object]]:
    """Return what is tried, by name."""
    process = Path(f"/proc/{pid}")
    return {
        "environment of a user's process": (process / "environ").read_bytes,
        "descriptors of a user's process": lambda: list((process / "fd").iterdir()),
        "groups of a user's process": (process / "cgroup").read_bytes,
        "signal to a user's process": lambda: os.kill(pid, 0),
        "memory of the machine": Path("/proc/meminfo").read_bytes,
        "pressure": Path("/proc/pressure/memory").read_bytes,
        "call when memory is short": trigger,
        "control groups": Path("/sys/fs/cgroup/cgroup.procs").read_bytes,
        "look into a closed folder": closed.stat,
        "read as the user": lambda: as_user(uid, closed),
        "hand a file to a user": lambda: own_file(uid),
        "more open files": lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        ),
        "socket of systemd": lambda: socket.socket(socket.AF_UNIX).connect("/run/systemd/private"),
        "look into /tmp": Path("/tmp/of-a-user").stat,
        "NOT the network": lambda: socket.socket(socket.AF_INET),
        "NOT write /etc": lambda: Path("/etc/probe").write_text("x"),
        "NOT write a home": lambda: Path("/root/probe").write_text("x"),
        "NOT write the users' homes": lambda: (closed.parent / "probe").write_text("x"),
        "NOT write control groups": lambda: Path("/sys/fs/cgroup/probe").mkdir(),
        "NOT namespaces": lambda: checked(LIBC.unshare(CLONE_NEWNS)),
        "NOT mount": lambda: checked(LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
        "NOT a set-user-id program": set_user_id,
        "NOT devices": lambda: os.mknod("/run/training-supervisor/probe", 0o20600, os.makedev(1, 1)),
    }


def attempt(thing: Callable[[], object]) -> str:
    try:
        thing()
    except OSError as error:
        return type(error).__name__
    return "done"


def main(pid: str, uid: str, closed: str, result: str) -> None:
    found = {name: attempt(thing) for name, thing in things(int(pid), int(uid), Path(closed)).items()}
    Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
