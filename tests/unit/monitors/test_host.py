"""CPU and memory of a made-up machine, with and without control groups around us.

Covers: the CPUs that we may use, limits of both versions, contents that make no sense.
Does not cover: whose use it is (test_snapshot.py).
"""

import os

import pytest

from supervisor.core.readings.sample import Missing
from supervisor.monitors.host import Cpu, HostMemory
from supervisor.system.cgroups import CpuGroup, MemoryGroup, cpu_groups, memory_groups
from tests.fakes.machine import FakeMachine

TICKS = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Two CPUs, as Linux 6.18 shows them.
ZONES = """Node 0, zone      DMA
  pages free     2816
        managed  3840
      nr_free_pages 2816
  pagesets
    cpu: 0
              count:    {}
              high:     80746
              batch:    63
              high_min: 10081
              high_max: 337141
  vm stats threshold: 36
    cpu: 1
              count:    {}
              high:     10081
  node_unreclaimable:  0
"""
TWO_READINGS = Missing("it takes two readings")


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)


def in_group(machine, path, *, version=2, files=(), root="/"):
    """Live in this group; `files` are contents by path below the mount."""
    mount = machine.proc.parent / f"cgroup{version}"
    mount.mkdir(exist_ok=True)
    if version == 2:
        machine.write("proc/self/cgroup", f"0::{path}\n")
        machine.write(
            "proc/self/mountinfo", f"30 23 0:26 {root} {mount} rw - cgroup2 cgroup2 rw,nsdelegate\n"
        )
    else:
        machine.write("proc/self/cgroup", f"9:name=systemd:/x\n4:memory:{path}\n2:cpu,cpuacct:{path}\n0::/\n")
        machine.write(
            "proc/self/mountinfo",
            f"35 31 0:32 {root} {mount}/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n"
            f"32 31 0:29 {root} {mount}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
            f"41 31 0:38 / {mount}/unified rw - cgroup2 cgroup2 rw\n",
        )
    for name, text in dict(files).items():
        machine.write(f"cgroup{version}/{name}", text)
    return mount


