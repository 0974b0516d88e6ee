"""The units in systemd/ under a real systemd, for root and for a user.

Covers: installing by the lines of docs/OPERATIONS.md, start, reload, a daemon that is killed or hangs, stop:
what systemd says of the unit, and that jobs notice nothing.
Does not cover: each message to systemd (tests/integration/test_service.py).
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT, until
from tests.systemd.booted import USER, booted
from tests.systemd.environment import PLACE, add_environment

UNIT = "training-supervisord"
BIN = Path(PLACE) / "bin"
PLACES = {
    "root": ("/etc/training-supervisor", ()),
    USER: (f"/home/{USER}/.config/training-supervisor", ("--user",)),
}


@pytest.fixture(scope="module")
def machine():
    with booted() as up:
        add_environment(up)
        yield up


class Service:
    """The unit, as one who installed it by the documented lines sees it."""

    def __init__(self, machine, user):
        self.machine, self.user = machine, user
        self.config, self.scope = PLACES[user]
        # A watchdog that a test can wait for; `systemctl edit` would write the same.
        self.write_drop_in("[Service]\nWatchdogSec=1.5\nRestartSec=100ms\n")
        for line in documented_lines(user):
            self.ok("bash", "-c", f"PATH={BIN}:$PATH && {line}")

    def write_drop_in(self, text):
        base = "/etc/systemd/system" if self.user == "root" else f"/home/{USER}/.config/systemd/user"
        self.write(f"{base}/{UNIT}.service.d/test.conf", text)

    def write(self, path, text):
        self.ok("bash", "-c", f"mkdir -p {Path(path).parent} && printf %s {shlex.quote(text)} > {path}")

    def ok(self, *argv):
        return self.machine.ok(*argv, user=self.user)

    def ctl(self, *words):
        return self.ok(str(BIN / "supervisorctl"), *words)

    def systemctl(self, *words):
        return self.ok("systemctl", *self.scope, *words)

    def shows(self, key):
        return self.systemctl("show", "-P", key, UNIT)

    @property
    def pid(self):
        return int(self.shows("MainPID"))

    def row(self, job):
        (row,) = json.loads(self.ctl("status", job, "--json"))
        return row

    def train(self, name):
        """Start a run as a job; returns its row once it has trained."""
        home = "/root" if self.user == "root" else f"/home/{self.user}"
        words = ("env", f"CHAIN={home}/{name}", "CHAIN_STEPS=1000000", "CHAIN_STEP_S=0.02")
        self.ok("mkdir", f"{home}/{name}")
        self.ctl("run", "--name", name, "--", *words, sys.executable, str(ROOT / "tests/trainers/chain.py"))
        return self.trained(name, 0)

    def trained(self, name, step):
        """Return the row once it is known to be further than that step."""
        until(lambda: (self.row(name)["step"] or 0) > step, lambda: self.ctl("logs", name))
        return self.row(name)

    def returns(self, before, num_restarts):
        """Wait for another daemon that is ready."""
        until(lambda: self.shows("ActiveState") == "active" and self.pid not in (0, before), self.log)
        assert num_restarts == int(self.shows("NRestarts"))

    def log(self):
        return self.ok("journalctl", *self.scope, "-u", UNIT, "-o", "cat", "--no-pager")


def documented_lines(user):
    """The lines that OPERATIONS tells to type, for this user."""
    text = (ROOT / "docs/OPERATIONS.md").read_text()
    section = text[text.index("## As a service") :]
    user_lines, root_lines = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[:2]
    lines = (root_lines if user == "root" else user_lines).splitlines()
    assert len(lines) == 1
    return [line.removeprefix("sudo ") for line in lines]


@pytest.fixture(scope="module", params=list(PLACES))
def service(machine, request):
    return Service(machine, request.param)


def test_the_unit_is_one_that_systemd_has_nothing_to_say_about(service):
    """
    A key that it does not know would be passed over in silence.
    """
    path = service.shows("FragmentPath")
    said = service.machine.run(
        "systemd-analyze", *service.scope, "--man=no", "verify", path, user=service.user
    )

    assert (0, "", "") == (said.code, said.out, said.err)
    assert "@BIN@" not in service.ok("cat", path)


def test_jobs_notice_nothing_of_what_happens_to_the_daemon(service):
    """
    Started is who answers. A job runs on as the same process while the unit is reloaded, its daemon killed,
    hung and restarted, and while it is stopped; then it is known again.
    """
    first = service.pid
    job = service.train("night")

    service.write(f"{service.config}/config.toml", "[daemon]\nlog_level = 5\n")
    refused = service.machine.run("systemctl", *service.scope, "reload", UNIT, user=service.user)
    service.write(f"{service.config}/config.toml", '[daemon]\nlog_level = "debug"\n')
    service.systemctl("reload", UNIT)
    reloaded = service.pid

    service.ok("kill", "-9", str(first))
    service.returns(first, 1)
    second = service.pid
    service.ok("kill", "-STOP", str(second))
    service.returns(second, 2)
    service.systemctl("restart", UNIT)
    before = service.trained("night", job["step"])
    service.systemctl("stop", UNIT)
    stopped = service.shows("Result")
    service.systemctl("start", UNIT)
    after = service.trained("night", before["step"])
    counted = service.shows("StatusText")
    service.ctl("kill", "night")
    of_the_job = service.ok("journalctl", *service.scope, "-u", UNIT, "JOB=night", "-o", "json", "--no-pager")

    assert "jobs: 1 running" == counted
    entries = [json.loads(line) for line in of_the_job.splitlines()]
    assert ("starting", "running") in {(one.get("OLD"), one.get("NEW")) for one in entries}
    assert all("night" in one["MESSAGE"] for one in entries)
    assert 0 != refused.code
    assert first == reloaded
    assert "success" == stopped
    assert {("running", job["pid"])} == {(row["state"], row["pid"]) for row in (before, after)}
    assert "Watchdog timeout" in service.log()
    assert "Fatal Python error: Aborted" in service.log()


def test_a_job_of_a_file_gets_the_python_of_the_daemon_and_nothing_that_is_meant_for_the_daemon(service):
    """
    `python` in a job file is the environment's; a job cannot speak to systemd for the daemon.
    """
    service.write(
        f"{service.config}/jobs.d/env.toml",
        'command = ["python", "-c", "import os, sys; print(sys.prefix, sorted(os.environ))"]\ncwd = "/"\n',
    )
    service.systemctl("reload", UNIT)
    until(lambda: service.row("env")["state"] == "completed", lambda: service.row("env"))
    log = service.ctl("logs", "env")

    assert PLACE in log
    assert "HOME" in log
    assert "NOTIFY_SOCKET" not in log
    assert "WATCHDOG" not in log
