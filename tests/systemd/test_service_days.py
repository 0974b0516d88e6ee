"""Days of an installed service, for root and for a user: all that happens to a daemon while jobs run.

Covers: submit, pause, resume, reload, restart, `kill -9`, a hung loop, uninstall, jobs that
end while the daemon is away. Long: `make test-service` runs it.
Does not cover: several users, a machine that is started anew.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.harness import ROOT, until
from tests.systemd.booted import booted
from tests.systemd.environment import add_environment
from tests.systemd.person import FOLDERS, UNIT, UNITS, Person, ends_while_away

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def machine():
    with booted() as up:
        add_environment(up)
        yield up


@pytest.fixture(params=list(FOLDERS))
def person(machine, request):
    one = Person(machine, request.param)
    # A watchdog that a test can wait for.
    one.write(
        f"{UNITS[one.user]}/{UNIT}.service.d/test.conf", "[Service]\nWatchdogSec=1.5\nRestartSec=100ms\n"
    )
    one.does("install")
    yield one
    one.service("uninstall")


def restart(person, before):
    person.systemctl("restart", UNIT)
    return person.other_daemon(before)


def kill(person, before):
    person.machine.ok("kill", "-9", str(before))
    return person.other_daemon(before)


def hang(person, before):
    person.machine.ok("kill", "-STOP", str(before))
    return person.other_daemon(before)


def reload(person, before):
    person.systemctl("reload", UNIT)
    return before


def test_a_training_and_a_pause_outlive_all_that_happens_to_the_daemon(person):
    """
    The same process trains on, or waits on; a pause is taken back by a daemon that did not give it.
    """
    trained, daemon = person.train("night"), person.report()["pid"]
    waiting = person.train("held")
    person.ctl("pause", "held", "--wait")
    seen = []
    for happens in (reload, restart, kill, hang):
        daemon = happens(person, daemon)
        step = person.row("night")["step"] or 0
        until(lambda step=step: (person.row("night")["step"] or 0) > step, lambda: person.ctl("status"))
        seen += [(row["state"], row["pid"]) for row in map(person.row, ("night", "held"))]
    counted = person.shows("StatusText")
    step = person.row("held")["step"] or 0
    person.ctl("resume", "held", "--wait")
    until(lambda: (person.row("held")["step"] or 0) > step, lambda: person.ctl("status"))
    text = person.does("uninstall")
    person.machine.ok("kill", "-0", str(trained))
    person.machine.ok("kill", str(trained), str(waiting))

    assert {("running", trained), ("paused", waiting)} == set(seen)
    assert "jobs: 1 running, 1 paused" == counted
    assert "2 jobs without a daemon now" in text


def test_how_jobs_ended_while_the_daemon_was_away_is_known(person):
    """
    With 0, with 7, by SIGKILL; each was started once, and is not started again.
    """
    rows, starts = ends_while_away(person, person)

    assert [("completed", 0, None), ("failed", 7, None), ("failed", None, 9)] == [
        (row["state"], row["exit_code"], row["exit_signal"]) for row in rows
    ]
    assert ["x"] * 3 == starts


def documented(heading):
    """Return the blocks of lines that a section of OPERATIONS tells to type, as root types them."""
    section = (ROOT / "docs/OPERATIONS.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [block.replace("sudo ", "") for block in blocks]


def types(machine, block):
    machine.ok("bash", "-ec", block)


def test_a_backup_by_the_documented_lines_brings_everything_back(machine):
    """
    Jobs that were known then are known again, with their logs; settings too. So does a copy of the journal
    that was made while the daemon ran.
    """
    person = Person(machine, "root")
    whole, journal, back = documented("Back up")
    person.does("install")
    person.run_job("before", "echo", "spoken")
    until(lambda: person.row("before")["state"] == "completed", lambda: person.row("before"))
    person.write("/etc/training-supervisor/config.toml", '[daemon]\nlog_level = "warning"\n')
    types(machine, whole)
    person.run_job("between", "true")
    until(lambda: person.row("between")["state"] == "completed", lambda: person.row("between"))
    types(machine, journal)
    mode = machine.ok("stat", "-c", "%a", "/root/journal.sqlite")
    person.systemctl("stop", UNIT)
    for kind, place in (("state", "/var/lib"), ("settings", "/etc")):
        machine.ok("rm", "-r", f"{place}/training-supervisor")
        machine.ok("cp", "-a", f"/root/training-supervisor-{kind}", f"{place}/training-supervisor")
    person.systemctl("start", UNIT)
    kept = machine.ok("cat", "/etc/training-supervisor/config.toml")
    log, states = person.ctl("logs", "before"), states_of(person)
    types(machine, back)
    states_by_journal = states_of(person)
    person.does("uninstall")

    assert {"before": "completed"} == states
    assert "spoken" in log
    assert "warning" in kept
    assert "600" == mode
    assert {"before": "completed", "between": "completed"} == states_by_journal


def states_of(person):
    """Return the states of this test's jobs; those of the others have gone on."""
    rows = json.loads(person.ctl("status", "--json"))
    return {row["name"]: row["state"] for row in rows if row["name"] in ("before", "between")}
