"""Whose process is whose, and what they use, read from a made-up /proc.

Covers: trees, sums, CPU time that only grows, strangers, processes that vanish while read.
Does not cover: the kernel's own numbers (tests/contract/test_sampler.py).
"""

import os
from pathlib import Path

import pytest

from supervisor.core.jobs.job import Pid
from supervisor.core.readings.sample import Left
from supervisor.monitors.processes import Processes, Usage
from tests.fakes.machine import BOOT, FakeMachine

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ROOT = Pid(10, 500, BOOT)


class World(FakeMachine):
    """A machine with one reader."""

    def __init__(self, root):
        super().__init__(root)
        self.processes = Processes(proc=self.proc)
        self.now = 0.0

    def read(self, *, after_s=1.0, **roots):
        self.now += after_s
        return self.processes.read(roots or {"a": ROOT}, at=self.now)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_tree_is_summed(world):
    """
    Root, children and grandchildren count, with time in user and kernel mode
    and that of children waited for; strangers do not.
    """
    world.put(10, cpu=(1, 2, 3, 4), pages=5)
    world.put(11, 10, cpu=(10, 0, 0, 0), pages=1, name="a) R (b c")
    world.put(12, 10, cpu=(0, 20, 0, 0), pages=1)
    world.put(13, 11, cpu=(0, 0, 30, 0), pages=1)
    world.put(99, 1, cpu=(999, 0, 0, 0), pages=999)

    assert {"a": Usage(70 / TICKS, 8 * PAGE, 4)} == world.read()
    assert ["a", "a", "a", "a", ""] == [world.processes.owner(pid) for pid in (10, 11, 12, 13, 99)]


def test_pages_of_files_are_not_what_a_job_holds(world):
    """
    2026-11-28: a job with the libraries of CUDA mapped was not let back into the memory that it had left.
    Where the kernel does not tell them apart, all counts.
    """
    world.put(10, pages=1000, file_pages=900)
    world.put(11, 10, pages=50, file_pages=60)
    world.put(12, 10, pages=7)
    world.write("proc/12/status", "Name:\tpython\nVmRSS:\t 28 kB\n")

    assert 107 * PAGE == world.read()["a"].rss_bytes


def test_what_starts_later_belongs_to_its_parents_job(world):
    """
    Also when parent and child were both made since the reading before.
    """
    world.put(10)
    world.put(20)
    world.read(a=ROOT, b=Pid(20, 500, BOOT))
    world.put(12, 11, pages=2, start=600)
    world.put(11, 10, pages=1, start=600)
    world.put(21, 20, pages=7, start=600)

    found = world.read(a=ROOT, b=Pid(20, 500, BOOT))
    assert {"a": Usage(0.0, 3 * PAGE, 3), "b": Usage(0.0, 7 * PAGE, 2)} == found


def test_a_job_that_is_watched_later_has_all_its_processes(world):
    """
    They were seen as strangers before.
    """
    world.put(10)
    world.put(11, 10, pages=4)
    world.read(b=Pid(1, 1, BOOT))

    assert {"a": Usage(0.0, 4 * PAGE, 2)} == world.read()


def test_what_a_job_left_stays_its_own_when_its_command_is_over(world):
    """
    It is named with what it holds, counts as used by the job and never as foreign, until it ends.
    """
    world.put(10)
    world.put(11, 10, pages=2, name="tracker", cpu=(5, 0, 0, 0))
    world.read()
    world.remove(10)
    world.put(11, 1, pages=3, name="tracker", cpu=(9, 0, 0, 0))
    usage = world.read(b=Pid(99, 1, BOOT))
    left, foreign = world.processes.left(), world.processes.foreign()
    world.remove(11)
    world.read(b=Pid(99, 1, BOOT))

    assert {"a": Usage(9 / TICKS, 3 * PAGE, 1)} == usage
    assert {"a": (Left(11, "tracker", 3 * PAGE),)} == left
    assert {1: "init"} == foreign
    assert {} == world.processes.left()


def test_a_mark_tells_whose_a_process_is(world):
    """
    One that left parents and session behind before it was ever seen; a mark below another folder,
    or of no start, means nothing. A job keeps its leftovers beside its next start.
    """
    world.processes = Processes(proc=world.proc, jobs=Path("/s/jobs"))
    marks = {
        11: "A=1\0TRAINING_SUPERVISOR_RUN_DIR=/s/jobs/a/run-1\0Z=",
        12: "TRAINING_SUPERVISOR_RUN_DIR=/s/jobs/b/run-22",
        13: "TRAINING_SUPERVISOR_RUN_DIR=/s/other/b/run-1",
        14: "XTRAINING_SUPERVISOR_RUN_DIR=/s/jobs/b/run-1",
        15: "TRAINING_SUPERVISOR_RUN_DIR=/s/jobs/b/log",
    }
    world.put(10)
    for pid, text in marks.items():
        world.put(pid, session=pid, pages=1)
        world.write(f"proc/{pid}/environ", text)
        world.write(f"proc/{pid}/status", "Name:\tx\nUid:" + f"\t{os.geteuid()}" * 4 + "\n")
    usage = world.read()

    assert ["a", "b", "", "", ""] == [world.processes.owner(pid) for pid in marks]
    assert {"a": Usage(0.0, PAGE, 2), "b": Usage(0.0, PAGE, 1)} == usage
    assert {"b": (Left(12, "python", PAGE),)} == world.processes.left()


