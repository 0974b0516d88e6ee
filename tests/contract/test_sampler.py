"""What the engine relies on, of every MachineSampler.

Covers: the fake in full; the real one on this machine as it is.
Does not cover: made-up machines (tests/unit/monitors), GPUs.
"""

import os
import select
import signal
import subprocess
import sys

import msgspec
import pytest

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import Missing, Sample
from supervisor.launcher.identity import identify
from supervisor.monitors.processes import Processes
from supervisor.monitors.snapshot import MachineSampler
from supervisor.ports import WatchedJob
from supervisor.system.procfs import boot_id, read_stat
from tests.fakes.sampler import FakeSampler

#: A Tuesday.
WALL = 1_700_000_000.0


class Fake:
    """Processes that never were."""

    def __init__(self):
        self.sampler = FakeSampler()

    def start(self):
        return Pid(4242, 17, "boot-1")

    def end(self, process):
        self.sampler.over.add(process)

    def close(self):
        self.sampler.close()


class Real:
    """This machine, with processes that do nothing."""

    def __init__(self):
        self.sampler = MachineSampler()
        self.children = []

    def start(self):
        child = subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"], stdin=-1, stdout=-1
        )
        self.children.append(child)
        assert child.stdout.readline() == b"up\n"
        return Pid(child.pid, read_stat(child.pid).start_ticks, boot_id())

    def end(self, process):
        os.kill(process.pid, signal.SIGKILL)
        next(child for child in self.children if child.pid == process.pid).wait()

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()
            child.stdin.close()
            child.stdout.close()
        self.sampler.close()


@pytest.fixture(params=[Fake, Real], ids=["fake", "real"])
def machine(request):
    one = request.param()
    yield one
    one.close()


def is_readable(sampler):
    return bool(select.select([sampler.fileno()], [], [], 0)[0])


