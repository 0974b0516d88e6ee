"""What a tree of processes uses, read from a made-up /proc.

Covers: sums, monotone CPU time, strangers, processes that vanish while read.
Does not cover: the kernel's own numbers, but for one look at this process.
"""

import os
import shutil
from pathlib import Path

import pytest

from supervisor.core.job import Pid
from supervisor.monitors.process_tree import ProcessTree, Usage, cpu_percent

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ROOT = Pid(10, 500, "boot-1")


class FakeProc:
    """A folder that looks like /proc."""

    def __init__(self, path):
        self.path = path
        (path / "sys/kernel/random").mkdir(parents=True)
        (path / "sys/kernel/random/boot_id").write_text("boot-1\n")

    def put(
        self, pid, parent=1, *, cpu=(0, 0, 0, 0), pages=0, start=500, state="S", children=(), name="python"
    ):
        folder = self.path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        used = " ".join(map(str, cpu))
        text = f"{pid} ({name}) {state} {parent} 1 1 0 -1 0 0 0 0 0 {used} 20 0 1 0 {start} 9999 {pages} 77\n"
        (folder / "stat").write_text(text)
        (folder / "task" / str(pid) / "children").write_text("".join(f"{child} " for child in children))

    def remove(self, pid):
        shutil.rmtree(self.path / str(pid))


@pytest.fixture
def proc(tmp_path):
    return FakeProc(tmp_path)


def tree(proc):
    return ProcessTree(ROOT, proc=proc.path)


def test_a_tree_is_summed(proc):
    """
    Root, children and grandchildren count, with time in user and kernel mode
    and that of children waited for; strangers do not.
    """
    proc.put(10, cpu=(1, 2, 3, 4), pages=5, children=[11, 12])
    proc.put(11, 10, cpu=(10, 0, 0, 0), pages=1, children=[13], name="a) R (b c")
    proc.put(12, 10, cpu=(0, 20, 0, 0), pages=1)
    proc.put(13, 11, cpu=(0, 0, 30, 0), pages=1)
    proc.put(99, 1, cpu=(999, 0, 0, 0), pages=999)

    assert tree(proc).read() == Usage(70 / TICKS, 8 * PAGE, 4)


def test_children_of_every_thread_are_found(proc):
    """
    A worker that was started by a helper thread stands in that thread's list.
    """
    proc.put(10)
    proc.put(11, 10, pages=3)
    thread = proc.path / "10" / "task" / "17"
    thread.mkdir()
    (thread / "children").write_text("11 ")

    assert tree(proc).read() == Usage(0.0, 3 * PAGE, 2)


@pytest.mark.parametrize("change", [{"start": 501}, {"state": "Z"}, {"state": "X"}])
def test_a_root_that_is_over_or_somebody_else_is_gone(proc, change):
    """
    There is no usage of a process that is not there any more.
    """
    proc.put(10, **change)

    assert tree(proc).read() is None


def test_a_root_that_vanished_is_gone(proc):
    """
    Also when it was there at the reading before.
    """
    proc.put(10)
    one = tree(proc)
    one.read()
    proc.remove(10)

    assert one.read() is None


def test_a_root_of_another_boot_is_gone(proc):
    """
    Numbers and ticks may repeat after a restart of the machine.
    """
    proc.put(10)

    assert ProcessTree(Pid(10, 500, "boot-0"), proc=proc.path).read() is None


def test_a_number_given_out_again_is_not_our_child(proc):
    """
    A child that ended between the list and the look may have a successor with
    another parent.
    """
    proc.put(10, children=[11, 12])
    proc.put(11, 1, cpu=(50, 0, 0, 0), pages=9)

    assert tree(proc).read() == Usage(0.0, 0, 1)


def test_time_is_kept_when_a_child_is_waited_for(proc):
    """
    What a worker used moves to its parent; the sum stays.
    """
    proc.put(10, cpu=(10, 0, 0, 0), children=[11])
    proc.put(11, 10, cpu=(5, 5, 2, 3), children=[])
    one = tree(proc)
    before = one.read()
    proc.put(10, cpu=(10, 0, 7, 8))
    proc.remove(11)

    assert before.cpu_s == one.read().cpu_s == 25 / TICKS


def test_time_never_becomes_less(proc):
    """
    A child that nobody waited for takes its time along; use is not negative.
    """
    proc.put(10, cpu=(10, 0, 0, 0), children=[11])
    proc.put(11, 10, cpu=(90, 0, 0, 0))
    one = tree(proc)
    before = one.read()
    proc.put(10, cpu=(12, 0, 0, 0))
    proc.remove(11)

    assert one.read().cpu_s == before.cpu_s == 100 / TICKS


def test_a_zombie_counts_its_time_only(proc):
    """
    A child that is over but not waited for holds nothing and is no process.
    """
    proc.put(10, children=[11])
    proc.put(11, 10, cpu=(8, 0, 0, 0), state="Z")

    assert tree(proc).read() == Usage(8 / TICKS, 0, 1)


def test_this_process_uses_something():
    """
    The kernel's own files are read, whatever its version adds to them.
    """
    text = Path("/proc/self/stat").read_bytes()
    start_ticks = int(text[text.rindex(b")") + 1 :].split()[19])
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    usage = ProcessTree(Pid(os.getpid(), start_ticks, boot_id)).read()

    assert usage.cpu_s > 0
    assert usage.rss_bytes > 1_000_000
    assert usage.num_processes >= 1


@pytest.mark.parametrize(
    ("before_s", "after_s", "dt_s", "percent"),
    [
        (1.0, 2.0, 1.0, 100.0),
        (1.0, 5.0, 2.0, 200.0),
        (2.0, 2.0, 1.0, 0.0),
        (3.0, 2.0, 1.0, 0.0),
        (1.0, 2.0, 0.0, 0.0),
    ],
)
def test_cpu_percent_is_use_over_time(before_s, after_s, dt_s, percent):
    """
    One CPU fully used is 100; a clock that stood still or a tree that was
    replaced gives 0.
    """
    assert cpu_percent(Usage(before_s, 0, 1), Usage(after_s, 0, 1), dt_s) == percent
