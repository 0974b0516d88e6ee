"""Samples of a made-up machine, whole.

Covers: what is ours and what is foreign, when a reading is old, when to hurry.
Does not cover: each reading by itself (tests/unit/monitors), what every MachineSampler does (tests/contract).
"""

import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, Missing, Totals
from supervisor.monitors.disks import Disks
from supervisor.monitors.snapshot import MachineSampler
from supervisor.monitors.user_folders import UserFolders
from supervisor.ports import WatchedJob
from supervisor.system.marks import JobStart, names_of_groups
from tests.fakes.machine import BOOT, FakeMachine
from tests.harness import until

TICKS = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
JOBS = Path("/s/jobs")
A, B = Pid(10, 500, BOOT), Pid(20, 500, BOOT)


class Driver:
    """GPUs that the test sets; takes the place of the thread that asks the real ones."""

    def __init__(self):
        self.gpus = ()

    def read(self, owner, *, at, interval_s):
        if isinstance(self.gpus, Missing):
            return self.gpus
        return tuple(
            gpu
            if isinstance(gpu.processes, Missing)
            else replace(gpu, processes=tuple(replace(one, job=owner(one.pid)) for one in gpu.processes))
            for gpu in self.gpus
        )

    def close(self):
        pass


class World(FakeMachine):
    """A machine of as many CPUs as we may use, with a sampler and a clock."""

    def __init__(self, root):
        super().__init__(root)
        self.cpus = sorted(os.sched_getaffinity(0))
        self.driver = Driver()
        self.now = 100.0
        self.busy_s(0.0)
        self.sampler = MachineSampler(
            proc=self.proc,
            sys=self.sys,
            gpus=self.driver,
            folders=UserFolders(own=Disks(look_at=lambda folder: DiskReading(5.0 * GIB, 10.0 * GIB))),
            jobs=JOBS,
        )

    def busy_s(self, seconds):
        """Let all CPUs together have been busy for so long."""
        share = int(seconds * TICKS / len(self.cpus))
        self.cpu([share] * (self.cpus[-1] + 1))

    def used_s(self, who, seconds, **more):
        """Let a process have used so much."""
        self.put(who.pid, cpu=(int(seconds * TICKS), 0, 0, 0), start=who.start_ticks, **more)

    def available_gib(self, gib):
        self.memory(total_kib=8 << 20, available_kib=int(gib * (1 << 20)))

    def sample(self, *jobs, after_s=1.0):
        self.now += after_s
        return self.sampler.sample(jobs, at=self.now, wall=1_700_000_000.0)

    def pct(self, seconds):
        """Per cent of all CPUs that so many seconds in one second are."""
        return pytest.approx(100 * seconds / len(self.cpus), abs=2.0)


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.sampler.close()


def test_what_is_left_of_the_whole_is_foreign(world):
    """
    Two jobs use half a CPU; the other 0.3 are somebody else's.
    """
    jobs = [WatchedJob(name="a", process=A), WatchedJob(name="b", process=B)]
    world.used_s(A, 7)
    world.used_s(B, 9)
    world.sample(*jobs)
    world.used_s(A, 7.4)
    world.used_s(B, 9.1)
    world.busy_s(0.8)
    sample = world.sample(*jobs)

    assert (world.pct(0.8), world.pct(0.5), world.pct(0.3)) == (
        sample.cpu_pct,
        sample.cpu_ours_pct,
        sample.cpu_foreign_pct,
    )
    assert pytest.approx(40.0) == sample.jobs["a"].cpu_pct
    assert pytest.approx(10.0) == sample.jobs["b"].cpu_pct