class TestSamplerContract:
    """
    Runs against every MachineSampler, the fake included.
    """

    def test_a_sample_says_when_it_was_taken(self, machine):
        """
        With the steady clock to reckon with, and the local time for rules with hours.
        """
        sample = machine.sampler.sample([], at=12.5, wall=WALL)

        assert (12.5, WALL) == (sample.at, sample.wall)
        assert sample.weekday in range(7)
        assert sample.second_of_day in range(86400)

    def test_exactly_the_watched_jobs_are_in_it(self, machine, tmp_path):
        """
        By name; one that is watched no more is gone from the next.
        """
        jobs = [WatchedJob(name="a", checkpoints=tmp_path), WatchedJob(name="b")]
        first = machine.sampler.sample(jobs, at=1.0, wall=WALL)
        second = machine.sampler.sample(jobs[1:], at=2.0, wall=WALL + 1)

        assert ({"a", "b"}, {"b"}) == (set(first.jobs), set(second.jobs))

    def test_a_job_without_a_process_uses_nothing_that_could_be_read(self, machine):
        """
        Missing with a reason; a zero could be mistaken for an idle job.
        """
        use = machine.sampler.sample([WatchedJob(name="a")], at=1.0, wall=WALL).jobs["a"]

        assert 0 == use.num_processes
        assert isinstance(use.cpu_pct, Missing)
        assert isinstance(use.rss_bytes, Missing)
        assert use.cpu_pct.why

    def test_use_of_cpu_takes_two_readings(self, machine):
        """
        The first has no interval to divide by; memory is there at once.
        """
        jobs = [WatchedJob(name="a", process=machine.start())]
        first = machine.sampler.sample(jobs, at=1.0, wall=WALL).jobs["a"]
        second = machine.sampler.sample(jobs, at=2.0, wall=WALL + 1).jobs["a"]

        assert isinstance(first.cpu_pct, Missing)
        assert second.cpu_pct >= 0
        assert first.rss_bytes > 0
        assert 1 == first.num_processes

    def test_what_a_start_used_up_is_told_while_it_has_a_process(self, machine):
        """
        CPU time, in any case; of a job without a process nothing is counted.
        """
        jobs = [WatchedJob(name="a", process=machine.start()), WatchedJob(name="b")]
        first = machine.sampler.sample(jobs, at=1.0, wall=WALL).totals
        second = machine.sampler.sample(jobs, at=2.0, wall=WALL + 1).totals

        assert {"a"} == set(first) == set(second)
        assert 0 <= first["a"].cpu_s <= second["a"].cpu_s

    def test_a_process_that_is_over_is_as_none(self, machine):
        """
        The engine may not have heard of its end yet.
        """
        process = machine.start()
        jobs = [WatchedJob(name="a", process=process)]
        machine.sampler.sample(jobs, at=1.0, wall=WALL)
        machine.end(process)
        use = machine.sampler.sample(jobs, at=2.0, wall=WALL + 1).jobs["a"]

        assert isinstance(use.cpu_pct, Missing)
        assert isinstance(use.rss_bytes, Missing)
        assert 0 == use.num_processes

    def test_a_number_that_somebody_else_has_now_is_not_the_job(self, machine):
        """
        A process is known by number, start time and boot.
        """
        process = machine.start()
        machine.end(process)
        other = Pid(os.getpid(), 1, "another-boot")
        if isinstance(machine, Fake):
            machine.end(other)
        use = machine.sampler.sample([WatchedJob(name="a", process=other)], at=1.0, wall=WALL).jobs["a"]

        assert isinstance(use.rss_bytes, Missing)

    def test_only_programs_that_were_asked_for_are_told(self, machine):
        """
        And those only while they run.
        """
        machine.sampler.watch({"no-such-program"})

        assert () == machine.sampler.sample([], at=1.0, wall=WALL).programs

    def test_it_is_quiet_at_rest(self, machine):
        """
        Nothing wakes the loop, no sample is urgent, and the interval is at most the one that was asked for.
        """
        sample = machine.sampler.sample([], at=1.0, wall=WALL)

        assert not sample.is_urgent
        assert not is_readable(machine.sampler)
        assert 0.1 <= machine.sampler.wait_s(1.0) <= 1.0
        assert 0.05 == machine.sampler.wait_s(0.05)

    def test_the_sample_after_a_call_of_the_kernel_is_urgent(self, machine):
        """
        That one only.
        """
        machine.sampler.acknowledge()
        first = machine.sampler.sample([], at=1.0, wall=WALL)
        second = machine.sampler.sample([], at=1.1, wall=WALL)

        assert (True, False) == (first.is_urgent, second.is_urgent)
        assert not is_readable(machine.sampler)

    def test_a_sample_is_a_plain_record(self, machine, tmp_path):
        """
        It goes into the journal and comes back equal.
        """
        jobs = [WatchedJob(name="a", process=machine.start(), checkpoints=tmp_path)]
        sample = machine.sampler.sample(jobs, at=1.0, wall=WALL)

        assert sample == msgspec.msgpack.decode(msgspec.msgpack.encode(sample), type=Sample)


def test_the_fake_wakes_as_the_kernel_does():
    """
    Its descriptor is readable until it is acknowledged.
    """
    fake = FakeSampler()
    fake.wake()
    before = is_readable(fake)
    fake.acknowledge()

    assert (True, False) == (before, is_readable(fake))
    assert fake.sample([], at=1.0, wall=WALL).is_urgent
    fake.close()


_MAPS = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    read = sum(mapped[::4096])
print("mapped", flush=True)
sys.stdin.read()
"""


def test_a_mapped_file_is_not_what_a_job_holds(tmp_path):
    """
    2026-11-28: a job was not let back into the memory that it had left, because CUDA's libraries counted.
    """
    file = tmp_path / "data"
    file.write_bytes(b"x" * (64 << 20))
    command = [sys.executable, "-c", _MAPS, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        held = Processes().read({"a": identify(process.pid)}, at=0.0)["a"].rss_bytes
        process.stdin.close()

    assert 0 < held < 40 << 20
