"""A real systemd as PID 1, in namespaces of its own, with what this machine has installed.

    with booted() as machine:
        machine.run("systemctl", "start", "x.service")

Covers: the root file system, over which a layer in memory lies, so that whatever is changed in there is gone
afterwards; a user; running commands as either; a start anew on what its disk has, with another boot id; that
nothing is left behind.
Does not cover: limits of control groups (none are passed on), networks (none but its own loopback).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.harness import ROOT, Said, until

__all__ = ["USER", "Booted", "booted"]

PACKAGES: Final = (
    "systemd", "systemd-sysv", "systemd-container", "dbus", "dbus-user-session", "libpam-systemd",
)  # fmt: skip
USER: Final = "ada"
_UID: Final = 4242
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GROUPS: Final = Path("/sys/fs/cgroup")


class Booted:
    """One that runs, once `boot()` was called; `leader` is its PID 1 as seen from here."""

    def __init__(self, name: str, folder: Path, groups: list[Path]) -> None:
        self._name, self._folder, self._groups = name, folder, groups
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def boot(self) -> None:
        """Start it; systemd-nspawn gives each start a boot id of its own."""
        self._nspawn = _start(self._name, self._folder, self._groups)
        until(self._is_up, lambda: (self._folder / "log").read_text()[-3000:])

    def power_off(self) -> None:
        """End it as a person does: systemd stops everything first."""
        assert self._nspawn is not None
        self.run("systemctl", "--no-block", "poweroff")
        self._nspawn.wait(60)

    def cut_power(self) -> None:
        """End all in there at once."""
        # A number of a process that has ended may be another's by now.
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        # All in there end with their PID 1.
        for pid in self._children():
            os.kill(pid, signal.SIGKILL)
        self._nspawn.wait(30)

    def wait_for(self, user: str) -> None:
        """Return when the systemd of a user is up."""
        until(lambda: self._says_up("--user", user=user), f"the systemd of {user} to be up")

    def _is_up(self) -> bool:
        """Say whether all is started; the first child of nspawn is a step on the way only."""
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, "systemd-nspawn has ended"
        for pid in self._children():
            self.leader = pid
            if self._says_up():
                return True
        return False

    def _says_up(self, *scope: str, user: str = "root") -> bool:
        state = self.run("systemctl", *scope, "is-system-running", user=user).out.strip()
        return state in ("running", "degraded")

    def _children(self) -> list[int]:
        assert self._nspawn is not None
        pid = self._nspawn.pid
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def run(self, *argv: str, user: str = "root") -> Said:
        """Run a command in there, as root or as the user."""
        if user != "root":
            home = f"/home/{user}"
            variables = (f"XDG_RUNTIME_DIR=/run/user/{_UID}", f"HOME={home}", f"USER={user}")
            argv = ("runuser", "-u", user, "--", "env", "-C", home, *variables, *argv)
        inside = ("nsenter", "-t", str(self.leader), "-a", "--", "env", "-i", f"PATH={_PATH}", "LANG=C.UTF-8")
        done = subprocess.run([*inside, *argv], capture_output=True, text=True, timeout=60, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    def ok(self, *argv: str, user: str = "root") -> str:
        """Run a command that has to succeed; returns what it printed."""
        said = self.run(*argv, user=user)
        assert 0 == said.code, (argv, said)
        return said.out.strip()


def _cannot(why: str) -> NoReturn:
    """Skip; where REQUIRE_SYSTEMD=1 says that these tests are to run, fail."""
    if os.environ.get("REQUIRE_SYSTEMD") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@contextmanager
def booted() -> Iterator[Booted]:
    """Yield a machine that is up; skips where there can be none, or fails (`_cannot`)."""
    if os.geteuid() != 0:
        _cannot("a systemd of its own needs root")
    tools = subprocess.run([ROOT / "tests/tools.sh", *PACKAGES], capture_output=True, text=True, check=False)
    if tools.returncode != 0:
        _cannot(f"no systemd to boot here: {tools.stderr.strip()}")
    with ExitStack() as stack:
        name = f"ts-{os.getpid()}"
        groups = [stack.enter_context(_group(folder / name)) for folder in _hierarchies()]
        folder = stack.enter_context(_layer())
        machine = Booted(name, folder, groups)
        stack.callback(machine.cut_power)
        machine.boot()
        _prepare(machine)
        yield machine


def _hierarchies() -> list[Path]:
    """Return where systemd's groups can be made: version 2, and version 1's own one beside it."""
    places = [_GROUPS, _GROUPS / "unified", _GROUPS / "systemd"]
    found = [place for place in places if (place / "cgroup.procs").exists() and os.access(place, os.W_OK)]
    if not found:
        _cannot("no systemd to boot here: no control groups can be made")
    return found


@contextmanager
def _group(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir()
    except OSError as error:
        _cannot(f"no systemd to boot here: no control groups can be made: {error.strerror}")
    try:
        yield folder
    finally:
        until(lambda: _removed(folder), f"{folder} to be empty")


def _removed(folder: Path) -> bool:
    """Remove a group with all below it; False while a process that was killed is still in one."""
    try:
        for below, _, _ in os.walk(folder, topdown=False):
            Path(below).rmdir()
    except OSError:
        return False
    return True


@contextmanager
def _layer() -> Iterator[Path]:
    """Yield a folder whose `root` is this machine's, with changes in memory."""
    folder = Path(tempfile.mkdtemp(prefix="ts-systemd-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        _mounted(stack, folder, "-t", "tmpfs", "-o", "mode=755", "tmpfs")
        units = folder / "up/etc/systemd/system"
        for place in (units, folder / "work", folder / "root"):
            place.mkdir(parents=True)
        for unit in _of_this_machine():
            (units / unit).symlink_to("/dev/null")
        layers = f"lowerdir=/,upperdir={folder}/up,workdir={folder}/work"
        _mounted(stack, folder / "root", "-t", "overlay", "-o", layers, "overlay")
        yield folder


def _of_this_machine() -> set[str]:
    """Return the services that this machine starts and a test has no use for."""
    wanted = [
        *Path("/etc/systemd/system").glob("*.wants/*"),
        *Path("/lib/systemd/system").glob("*.wants/*.timer"),
    ]
    kept = ("dbus", "systemd-logind", "systemd-user-sessions")
    return {
        one.name for one in wanted if not one.name.startswith(kept) and one.suffix in (".service", ".timer")
    }


def _mounted(stack: ExitStack, folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _cannot(f"no systemd to boot here: {done.stderr.strip()}")
    stack.callback(subprocess.run, ["umount", folder], check=True)


def _start(name: str, folder: Path, groups: list[Path]) -> subprocess.Popen[bytes]:
    # Its own /tmp hides ours, where a checkout may lie.
    binds = {f"--bind-ro={ROOT}", f"--bind-ro={sys.prefix}"}
    words = [
        "systemd-nspawn",
        "-q",
        "-D",
        str(folder / "root"),
        "--boot",
        f"--machine={name}",
        "--register=no",
    ]
    words += ["--keep-unit", "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"]
    enter = "".join(f"echo $$ > {group}/cgroup.procs && " for group in groups)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            ["sh", "-c", f'{enter}exec "$@"', "sh", *words, "--console=pipe", *binds],
            env={"PATH": _PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _prepare(machine: Booted) -> None:
    """Take away what the service of this machine has; make a user who can read what the tests are made of.

    His systemd goes on without a login.
    """
    machine.ok("rm", "-rf", *(f"{place}/training-supervisor" for place in ("/etc", "/var/lib")))
    machine.ok("useradd", "--create-home", "--uid", str(_UID), "--shell", "/bin/bash", USER)
    for place in (ROOT, Path(sys.prefix), Path(sys.base_prefix)):
        # Only in its layer: here they stay as they are.
        machine.ok(
            "chmod", "o+x", *(str(folder) for folder in place.parents if not folder.is_relative_to(ROOT))
        )
    machine.ok("loginctl", "enable-linger", USER)
    machine.wait_for(USER)
