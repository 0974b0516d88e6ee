"""Who types commands in the booted machine, as root or as a user, and what they see.

Covers: the service's own commands, commands about jobs, systemctl.
Does not cover: what is to be seen (the tests).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from tests.harness import ROOT, Said, until
from tests.systemd.booted import USER, Booted
from tests.systemd.environment import PLACE

__all__ = ["CONFIGURATION", "FOLDERS", "UNIT", "UNITS", "WAITS", "Person", "ends_while_away"]

UNIT: Final = "training-supervisord"
#: Says that it is up, and ends with the code that it was given once it may.
WAITS: Final = "echo x >> $0.started; while [ ! -e $0.go ]; do sleep 0.05; done; exit $1"
FOLDERS: Final = {"root": "/root", USER: f"/home/{USER}"}
UNITS: Final = {"root": "/etc/systemd/system", USER: f"/home/{USER}/.config/systemd/user"}

CONFIGURATION: Final = {
    "root": "/etc/training-supervisor",
    USER: f"/home/{USER}/.config/training-supervisor",
}


class Person:
    """Who types `supervisorctl service`."""

    def __init__(self, machine: Booted, user: str) -> None:
        self.machine, self.user = machine, user
        self.flags = () if user == "root" else ("--user",)
        self.folder = FOLDERS[user]

    def service(self, *words: str, place: str = PLACE) -> Said:
        return self.machine.run(f"{place}/bin/supervisorctl", "service", *words, *self.flags, user=self.user)

    def does(self, *words: str, place: str = PLACE) -> str:
        said = self.service(*words, place=place)
        assert (0, "") == (said.code, said.err)
        return said.out

    def report(self) -> dict[str, Any]:
        (report,) = json.loads(self.service("status", "--json").out)
        return report

    def ctl(self, *words: str) -> str:
        return self.machine.ok(f"{PLACE}/bin/supervisorctl", *words, user=self.user)

    def row(self, job: str) -> dict[str, Any]:
        (row,) = json.loads(self.ctl("status", job, "--json"))
        return row

    def train(self, job: str) -> int:
        """Start a run; returns the process that trains."""
        self.machine.ok("mkdir", f"{self.folder}/{job}", user=self.user)
        self.ctl(
            "run", "--name", job, "--", "env", f"CHAIN={self.folder}/{job}", "CHAIN_STEPS=1000000",
            "CHAIN_STEP_S=0.02", sys.executable, str(ROOT / "tests/trainers/chain.py"),
        )  # fmt: skip
        until(lambda: self.row(job)["step"], lambda: self.ctl("logs", job))
        row = self.row(job)
        # What trains is the job itself, for the daemon in its sandbox as well.
        assert [] == row["left"]
        return row["pid"]

    def run_job(self, name: str, *argv: str) -> None:
        """Start a command as a job."""
        self.ctl("run", "--name", name, "--", *argv)

    def waits(self, name: str, code: int) -> int:
        """Start a job that ends with this code when `go` lets it; returns its process."""
        self.run_job(name, "sh", "-c", WAITS, f"{self.folder}/{name}", str(code))
        until(
            lambda: self.machine.run("cat", f"{self.folder}/{name}.started").out,
            lambda: self.ctl("show", name),
        )
        return self.row(name)["pid"]

    def systemctl(self, *words: str) -> str:
        return self.machine.ok("systemctl", *self.flags, *words, user=self.user)

    def shows(self, key: str) -> str:
        return self.systemctl("show", "-P", key, UNIT)

    def write(self, path: str, text: str) -> None:
        """Write a file as this person, with the folders above it."""
        script = 'mkdir -p "$1" && printf %s "$2" > "$1/$3"'
        place = Path(path)
        self.machine.ok("bash", "-c", script, "bash", str(place.parent), text, place.name, user=self.user)

    def other_daemon(self, before: int) -> int:
        """Return the process of the daemon once it is ready and another one than before."""

        def look() -> int:
            pid = int(self.shows("MainPID"))
            return pid if self.shows("ActiveState") == "active" and pid not in (0, before) else 0

        return until(look, lambda: self.machine.ok("journalctl", "-n", "30", "--no-pager"))


def ends_while_away(service: Person, person: Person) -> tuple[list[dict[str, Any]], list[str]]:
    """End three jobs of a person with 0, with 7 and by SIGKILL while the daemon that `service` has is away.

    Returns their rows under the next one, and a word for each time that one of them was started.
    """
    names = {"good": 0, "bad": 7, "killed": 0}
    pids = {name: person.waits(name, code) for name, code in names.items()}
    service.systemctl("stop", UNIT)
    person.machine.ok("kill", "-9", str(pids["killed"]))
    person.machine.ok("touch", *(f"{person.folder}/{name}.go" for name in ("good", "bad")))
    for pid in pids.values():
        until(lambda pid=pid: person.machine.run("kill", "-0", str(pid)).code, f"{pid} to end")
    service.systemctl("start", UNIT)
    rows = [person.row(name) for name in names]
    files = " ".join(f"{person.folder}/{name}.started" for name in names)
    return rows, person.machine.ok("sh", "-c", f"cat {files}").split()