class TestCpu:
    """
    Per cent of the CPUs that we may use.
    """

    def test_the_first_reading_has_nothing_to_compare_with(self, machine):
        """
        The second has.
        """
        cpu = Cpu(proc=machine.proc, affinity=lambda: {0, 1})
        first = cpu.read(at=1.0)
        machine.cpu([TICKS, 2 * TICKS])
        second = cpu.read(at=3.0)
        cpu.close()

        assert (2.0, TWO_READINGS) == first
        assert (2.0, 75.0) == second

    def test_cpus_that_we_may_not_use_do_not_count(self, machine):
        """
        Others may be as busy there as they like.
        """
        machine.cpu([0, 0, 0, 0])
        cpu = Cpu(proc=machine.proc, affinity=lambda: {1, 3})
        cpu.read(at=1.0)
        machine.cpu([TICKS, 0, TICKS, TICKS // 2])
        reading = cpu.read(at=2.0)
        cpu.close()

        assert (2.0, 25.0) == reading

    def test_other_cpus_than_before_begin_anew(self, machine):
        """
        Their time cannot be compared.
        """
        mine = [{0}, {0, 1}]
        cpu = Cpu(proc=machine.proc, affinity=lambda: mine.pop(0))
        cpu.read(at=1.0)
        reading = cpu.read(at=2.0)
        cpu.close()

        assert (2.0, TWO_READINGS) == reading

    @pytest.mark.parametrize(("ticks", "pct"), [(-5, 0.0), (99 * TICKS, 100.0)])
    def test_a_clock_that_jumps_gives_no_impossible_figure(self, machine, ticks, pct):
        """
        Between 0 and 100, also after a suspend.
        """
        machine.cpu([10, 10])
        cpu = Cpu(proc=machine.proc, affinity=lambda: {0, 1})
        cpu.read(at=1.0)
        machine.cpu([10 + ticks, 10])
        reading = cpu.read(at=2.0)
        cpu.close()

        assert pct == reading.pct

    @pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu0 1 2\n", "cpu0 a b c d e f g h\n", "\x00\xff"])
    def test_a_file_that_makes_no_sense_is_missing(self, machine, text):
        """
        And two readings are needed afterwards.
        """
        cpu = Cpu(proc=machine.proc, affinity=lambda: {0})
        cpu.read(at=1.0)
        machine.write("proc/stat", text)
        broken = cpu.read(at=2.0)
        machine.cpu([5])
        after = cpu.read(at=3.0)
        cpu.close()

        assert "does not have the form that is known" in broken.pct.why
        assert TWO_READINGS == after.pct

    def test_a_limit_on_cpu_time_makes_them_fewer(self, machine):
        """
        Use is that of the group, of what it may have.
        """
        files = {"a/cpu.max": "50000 100000\n", "a/cpu.stat": "usage_usec 1000000\nuser_usec 5\n"}
        in_group(machine, "/a", files=files)
        cpu = Cpu(proc=machine.proc, affinity=lambda: {0, 1})
        cpu.read(at=1.0)
        machine.write("cgroup2/a/cpu.stat", "usage_usec 1250000\n")
        reading = cpu.read(at=2.0)
        cpu.close()

        assert (0.5, 50.0) == reading

    def test_a_limit_of_the_first_version_counts_too(self, machine):
        """
        Its use is in nanoseconds, in a file of another name.
        """
        files = {
            "cpu/a/b/cpu.cfs_quota_us": "100000\n",
            "cpu/a/b/cpu.cfs_period_us": "100000\n",
            "cpu/a/b/cpuacct.usage": "0\n",
            "cpu/a/cpu.cfs_quota_us": "-1\n",
            "cpu/a/cpu.cfs_period_us": "100000\n",
        }
        in_group(machine, "/a/b", version=1, files=files)
        cpu = Cpu(proc=machine.proc, affinity=lambda: {0, 1})
        cpu.read(at=1.0)
        machine.write("cgroup1/cpu/a/b/cpuacct.usage", "300000000\n")
        reading = cpu.read(at=2.0)
        cpu.close()

        assert (1.0, pytest.approx(30.0)) == reading

    def test_a_limit_above_what_is_there_is_none(self, machine):
        """
        Then the machine's own figures are the better ones.
        """
        in_group(machine, "/a", files={"a/cpu.max": "900000 100000\n"})
        cpu = Cpu(proc=machine.proc, affinity=lambda: {0, 1})
        cpu.read(at=1.0)
        machine.cpu([TICKS, 0])
        reading = cpu.read(at=2.0)
        cpu.close()

        assert (2.0, 50.0) == reading

    def test_the_narrowest_of_all_groups_around_us_counts(self, machine):
        """
        Ours may be free within one that is not.
        """
        files = {
            "a/b/c/cpu.max": "max 100000\n",
            "a/b/cpu.max": "max 100000\n",
            "a/cpu.max": "150000 100000\n",
        }
        mount = in_group(machine, "/a/b/c", files=files)

        assert [CpuGroup(mount / "a", 2, 1.5, mount / "a/cpu.stat")] == cpu_groups(proc=machine.proc)


class TestMemory:
    """
    What can be had without swapping, by us.
    """

    def read(self, machine):
        memory = HostMemory(proc=machine.proc)
        reading = memory.read(at=1.0)
        memory.close()
        return reading

    def test_without_limits_it_is_that_of_the_machine(self, machine):
        """
        With the swap beside it.
        """
        machine.memory(total_kib=8 << 20, available_kib=3 << 20, swap_kib=1 << 20, swap_free_kib=1 << 19)

        assert (8 * GIB, 3 * GIB, GIB, GIB / 2) == self.read(machine)

    def test_what_lies_on_the_lists_of_the_cpus_is_available(self, machine):
        """
        Half a GiB that somebody had just taken did not show, for minutes (seen 2026-11-22).
        """
        pages = [GIB // 4 // PAGE_BYTES, 3]
        machine.write("proc/zoneinfo", ZONES.format(*pages))

        assert 4 * GIB + sum(pages) * PAGE_BYTES == self.read(machine).available_bytes

    def test_no_more_is_available_than_there_is(self, machine):
        """
        The two files are of different moments.
        """
        machine.memory(total_kib=8 << 20, available_kib=8 << 20)
        machine.write("proc/zoneinfo", ZONES.format(5000, 5000))

        assert 8 * GIB == self.read(machine).available_bytes

    @pytest.mark.parametrize("text", ["", "\x00\xff", "Node 0, zone Normal\n  pages free 7\n"])
    def test_without_those_lists_it_is_what_the_kernel_says(self, machine, text):
        """
        It may not tell them.
        """
        machine.write("proc/zoneinfo", text)

        assert 4 * GIB == self.read(machine).available_bytes

    @pytest.mark.parametrize(
        "text", ["", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 5 kB\n", "MemTotal:\n", "\x00\xff"]
    )
    def test_a_file_that_makes_no_sense_is_missing(self, machine, text):
        """
        All of it: half a file may be of another moment.
        """
        machine.write("proc/meminfo", text)
        reading = self.read(machine)

        assert all("does not have the form that is known" in one.why for one in reading)

    def test_a_file_that_is_not_there_is_missing(self, machine):
        """
        Said in the words of the system.
        """
        (machine.proc / "meminfo").unlink()

        assert f"cannot read {machine.proc}/meminfo: No such file or directory" == self.read(machine)[0].why

    def test_a_limit_counts_and_what_can_be_dropped_is_available(self, machine):
        """
        A cache of files is given up as soon as somebody needs the memory.
        """
        stat = f"anon {GIB}\ninactive_file {GIB // 2}\nactive_file {GIB // 4}\nslab_reclaimable 1024\n"
        files = {
            "a/memory.max": f"{2 * GIB}\n",
            "a/memory.current": f"{GIB * 7 // 4}\n",
            "a/memory.stat": stat,
        }
        in_group(machine, "/a", files=files)
        reading = self.read(machine)

        assert (2 * GIB, 2 * GIB - GIB + 1024) == (reading.total_bytes, reading.available_bytes)

    def test_a_limit_that_only_slows_down_counts_too(self, machine):
        """
        Above it a group hardly gets on.
        """
        files = {"a/memory.max": "max\n", "a/memory.high": f"{GIB}\n"}
        in_group(machine, "/a", files=files)

        assert [GIB] == [group.limit_bytes for group in memory_groups(proc=machine.proc)]

    def test_the_machine_may_have_less_than_the_group_may(self, machine):
        """
        The lesser counts.
        """
        stat = "inactive_file 0\nactive_file 0\n"
        files = {"a/memory.max": f"{7 * GIB}\n", "a/memory.current": "0\n", "a/memory.stat": stat}
        in_group(machine, "/a", files=files)
        reading = self.read(machine)

        assert (7 * GIB, 4 * GIB) == (reading.total_bytes, reading.available_bytes)

    def test_a_group_that_is_over_its_limit_has_nothing_left(self, machine):
        """
        Not less than nothing.
        """
        stat = "inactive_file 0\nactive_file 0\n"
        files = {"a/memory.max": f"{GIB}\n", "a/memory.current": f"{2 * GIB}\n", "a/memory.stat": stat}
        in_group(machine, "/a", files=files)

        assert 0.0 == self.read(machine).available_bytes

    def test_a_limit_of_the_first_version_counts_too(self, machine):
        """
        There, no limit is a very large number.
        """
        files = {
            "memory/a/memory.limit_in_bytes": f"{GIB}\n",
            "memory/a/memory.usage_in_bytes": f"{GIB // 2}\n",
            "memory/a/memory.stat": f"cache 5\ntotal_inactive_file {GIB // 4}\ntotal_active_file 0\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        }
        in_group(machine, "/a", version=1, files=files)
        reading = self.read(machine)

        assert (GIB, GIB * 3 // 4) == (reading.total_bytes, reading.available_bytes)

    def test_a_limit_that_cannot_be_read_out_makes_it_missing(self, machine):
        """
        What the machine has is not what we may have.
        """
        files = {"a/memory.max": f"{GIB}\n", "a/memory.current": "lots\n", "a/memory.stat": "anon 5\n"}
        in_group(machine, "/a", files=files)

        assert isinstance(self.read(machine).available_bytes, Missing)

    @pytest.mark.parametrize(
        ("path", "root"), [("/docker/abc", "/docker/abc"), ("/", "/"), ("/../..", "/"), ("/gone", "/")]
    )
    def test_in_a_container_the_mount_is_our_group(self, machine, path, root):
        """
        The path that /proc tells may be the one outside, or lie where we cannot see.
        """
        files = {
            "memory.max": f"{GIB}\n",
            "memory.current": "0\n",
            "memory.stat": "inactive_file 0\nactive_file 0\n",
        }
        in_group(machine, path, root=root, files=files)

        assert GIB == self.read(machine).total_bytes

    def test_a_group_within_a_container_is_found(self, machine):
        """
        Its path is told from outside, its folder lies below the mount.
        """
        mount = in_group(machine, "/docker/abc/in", root="/docker/abc", files={"in/memory.max": f"{GIB}\n"})

        assert [MemoryGroup(mount / "in", 2, GIB)] == memory_groups(proc=machine.proc)

    @pytest.mark.parametrize("text", ["", "nonsense\n", "0::/a\n0::/b\n", ":::\n", "\x00\n"])
    def test_groups_that_make_no_sense_are_none(self, machine, text):
        """
        Then the machine's figures are all there is.
        """
        in_group(machine, "/a")
        machine.write("proc/self/cgroup", text)

        assert ([], []) == (memory_groups(proc=machine.proc), cpu_groups(proc=machine.proc))
