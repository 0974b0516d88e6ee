"""Whose processes are a job's, where several users have some: real processes of three users.

Covers: marks in environments, sessions and records that lead to others; signals.
Does not cover: control groups and units (test_job_groups.py, tests/systemd), reading (tests/unit/system).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest

from supervisor.launcher import group, leftovers, stop
from supervisor.launcher.identity import identify
from supervisor.monitors.processes import Processes
from supervisor.system.marks import JobStart, Marks
from supervisor.system.procfs import users_of
from tests.harness import PYTHON, until
from tests.other_user import OTHER, THIRD, needs_root

pytestmark = needs_root

#: Its own session, and it tells when it is what it is.
_WAITS = ("sh", "-c", "trap 'exit 0' TERM; echo; while :; do sleep 1; done")


@pytest.fixture
def folder(tmp_path):
    run_dir = tmp_path / "jobs" / f"@uid-{OTHER}" / "night" / "run-1"
    run_dir.mkdir(parents=True)
    os.chown(run_dir, OTHER, OTHER)
    return run_dir


@pytest.fixture
def started():
    found = []

    def start(uid, *argv, **env):
        process = subprocess.Popen(
            argv or _WAITS,
            env={"PATH": os.environ["PATH"], **env},
            user=uid,
            group=uid,
            extra_groups=[],
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        found.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def pids(processes):
    return {one.pid for one in processes}


def test_a_mark_is_believed_of_the_jobs_user_and_of_nobody_else(folder, started):
    """
    What ada's job left is found and ended wherever it went; a program of bob's or of root's that says it were
    of it is not signalled, not counted and not named.
    """
    mark = {"TRAINING_SUPERVISOR_RUN_DIR": str(folder)}
    hers, his, of_root = (started(uid, **mark) for uid in (OTHER, THIRD, 0))
    jobs, job = folder.parents[2], f"uid-{OTHER}/night"
    found = pids(group.members([folder], (), group.ProcessLook()))
    left = leftovers.left(jobs)
    processes = Processes(jobs=jobs)
    processes.read({}, at=1.0)
    named = {one.pid for one in processes.left()[job]}
    of_job, starts = Marks(jobs).left_of(job), [Marks(jobs).of(one.pid) for one in (hers, his, of_root)]
    group.send([folder], (), signal.SIGTERM)

    assert hers.pid in found
    assert {his.pid, of_root.pid}.isdisjoint(found)
    assert {job: {1}} == left
    assert {hers.pid} <= named
    assert {his.pid, of_root.pid}.isdisjoint(named)
    assert hers.pid in of_job
    assert [JobStart(job, 1), None, None] == starts
    until(lambda: hers.poll() is not None, "hers to end")
    assert (None, None) == (his.poll(), of_root.poll())


_BOTH = """
import os, signal, sys
hers, his = map(int, sys.argv[1:])
child = os.fork()
uid = hers if child else his
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
if child:
    print(child, flush=True)
signal.pause()
"""


def test_a_record_that_names_a_process_leads_to_nobody_else(folder, started):
    """
    A user writes into his run folders what he likes. With a process of his come its session and its children,
    and one of them may have become another user's by a program of root's.
    """
    leader = started(0, PYTHON, "-I", "-S", "-c", _BOTH, str(OTHER), str(THIRD))
    root, look = identify(leader.pid), group.ProcessLook()
    (his,) = pids(stop.tree([root], look.table, root.boot_id)) - {leader.pid}
    until(lambda: set(users_of(his)) == {THIRD}, "the child to be another user's")
    found = pids(group.members([folder], [root], look))
    group.send([folder], [root], signal.SIGKILL)
    leader.wait()

    assert {leader.pid} == found
    assert stop.read_table()[his].state != "Z"