def test_a_group_counts_what_lived_and_died_between_two_looks(world):
    """
    Its job shows it, and it is not foreign. What is outside of its group counts too, and each page once.
    """
    job, group = WatchedJob(name="a", process=A), f"groups/{names_of_groups(JOBS, JobStart('a', 1))[0]}"
    world.write(f"proc/{A.pid}/cgroup", f"0::/{group.partition('/')[2]}\n")
    mount = world.proc.parent / "groups"
    world.write("proc/self/mountinfo", f"30 23 0:26 / {mount} rw - cgroup2 cgroup2 rw\n")
    world.write(f"{group}/memory.stat", "anon 8192\nshmem 0\n")
    world.write(f"{group}/memory.peak", "12288\n")
    found = []
    for used_s, group_s, busy_s in ((7, 50, 0), (7.1, 50.6, 0.7), (7.5, 50.7, 1.2)):
        world.used_s(A, used_s, pages=1000)
        world.busy_s(busy_s)
        world.write(f"{group}/cpu.stat", f"usage_usec {group_s * 1e6:.0f}\n")
        found.append(world.sample(job))
    (_, dead, outside), last = found, found[-1]

    assert pytest.approx(60.0) == dead.jobs["a"].cpu_pct
    assert world.pct(0.1) == dead.cpu_foreign_pct
    assert pytest.approx(40.0) == outside.jobs["a"].cpu_pct
    assert {"a": Totals(cpu_s=50.7, peak_bytes=12288)} == last.totals
    assert 8192.0 == last.jobs["a"].rss_bytes


def test_without_a_group_the_time_of_its_processes_is_told(world):
    """
    As far as they were seen.
    """
    world.used_s(A, 7)

    assert {"a": Totals(cpu_s=7.0)} == world.sample(WatchedJob(name="a", process=A)).totals


def test_foreign_use_is_never_negative(world):
    """
    The two clocks of the kernel differ by some ticks.
    """
    world.used_s(A, 1)
    world.sample(WatchedJob(name="a", process=A))
    world.used_s(A, 1.5)
    world.busy_s(0.4)
    sample = world.sample(WatchedJob(name="a", process=A))

    assert 0.0 == sample.cpu_foreign_pct
    assert sample.cpu_pct == sample.cpu_ours_pct


def test_the_last_bit_of_a_job_that_ended_is_not_foreign(world):
    """
    Nobody can tell how much it was: it counts as busy as before, for one sample.
    """
    job = WatchedJob(name="a", process=A)
    world.used_s(A, 1)
    world.sample(job)
    world.used_s(A, 1.5)
    world.busy_s(0.5)
    world.sample(job)
    world.remove(A.pid)
    world.busy_s(1.0)
    first = world.sample()
    world.busy_s(1.5)
    second = world.sample()

    assert (world.pct(0.0), world.pct(0.5)) == (first.cpu_foreign_pct, second.cpu_foreign_pct)


def test_what_a_new_job_used_before_its_first_reading_is_not_foreign(world):
    """
    It started after the reading before.
    """
    world.sample()
    world.used_s(A, 0.5)
    world.busy_s(0.6)
    sample = world.sample(WatchedJob(name="a", process=A))

    assert world.pct(0.1) == sample.cpu_foreign_pct
    assert isinstance(sample.jobs["a"].cpu_pct, Missing)


def test_a_sample_says_what_its_cpu_use_is_a_mean_of(world):
    """
    Not where that is of an earlier moment, or nobody knows it.
    """
    samples = [world.sample(after_s=after_s) for after_s in (1.0, 1.0, 0.1, 0.5)]

    assert pytest.approx([0.0, 1.0, 0.0, 0.6]) == [sample.cpu_over_s for sample in samples]


def test_without_the_whole_nothing_is_foreign_or_ours(world):
    """
    All three are missing, for the same reason.
    """
    world.sample()
    world.write("proc/stat", "what?\n")
    sample = world.sample()

    assert isinstance(sample.cpu_pct, Missing)
    assert sample.cpu_pct == sample.cpu_ours_pct == sample.cpu_foreign_pct


def test_who_holds_a_gpu_is_known_by_its_process_tree(world):
    """
    A worker of a job is the job; what it holds is summed by GPU.
    """
    world.put(A.pid)
    world.put(11, A.pid)
    processes = (GpuProcess(10, 2 * GIB), GpuProcess(11, GIB), GpuProcess(99, 5 * GIB))
    world.driver.gpus = (Gpu(uuid="GPU-a", processes=processes), Gpu(uuid="GPU-b", processes=()))
    sample = world.sample(WatchedJob(name="a", process=A, gpus=("GPU-b",)))

    assert {"GPU-a": 3 * GIB} == sample.jobs["a"].gpu_bytes
    assert 1.0 == METRICS["gpu_foreign_processes"].read(sample, "GPU-a")
    assert 5.0 == METRICS["gpu_foreign_memory_gib"].read(sample, "GPU-a")


