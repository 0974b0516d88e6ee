"""The files in systemd/ by themselves: what systemd says of each, and what each brings about.

Covers: units, the group of administrators, what is kept in /tmp, the folders of the system service.
Does not cover: jobs and the daemon's life under them (test_service_units.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.systemd.booted import USER, booted

BIN = Path(sys.prefix) / "bin"
FILES = ROOT / "systemd"
UNITS = sorted(path for scope in ("system", "user") for path in (FILES / scope).iterdir() if path.is_file())


@pytest.fixture(scope="module")
def machine():
    with booted() as up:
        for path in UNITS:
            folder = f"/etc/systemd/{path.parent.name}"
            up.ok("bash", "-c", f"mkdir -p {folder} && sed 's|@BIN@|{BIN}|' {path} > {folder}/{path.name}")
        up.ok("systemctl", "daemon-reload")
        yield up


@pytest.mark.parametrize("path", UNITS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_systemd_has_nothing_to_say_about_a_unit(machine, path):
    """
    A key that it does not know would be passed over in silence.
    """
    scope, user = (("--user",), USER) if path.parent.name == "user" else ((), "root")
    unit = f"/etc/systemd/{path.parent.name}/{path.name}"
    said = machine.run("systemd-analyze", *scope, "--man=no", "verify", unit, user=user)

    assert (0, "", "") == (said.code, said.out, said.err)


def test_the_group_of_administrators_begins_without_members(machine):
    """
    Whoever is in it may act on the jobs of others, so nobody is unless put there.
    """
    machine.ok("systemd-sysusers", str(FILES / "sysusers.d/training-supervisor.conf"))
    name, _, number, members = machine.ok("getent", "group", "training-supervisor").split(":")

    assert ("training-supervisor", "") == (name, members)
    assert 0 < int(number) < 1000


def test_the_folder_of_a_daemon_in_tmp_does_not_grow_old(machine):
    """
    systemd clears /tmp of what is some days old, and the lock of a daemon is.
    """
    ours, other = "/tmp/training-supervisor-4242/daemon.lock", "/tmp/other/daemon.lock"
    for file in (ours, other):
        machine.ok("bash", "-c", f"mkdir {Path(file).parent} && touch -d 2020-01-01 {file}")
    machine.ok("bash", "-c", "echo 'e /tmp - - - m:1d' > /run/clear.conf")
    machine.ok(
        "systemd-tmpfiles", "--clean", "/run/clear.conf", str(FILES / "tmpfiles.d/training-supervisor.conf")
    )

    assert ours == machine.ok("bash", "-c", f"ls {ours} {other} 2>/dev/null; true")


def test_the_folders_of_the_service_are_roots_alone_and_outlast_it(machine):
    """
    Also where others could read them before: users pass to what is theirs and to the socket,
    and write nothing. Jobs look for the socket in the very folder while the daemon is away.
    """
    folders = [f"{place}/training-supervisor" for place in ("/etc", "/var/lib", "/run")]
    machine.ok("bash", "-c", "mkdir -m 755 -p /var/lib/training-supervisor")
    machine.ok("systemctl", "start", "training-supervisord")
    started = machine.ok("stat", "-c", "%n %U %a", *folders, f"{folders[0]}/jobs.d")
    before = machine.ok("stat", "-c", "%i", *folders)
    machine.ok("systemctl", "stop", "training-supervisord")
    after = machine.ok("stat", "-c", "%i", *folders)

    modes = dict(zip((*folders, f"{folders[0]}/jobs.d"), ("700", "711", "755", "700"), strict=True))
    assert [f"{folder} root {mode}" for folder, mode in modes.items()] == started.splitlines()
    assert before == after
