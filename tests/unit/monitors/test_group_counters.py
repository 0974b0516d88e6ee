"""What a job's control group counts, read from made-up trees of both versions.

Covers: which group is the job's, each counter, contents that make no sense, a group that is gone.
Does not cover: the kernel's own counters (tests/systemd/test_job_units.py), what a sample makes of them
(tests/integration/test_snapshot.py).
"""

import shutil
from pathlib import Path

import pytest

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import Totals
from supervisor.monitors.group_counters import GroupCounters, GroupUse
from supervisor.system.marks import JobStart, names_of_groups
from tests.fakes.machine import BOOT, FakeMachine

JOBS = Path("/s/jobs")
OWN, UNIT = names_of_groups(JOBS, JobStart("night", 3))
PROCESS = Pid(10, 500, BOOT)
SECOND = {
    "cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
    "memory.stat": "anon 4096\nfile 999999\nshmem 1024\nkernel 5\n",
    "memory.peak": "1004095\n",
    "io.stat": "8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n",
}
FIRST = {
    "cpuacct/cpuacct.usage": "2500000000\n",
    "memory/memory.stat": "rss 1\ntotal_rss 4096\ntotal_shmem 1024\ntotal_cache 999999\n",
    "memory/memory.max_usage_in_bytes": "1004095\n",
    "blkio/blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 512\n8:16 Read 1\n8:16 Write 2\n",
}
ALL = GroupUse(5120, Totals(cpu_s=2.5, peak_bytes=1004095, read_bytes=4097, written_bytes=514))
NONE = GroupUse(None, Totals())


class World(FakeMachine):
    """A machine whose process 10 is the job's."""

    def __init__(self, root):
        super().__init__(root)
        self.groups = root / "cgroup"
        self.groups.mkdir()
        self.reader = GroupCounters(JOBS, proc=self.proc)

    def second(self, path, files):
        """Let the process be in a group of version 2."""
        self.write("proc/10/cgroup", f"0::{path}\n")
        self.write("proc/self/mountinfo", f"30 23 0:26 / {self.groups} rw - cgroup2 cgroup2 rw\n")
        self.put_files("".join(path.partition(UNIT)[:2]), files)

    def first(self, path, files):
        """The same in the hierarchies of version 1, where version 2 has no controllers."""
        kinds = ("cpuacct,cpu", "memory", "blkio")
        lines = [f"{number}:{kind}:{path}" for number, kind in enumerate(kinds, 2)]
        self.write("proc/10/cgroup", "\n".join([*lines, f"1:name=systemd:{path}", "0::/elsewhere"]) + "\n")
        self.write(
            "proc/self/mountinfo",
            "".join(
                f"{number} 23 0:26 / {self.groups}/{kind.partition(',')[0]} rw - cgroup cgroup rw,{kind}\n"
                for number, kind in enumerate(kinds, 30)
            ),
        )
        for kind in kinds:
            (self.groups / f"{kind.partition(',')[0]}{path}").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            kind, _, file = name.partition("/")
            (self.groups / f"{kind}{path}" / file).write_bytes(text.encode(errors="surrogateescape"))

    def put_files(self, path, files):
        folder = self.groups / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_bytes(text.encode(errors="surrogateescape"))

    def read(self):
        return self.reader.read({"night": PROCESS})


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.mark.parametrize("path", [f"/jobs.slice/{UNIT}", f"/own/{OWN}", f"/jobs.slice/{UNIT}/it/made"])
def test_version_2_is_read(world, path):
    """
    Of a unit and of a group of our own; also where the job has made groups below its own.
    """
    world.second(path, {})
    world.put_files(path.partition("/it")[0], SECOND)

    assert {"night": ALL} == world.read()


def test_version_1_is_read(world):
    """
    Each controller has a hierarchy of its own.
    """
    world.first(f"/jobs.slice/{UNIT}", FIRST)

    assert {"night": ALL} == world.read()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/jobs.slice/other.service",
        f"/{UNIT.replace('night', 'day')}",
        f"/{UNIT.replace('supervisor', 'x')}",
    ],
    ids=["none", "another program's", "another job's", "another daemon's"],
)
def test_a_group_of_others_is_not_the_jobs(world, path):
    """
    Then it has none, and what its processes use is summed up.
    """
    world.second(path, {})
    world.put_files(path, SECOND)

    assert {} == world.read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "max\n",
        "-5\n",
        "nan\n",
        "1e9\n",
        "\udcff\udcfe",
        "9" * 19,
        "9" * 5000,
        "a\n" * 100_000,
        "=\n8:0\n",
    ],
)
def test_what_makes_no_sense_is_no_reading(world, text):
    """
    Nothing that a file may hold is an error, or a number that cannot be stored.
    """
    names = ("usage_usec", "anon", "shmem", "rbytes")
    lines = {name: "".join(f"{word} {text}" for word in names) for name in ("cpu.stat", "memory.stat")}
    disks = f"8:0 rbytes={text} wbytes={text}\n8:16 {text} =\n"
    world.second(f"/jobs.slice/{UNIT}", {**lines, "memory.peak": text, "io.stat": disks})

    assert {"night": NONE} == world.read()


def test_what_is_not_counted_here_is_no_reading(world):
    """
    Without controllers version 2 still counts CPU time; a folder or pipe in the place of a file is nothing.
    """
    world.second(f"/jobs.slice/{UNIT}", {"cpu.stat": SECOND["cpu.stat"]})
    (world.groups / f"jobs.slice/{UNIT}/memory.peak").mkdir()

    assert {"night": GroupUse(None, Totals(cpu_s=2.5))} == world.read()


def test_a_group_that_is_gone_says_nothing_more(world):
    """
    Its job has just ended; nobody is misled by what stood there before.
    """
    world.second(f"/jobs.slice/{UNIT}", SECOND)
    before = world.read()
    shutil.rmtree(world.groups / "jobs.slice")

    assert {"night": ALL} == before
    assert {"night": NONE} == world.read()


def test_without_jobs_of_ours_there_are_no_groups(world):
    """
    As for whoever samples without a daemon.
    """
    world.second(f"/jobs.slice/{UNIT}", SECOND)

    assert {} == GroupCounters(None, proc=world.proc).read({"night": PROCESS})
