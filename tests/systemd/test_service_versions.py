"""An installed service and what another version wrote: a journal of an earlier one, and what is newer.

Covers: an upgrade from the journal of an earlier version, a newer journal, a newer checkpoint.
Does not cover: each record of an earlier journal (tests/contract/test_journal.py), each checkpoint that
cannot be restored (tests/crash).
"""

from __future__ import annotations

import json
import re

import pytest

from tests.harness import ROOT, until
from tests.systemd.booted import booted
from tests.systemd.environment import PLACE, add_environment
from tests.systemd.person import UNIT, Person

pytestmark = pytest.mark.soak

STATE = "/var/lib/training-supervisor"
JOURNAL = f"{STATE}/journal.sqlite"
EARLIER = ROOT / "tests/golden/journal_v3/journal.sqlite"


@pytest.fixture(scope="module")
def root():
    with booted() as machine:
        add_environment(machine)
        one = Person(machine, "root")
        one.does("install")
        yield one


def set_version(root, change):
    """Have the journal be of another version, with nobody at it; returns its digest."""
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1])\n"
        "(version,) = db.execute('PRAGMA user_version').fetchone()\n"
        "db.execute(f'PRAGMA user_version = {version + int(sys.argv[2])}')"
    )
    root.machine.ok(f"{PLACE}/bin/python", "-c", code, JOURNAL, str(change))
    return root.machine.ok("sha256sum", JOURNAL)


def test_an_upgrade_takes_up_the_journal_of_an_earlier_version(root):
    """
    Its jobs are there with all that it knew of them; what ran when that version wrote is over.
    """
    root.systemctl("stop", UNIT)
    root.machine.ok("sh", "-c", f"rm {STATE}/journal.sqlite*; cp {EARLIER} {JOURNAL}; chmod 600 {JOURNAL}")
    text = root.does("upgrade")
    states = {job: root.row(job)["state"] for job in ("gone", "completed", "stopped", "running")}
    events = root.ctl("events", "gone")

    assert re.search(r"answers \(process \d+, \d\d jobs\)", text)
    assert ["paused", "completed", "stopped", "failed"] == list(states.values())
    assert "yielded" in events
    assert "aside" not in root.ctl("status")


def test_a_newer_journal_is_refused_in_words_and_is_as_it_was(root):
    """
    The same words for whoever upgrades, asks systemd or asks for the service; it is tried once.
    """
    root.run_job("known", "true")
    until(lambda: root.row("known")["state"] == "completed", "known")
    root.systemctl("stop", UNIT)
    before = set_version(root, +1)
    upgrade, status = root.service("upgrade"), root.service("status")
    asked = root.machine.run(f"{PLACE}/bin/supervisorctl", "status")
    seen = root.shows("StatusText"), root.machine.run("systemctl", "status", UNIT).out
    state, untouched = root.shows("ActiveState"), root.machine.ok("sha256sum", JOURNAL)
    set_version(root, -1)
    root.does("upgrade")

    refused = f"cannot use the journal `{JOURNAL}`: it was written by a newer version"
    assert (1, True) == (upgrade.code, refused in upgrade.err), upgrade
    assert (4, True) == (status.code, refused in status.out), status
    assert all(refused in text and "backup" in text for text in seen), seen
    assert "`supervisorctl service status` tells why" in asked.err
    assert ("failed", before) == (state, untouched)
    assert ("completed", "") == (root.row("known")["state"], root.report()["problem"])


def test_a_newer_checkpoint_is_refused_in_words_and_stays(root):
    """
    The run does not begin anew in its place: the job fails, and goes on when the version fits.
    """
    root.train("night")
    root.ctl("pause", "night", "--depth", "exit", "--wait")
    step = root.row("night")["checkpoint_step"]
    (shown,) = json.loads(root.ctl("show", "night", "--json"))
    manifest = f"{shown['checkpoint_path']}/manifest.json"
    root.machine.ok("cp", manifest, "/root/manifest")
    root.machine.ok("sed", "-i", 's/"sha256:/"next:/; s/"format": 1,/"format": 99,/', manifest)
    root.ctl("resume", "night")
    until(lambda: root.row("night")["state"] == "failed", lambda: root.ctl("show", "night"))
    log = root.ctl("logs", "night")
    root.machine.ok("cp", "/root/manifest", manifest)
    root.ctl("restart", "night", "--wait")

    assert "cannot restore a checkpoint of format 99: this version reads up to format 1" in log
    until(lambda: f"attached at step {step}" in root.ctl("logs", "night"), lambda: root.ctl("logs", "night"))
    root.ctl("kill", "night")