@pytest.mark.parametrize(
    "gpus",
    [
        Missing("no driver"),
        (Gpu(uuid="GPU-a", processes=Missing("not told")), Gpu(uuid="GPU-b", processes=())),
    ],
)
def test_a_job_holds_what_it_was_given_where_nobody_tells(world, gpus):
    """
    How much is not known.
    """
    world.put(A.pid)
    world.driver.gpus = gpus

    sample = world.sample(WatchedJob(name="a", process=A, gpus=("GPU-a",)))
    assert {"GPU-a": None} == sample.jobs["a"].gpu_bytes


def test_memory_of_one_of_its_processes_that_is_not_told_makes_the_sum_unknown(world):
    """
    Half of it would be a wrong footprint.
    """
    world.put(A.pid)
    world.put(11, A.pid)
    processes = (GpuProcess(10, 2 * GIB), GpuProcess(11, None))
    world.driver.gpus = (Gpu(uuid="GPU-a", processes=processes),)

    assert {"GPU-a": None} == world.sample(WatchedJob(name="a", process=A)).jobs["a"].gpu_bytes


def test_the_disk_of_each_job_is_told_with_and_without_a_process(world, tmp_path):
    """
    A job that cannot save needs to be seen before it tries.
    """
    jobs = [WatchedJob(name="a", checkpoints=tmp_path), WatchedJob(name="b")]

    def seen():
        disk = world.sample(*jobs).jobs["a"].disk
        return None if isinstance(disk.free_bytes, Missing) else disk

    assert DiskReading(5.0 * GIB, 10.0 * GIB) == until(seen)
    assert Missing("no checkpoint folder is known") == world.sample(*jobs).jobs["b"].disk.free_bytes


def test_programs_of_jobs_are_not_foreign_programs(world):
    """
    A rule that yields to `python` must not yield to the job itself.
    """
    world.put(A.pid, name="python")
    world.put(30, name="steam")
    world.sampler.watch({"python", "steam", "blender"})
    sample = world.sample(WatchedJob(name="a", process=A))

    assert ("steam",) == sample.programs


def test_programs_are_looked_for_every_few_seconds(world):
    """
    Between two looks the last one stands; a new list is looked for at once.
    """
    world.put(30, name="steam")
    world.sampler.watch({"steam"})
    first = world.sample().programs
    world.remove(30)
    second = world.sample().programs
    third = world.sample(after_s=5.0).programs
    world.put(31, name="blender")
    world.sampler.watch({"blender"})

    assert (("steam",), ("steam",), ()) == (first, second, third)
    assert ("blender",) == world.sample().programs


def test_sensors_are_told_when_they_have_answered(world):
    """
    They are asked aside.
    """
    until(lambda: not isinstance(world.sample().on_battery, Missing))

    assert 0.0 == world.sample().on_battery


