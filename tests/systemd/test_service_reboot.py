"""A machine that is started anew under an installed service: what becomes of jobs, of root's and of a user's.

Covers: a shutdown in order, where systemd ends everything first, and a power cut; jobs that run, that are
paused at each depth, that come back by themselves.
Does not cover: files that a power cut damages (tests/crash).
"""

from __future__ import annotations

import sys

import pytest

from tests.harness import ROOT, until
from tests.systemd.booted import USER, booted
from tests.systemd.environment import PLACE, add_environment
from tests.systemd.person import CONFIGURATION, FOLDERS, Person

pytestmark = pytest.mark.soak

JOB_FILE = """command = ["{python}", "{root}/tests/trainers/chain.py"]
cwd = "{folder}"
env = {{ CHAIN = "{folder}/again", CHAIN_STEPS = "1000000", CHAIN_STEP_S = "0.02" }}
restart = "on-failure"
restart_delay_s = 0.5
every = "1s"
"""


@pytest.fixture
def machine():
    with booted() as up:
        add_environment(up)
        yield up


def set_up(person, paused):
    """Have jobs that run, with and without a restart of their own, and jobs that are paused at a depth."""
    text = JOB_FILE.format(python=sys.executable, root=ROOT, folder=person.folder)
    person.machine.ok("mkdir", f"{person.folder}/again", user=person.user)
    person.write(f"{CONFIGURATION[person.user]}/jobs.d/again.toml", text)
    person.does("install")
    for job in (*paused, "runs"):
        person.train(job)
    for job, depth in paused.items():
        person.ctl("pause", job, "--depth", depth, "--wait")
    person.ctl("checkpoint", "runs", "--wait")
    until(lambda: person.row("again")["checkpoint_step"], lambda: person.ctl("show", "again"))


def answers(person):
    return person.machine.run(f"{PLACE}/bin/supervisorctl", "version", user=person.user).code == 0


def steps_attached(person, job):
    """Return where each start of a job began."""
    lines = person.ctl("logs", job, "-n", "1000").splitlines()
    return [int(line.split()[-1]) for line in lines if line.startswith("attached at step")]


#: A cut comes to all alike; systemd ends the units of a user by that user's own.
ENDS = {
    "power_off": (list(FOLDERS), {"held": "hold"}, "exit code 143, as after SIGTERM"),
    "cut_power": (["root"], {"held": "hold", "left": "exit"}, "the machine was restarted"),
}


@pytest.mark.parametrize("ends", list(ENDS))
def test_after_a_start_of_the_machine_each_job_is_where_its_person_wants_it(machine, ends):
    """
    Paused jobs are paused and were not started; one that may comes back from its checkpoint; another
    says what ended it, and goes on from its checkpoint when it is told to.
    """
    users, paused, said = ENDS[ends]
    persons = [Person(machine, user) for user in users]
    for person in persons:
        set_up(person, paused)
    before = machine.ok("cat", "/proc/sys/kernel/random/boot_id")
    getattr(machine, ends)()
    machine.boot()
    machine.wait_for(USER)
    assert before != machine.ok("cat", "/proc/sys/kernel/random/boot_id")

    for person in persons:
        until(lambda person=person: answers(person), person.user)
        for job in paused:
            row = person.row(job)
            assert ("paused", "exit", None) == (row["state"], row["depth"], row["pid"])
            assert 1 == len(steps_attached(person, job))
        assert "failed" == person.row("runs")["state"]
        assert said in person.ctl("show", "runs")
        assert "`supervisorctl restart runs`" in person.ctl("why", "runs")
        person.ctl("resume", *paused, "--wait")
        person.ctl("restart", "runs", "--wait")
        for job in (*paused, "runs", "again"):
            until(lambda job=job, person=person: len(steps_attached(person, job)) == 2, job)
            assert 0 < steps_attached(person, job)[-1]