def test_a_process_that_lost_its_parent_stays_with_its_job(world):
    """
    Somebody else is its parent by then; it was seen with the first one.
    """
    world.put(10)
    world.put(11, 10)
    world.put(12, 11, pages=3)
    world.read()
    world.remove(11)
    world.put(12, 1, pages=3)

    assert {"a": Usage(0.0, 3 * PAGE, 2)} == world.read()


def test_a_process_that_was_never_seen_with_its_parent_is_known_by_its_session(world):
    """
    A job's command leads a session; whoever left neither belongs to the job.
    """
    world.put(10, session=10)
    world.put(12, 1, session=10, pages=3)
    world.put(13, 1, session=13, pages=9)

    assert {"a": Usage(0.0, 3 * PAGE, 2)} == world.read()


@pytest.mark.parametrize("change", [{"start": 501}, {"state": "Z"}, {"state": "X"}])
def test_a_root_that_is_over_or_somebody_else_is_gone(world, change):
    """
    There is no usage of a process that is not there any more.
    """
    world.put(10, **change)

    assert {} == world.read()


def test_a_root_that_vanished_is_gone(world):
    """
    Also when it was there at the reading before; another under its number is not it.
    """
    world.put(10)
    world.read()
    world.remove(10)
    gone = world.read()
    world.put(10, start=700)

    assert {} == gone == world.read()


def test_a_number_that_was_given_out_again_between_two_readings_is_seen(world):
    """
    By its start time.
    """
    world.put(10)
    world.put(11, 10, pages=3)
    world.read()
    world.put(11, 1, start=900, pages=100)

    assert {"a": Usage(0.0, 0, 1)} == world.read()


def test_a_root_of_another_boot_is_gone(world):
    """
    Numbers and ticks may repeat after a restart of the machine.
    """
    world.put(10)

    assert {} == world.read(a=Pid(10, 500, "boot-0"))


def test_a_parent_that_is_younger_than_its_child_is_not_its_parent(world):
    """
    The number of a parent that ended was given to a process of the job.
    """
    world.put(10)
    world.put(11, 10, start=600)
    world.put(12, 11, start=550, pages=9)

    assert {"a": Usage(0.0, 0, 2)} == world.read()


def test_numbers_are_looked_at_anew_after_a_long_time(world):
    """
    A stranger's may have been given to a process of the job meanwhile.
    """
    world.put(10)
    world.put(11, 1, start=400, pages=5)
    world.read()
    world.put(11, 10, start=900, pages=5)

    assert {"a": Usage(0.0, 5 * PAGE, 2)} == world.read(after_s=60.0)


def test_time_is_kept_when_a_child_is_waited_for(world):
    """
    What a worker used moves to its parent; the sum stays, and its last bit is counted.
    """
    world.put(10, cpu=(10, 0, 0, 0))
    world.put(11, 10, cpu=(5, 5, 2, 3))
    before = world.read()["a"]
    world.put(10, cpu=(10, 0, 8, 8))
    world.remove(11)

    assert (25 / TICKS, 26 / TICKS) == (before.cpu_s, world.read()["a"].cpu_s)


def test_time_is_kept_when_a_whole_branch_is_waited_for(world):
    """
    A grandchild's time passes through the child.
    """
    world.put(10)
    world.put(11, 10, cpu=(20, 0, 0, 0))
    world.put(12, 11, cpu=(30, 0, 0, 0))
    before = world.read()["a"]
    world.remove(11)
    world.remove(12)
    world.put(10, cpu=(0, 0, 55, 0))

    assert (50 / TICKS, 55 / TICKS) == (before.cpu_s, world.read()["a"].cpu_s)


def test_time_does_not_become_less_and_goes_on_at_once(world):
    """
    A child that nobody waited for takes its time along. What the others use afterwards counts
    from the next reading, not when it has made up for the loss.
    """
    world.put(10, cpu=(10, 0, 0, 0))
    world.put(11, 10, cpu=(90, 0, 0, 0))
    first = world.read()["a"]
    world.put(10, cpu=(12, 0, 0, 0))
    world.remove(11)
    second = world.read()["a"]
    world.put(10, cpu=(15, 0, 0, 0))

    used = (first.cpu_s, second.cpu_s, world.read()["a"].cpu_s)
    assert (100 / TICKS, 102 / TICKS, 105 / TICKS) == used


def test_a_zombie_counts_its_time_only(world):
    """
    It holds nothing and runs nothing, but nobody has taken over its time yet.
    """
    world.put(10)
    world.put(11, 10, cpu=(8, 0, 0, 0), state="Z")

    assert {"a": Usage(8 / TICKS, 0, 1)} == world.read()


@pytest.mark.parametrize("text", ["", "10 (python", "10 (python) S", "10 (p) S x y z", ")(", "\x00" * 50])
def test_a_file_that_makes_no_sense_is_nobody(world, text):
    """
    The others are read all the same.
    """
    world.put(10, pages=2)
    world.put(11, 10)
    world.write("proc/11/stat", text)

    assert {"a": Usage(0.0, 2 * PAGE, 1)} == world.read()


def test_parents_that_go_in_a_circle_end_the_search(world):
    """
    No kernel says so.
    """
    world.put(10)
    world.put(11, 12)
    world.put(12, 11)

    assert 1 == world.read()["a"].num_processes


def test_only_numbers_are_processes(world):
    """
    /proc is full of other names.
    """
    world.write("proc/1x/stat", "1x (a) S 10")
    world.put(10)

    assert 1 == world.read()["a"].num_processes