class TestHurry:
    """
    Memory can be gone long before the next tick.
    """

    def test_with_plenty_of_memory_there_is_no_hurry(self, world):
        """
        No program can make it low before the next sample.
        """
        world.memory(total_kib=64 << 20, available_kib=40 << 20)
        sample = world.sample()

        assert not sample.is_urgent
        assert 1.0 == world.sampler.wait_s(1.0)

    def test_the_less_there_is_the_sooner_is_the_next_look(self, world):
        """
        Soon enough for a program that takes 8 GB a second, at most ten times a second.
        """
        world.sampler.watch((), memory_low_pct=10.0)
        world.available_gib(0.8 + 8e9 / GIB / 2)
        world.sample()
        some = world.sampler.wait_s(1.0)
        world.available_gib(1.0)
        world.sample()

        assert (pytest.approx(0.5, abs=0.01), 0.1) == (some, world.sampler.wait_s(1.0))
        assert 0.05 == world.sampler.wait_s(0.05)

    def test_low_memory_that_stays_as_it_is_is_no_emergency(self, world):
        """
        Rules see it at their own pace.
        """
        world.available_gib(0.5)
        world.sample()

        assert not world.sample().is_urgent

    def test_memory_that_is_about_to_be_gone_is_an_emergency(self, world):
        """
        Low, and falling so fast that none is left in 2 s.
        """
        world.available_gib(1.0)
        world.sample()
        world.available_gib(0.3)
        sample = world.sample(after_s=0.1)

        assert sample.is_urgent

    def test_memory_that_falls_fast_and_is_not_low_is_none(self, world):
        """
        A program that starts takes what it needs at once.
        """
        world.available_gib(3.5)
        world.sample()
        world.available_gib(2.0)

        assert not world.sample().is_urgent

    def test_low_memory_that_comes_back_is_none(self, world):
        """
        The pace goes back to the usual when enough is there again.
        """
        world.available_gib(0.2)
        world.sample()
        world.available_gib(0.3)
        better = world.sample(after_s=0.1)
        world.memory(total_kib=64 << 20, available_kib=40 << 20)
        well = world.sample(after_s=0.1)

        assert (False, False) == (better.is_urgent, well.is_urgent)
        assert 1.0 == world.sampler.wait_s(1.0)

    def test_in_a_hurry_only_memory_and_pressure_are_new(self, world):
        """
        Per cents of CPU over a tenth of a second are noise.
        """
        job = WatchedJob(name="a", process=A)
        world.used_s(A, 1)
        world.sample(job)
        world.used_s(A, 1.5)
        world.busy_s(0.5)
        before = world.sample(job)
        world.used_s(A, 1.55)
        world.available_gib(1.0)
        world.pressure("memory", some=40.0)
        sample = world.sample(job, after_s=0.1)

        assert (before.jobs, before.cpu_pct) == (sample.jobs, sample.cpu_pct)
        assert (1.0 * GIB, 40.0) == (sample.memory_available_bytes, sample.pressure.memory_some_pct)
        assert before.at < sample.at

    def test_in_a_hurry_a_new_job_is_there_at_once(self, world):
        """
        A sample always holds exactly the jobs that are watched.
        """
        world.sample()
        world.put(A.pid)

        assert {"a"} == set(world.sample(WatchedJob(name="a", process=A), after_s=0.1).jobs)

    def test_unknown_memory_is_no_emergency(self, world):
        """
        It is missing, which is said, and that is all.
        """
        world.available_gib(0.1)
        world.sample()
        (world.proc / "meminfo").write_text("")
        sample = world.sample(after_s=0.1)

        assert isinstance(sample.memory_available_bytes, Missing)
        assert not sample.is_urgent
        assert 1.0 == world.sampler.wait_s(1.0)


def test_pressure_of_a_limited_group_is_that_of_the_group(tmp_path):
    """
    The daemon lives in it, and so do its jobs.
    """
    machine = FakeMachine(tmp_path)
    mount = tmp_path / "cgroup2"
    machine.write("cgroup2/a/memory.max", f"{GIB}\n")
    machine.write("cgroup2/a/memory.pressure", "some avg10=12.00\nfull avg10=3.00\n")
    machine.write("proc/self/cgroup", "0::/a\n")
    machine.write("proc/self/mountinfo", f"30 23 0:26 / {mount} rw - cgroup2 cgroup2 rw\n")
    sampler = MachineSampler(proc=machine.proc, sys=machine.sys, gpus=Driver())
    sample = sampler.sample([], at=1.0, wall=0.0)
    sampler.close()

    assert 12.0 == sample.pressure.memory_some_pct


def test_a_closed_sampler_holds_no_descriptor(tmp_path):
    """
    The daemon builds one a life; tests build many.
    """
    machine = FakeMachine(tmp_path)
    before = set(Path("/proc/self/fd").iterdir())
    sampler = MachineSampler(proc=machine.proc, sys=machine.sys, gpus=Driver())
    sampler.sample([], at=1.0, wall=0.0)
    sampler.close()

    assert len(before) == len(set(Path("/proc/self/fd").iterdir()))


def test_a_machine_that_moves_to_another_time_zone_has_its_local_time_at_once(world, monkeypatch):
    """
    Rules for working hours are meant by the clock on the wall.
    """
    seen = []
    for zone in ("UTC", "EST5"):
        monkeypatch.setenv("TZ", zone)
        sample = world.sampler.sample([], at=world.now + len(seen), wall=10 * 3600.0)
        seen.append(sample.second_of_day / 3600)
    monkeypatch.undo()
    time.tzset()

    assert [10.0, 5.0] == seen
