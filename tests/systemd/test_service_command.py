"""`supervisorctl service` under a real systemd: what it does, what it says, what it leaves alone.

Covers: installing, renewing and removing, for root and for a user; each thing that may stand in the way.
Does not cover: the texts of units (test_service_files.py), the daemon's life (test_service_units.py).
"""

from __future__ import annotations

import json

import pytest

from tests.harness import ROOT, until
from tests.systemd.booted import USER, booted
from tests.systemd.environment import PLACE, add_environment
from tests.systemd.person import FOLDERS, UNIT, UNITS, Person

OTHER = "/opt/other"


@pytest.fixture(scope="module")
def machine():
    with booted() as up:
        add_environment(up)
        add_environment(up, OTHER)
        yield up


@pytest.fixture(params=list(FOLDERS))
def person(machine, request):
    one = Person(machine, request.param)
    yield one
    one.service("uninstall")


def test_installing_it_says_what_was_done_and_again_does_nothing(person):
    """
    It returns when the daemon answers, and tells where everything lies; the same command again is harmless.
    """
    first, first_pid = person.does("install"), person.report()["pid"]
    again, again_pid = person.does("install"), person.report()["pid"]

    assert f"wrote {UNITS[person.user]}/{UNIT}.service" in first
    assert "enabled" in first
    assert "\nstarted\n" in first
    assert f"answers (process {first_pid}, " in first
    assert "log: journalctl" in first
    assert f"{UNIT} 0." in again.splitlines()[0], again
    assert first_pid == again_pid


@pytest.mark.soak
def test_what_is_installed_and_what_runs_is_told(person):
    """
    Also when the environment was renewed under a daemon that runs; the new one is a command away.
    """
    before = person.report(), person.service("status").code
    person.does("install")
    job = person.train("night")
    daemon = person.report()
    init = person.machine.ok("bash", "-c", f"echo {PLACE}/lib/python3*/site-packages/supervisor/__init__.py")
    person.machine.ok("sed", "-i", 's/^__version__ = .*/__version__ = "0.99"/', init)
    renewed, told = person.report(), person.service("status").err
    upgraded = person.does("upgrade")
    after = person.report()
    person.machine.ok("cp", f"{ROOT}/supervisor/__init__.py", init)

    assert ("not installed", 4) == (before[0]["state"], before[1])
    assert ("active", daemon["version_running"]) == (daemon["state"], daemon["version_installed"])
    assert (daemon["version_running"], "0.99") == (renewed["version_running"], renewed["version_installed"])
    assert "service upgrade" in told
    assert ("0.99", "0.99") == (after["version_running"], after["version_installed"])
    assert daemon["pid"] != after["pid"]
    assert "restarted; jobs went on meanwhile" in upgraded
    assert job == person.row("night")["pid"]
    person.ctl("kill", "night")


@pytest.mark.soak
def test_another_environment_takes_over(person):
    """
    The unit names one environment: the one that was installed from last.
    """
    person.does("install")
    text = person.does("install", place=OTHER)

    assert f"{OTHER}/bin/{UNIT}" == person.report()["program"]
    assert "restarted" in text


@pytest.mark.soak
def test_uninstalling_it_leaves_jobs_and_says_what_stays(person):
    """
    The training goes on as the same process, the journal has it, and a service that comes back takes it up.
    """
    person.does("install")
    job = person.train("day")
    (shown,) = json.loads(person.ctl("show", "day", "--json"))
    checkpoints = shown["checkpoints"]
    text = person.does("uninstall")
    again = person.does("uninstall")
    places = person.report()
    units = person.machine.run("bash", "-c", f"cd {UNITS[person.user]} && ls training-*.s*e").out
    person.machine.ok("kill", "-0", str(job))
    person.machine.ok("ls", f"{places['state_folder']}/journal.sqlite")
    person.does("install")

    assert "not installed" == places["state"]
    assert "1 job without a daemon now" in text
    assert f"left: checkpoints of day in {checkpoints}\n" in text
    assert f"left: journal and logs in {places['state_folder']}" in text
    assert "no service was installed" in again
    assert "" == units
    assert ("running", job) == (person.row("day")["state"], person.row("day")["pid"])
    person.ctl("kill", "day")


def refused(said, code, what, hint):
    assert code == said.code, said
    assert said.err.startswith(f"error: cannot {what}"), said.err
    assert hint in said.err.partition("hint: ")[2], said.err


def test_a_unit_of_another_program_is_not_touched(person):
    """
    Neither replaced nor removed; the file is named.
    """
    path = f"{UNITS[person.user]}/{UNIT}.service"
    person.machine.ok(
        "bash", "-c", f"mkdir -p {UNITS[person.user]}; echo '[Unit]' > {path}", user=person.user
    )
    for verb in ("install", "uninstall"):
        refused(person.service(verb), 3, f"use `{path}`", f"mv {path}")
    kept = person.machine.ok("cat", path)
    person.machine.ok("ln", "-sf", "/dev/null", path)
    refused(person.service("install"), 3, f"use `{path}`: it is masked", "unmask")
    person.machine.ok("rm", path)

    assert "[Unit]" == kept


@pytest.mark.soak
def test_a_daemon_started_by_hand_is_named(person):
    """
    Two would serve the same folders; its jobs are taken up by the service.
    """
    pid = person.machine.ok(
        "bash", "-c", f"setsid {PLACE}/bin/{UNIT} </dev/null >/dev/null 2>&1 & echo $!", user=person.user
    )
    until(
        lambda: person.machine.run(f"{PLACE}/bin/supervisorctl", "version", user=person.user).code == 0, pid
    )
    said = person.service("install")
    person.machine.ok("kill", pid)
    until(lambda: person.machine.run("kill", "-0", pid).code, pid)
    person.does("install")

    refused(said, 3, f"start the service: a daemon started by hand (process {pid})", f"kill {pid}")


def test_places_that_do_not_stay_or_belong_to_others_are_refused(machine):
    """
    What lies below /tmp is gone after a start of the machine; who writes root's programs is root.
    """
    root = Person(machine, "root")
    add_environment(machine, "/tmp/passing")
    refused(root.service("install", place="/tmp/passing"), 1, "install from `/tmp/passing/bin`", "/opt/")
    theirs = f"/home/{USER}/env"
    add_environment(machine, theirs)
    machine.ok("chown", "-R", USER, theirs)
    refused(root.service("install", place=theirs), 3, f"install from `{theirs}/bin`", "/opt/")

    assert 0 != machine.run("ls", f"{UNITS['root']}/{UNIT}.service").code


def test_persons_who_cannot_are_told_who_can(machine):
    """
    A user without root, root as a person, a shell that systemd does not know of.
    """
    ctl = f"{PLACE}/bin/supervisorctl"
    not_root = machine.run(ctl, "service", "install", user=USER)
    as_person = machine.run("env", "XDG_RUNTIME_DIR=/run", ctl, "service", "upgrade", "--user")
    without_login = machine.run("runuser", "-u", USER, "--", ctl, "service", "status", "--user")
    too_early = machine.run(ctl, "service", "upgrade")
    elsewhere = machine.run("env", "TRAINING_SUPERVISOR_HOME=/x", ctl, "service", "install")
    home = machine.run(ctl, "--home", "/x", "service", "install")

    refused(not_root, 3, "install the system's", f"sudo {ctl}")
    refused(as_person, 2, "upgrade a person's", ctl)
    refused(without_login, 1, f"reach the systemd of {USER}", "ssh")
    refused(too_early, 1, "upgrade the service", f"{ctl} service install")
    refused(elsewhere, 2, "look after a service", "unset")
    refused(home, 2, "use --home", "systemctl edit")


def test_a_user_sees_the_state_of_the_systems_service(machine):
    """
    With its places, and not their own; what only the daemon knows is root's to ask.
    """
    root = Person(machine, "root")
    root.does("install")
    ask = (f"{PLACE}/bin/supervisorctl", "service", "status")
    (seen,) = json.loads(machine.run(*ask, "--json", user=USER).out)
    said = machine.run(*ask, user=USER)
    mine = root.report()
    root.does("uninstall")

    known = ("state", "unit", "configuration", "sockets", "version_installed", "jobs", "pid")
    assert {key: mine[key] for key in known} == {key: seen[key] for key in known}
    assert (0, "active") == (said.code, seen["state"])
    assert "running        not known: root alone may ask it" in said.out
