"""Programs that rules name.

Covers: names, cut names, processes that become another program, how many are asked at once.
Does not cover: which processes are foreign (test_processes.py).
"""

import pytest

from supervisor.core.readings.sample import Missing
from supervisor.monitors.programs import Programs
from tests.fakes.machine import FakeMachine


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)


@pytest.fixture
def programs(machine):
    return Programs(proc=machine.proc)


def test_a_named_program_that_runs_is_told(machine, programs):
    """
    Once, however many processes it has; others are not told.
    """
    for pid in (20, 21):
        machine.put(pid, name="steam")
    machine.put(22, name="bash")
    programs.watch({"steam", "blender"})

    assert ("steam",) == programs.running({20: "steam", 21: "steam", 22: "bash"})


def test_a_name_longer_than_the_kernel_keeps_is_found(machine, programs):
    """
    It keeps 15 characters; the answer is the name as it was asked for.
    """
    machine.put(20, name="a-very-long-pro")
    programs.watch({"a-very-long-program"})

    assert ("a-very-long-program",) == programs.running({20: "a-very-long-pro"})


def test_a_process_that_becomes_another_program_is_seen(machine, programs):
    """
    First it has the name of who started it.
    """
    machine.put(20, name="steam")
    programs.watch({"steam"})

    assert ("steam",) == programs.running({20: "bash"})


def test_an_old_process_that_becomes_another_program_is_seen_in_its_turn(machine, programs):
    """
    Not at once: of those that are not young, a few are asked at each look.
    """
    foreign = dict.fromkeys(range(100, 300), "bash")
    for pid in foreign:
        machine.put(pid, name="bash")
    programs.watch({"steam"})
    for _ in range(10):
        assert () == programs.running(foreign)
    machine.put(299, name="steam")
    looks = [programs.running(foreign) for _ in range(4)]

    assert ("steam",) in looks


def test_a_program_that_ended_is_told_no_more(machine, programs):
    """
    Whether its process is gone from the list, or only just.
    """
    machine.put(20, name="steam")
    programs.watch({"steam"})
    before = programs.running({20: "steam"})
    machine.remove(20)

    assert (("steam",), ()) == (before, programs.running({20: "steam"}))
    assert () == programs.running({})


def test_where_processes_of_others_are_hidden_nobody_knows(machine, programs):
    """
    Missing is not the same as none of them.
    """
    machine.remove(1)
    programs.watch({"steam"})

    assert Missing("/proc hides the processes of others (hidepid)") == programs.running({})


def test_nothing_is_looked_at_while_no_rule_names_a_program(machine, programs):
    """
    There is no such process to ask; nobody notices.
    """
    assert () == programs.running({4711: "steam"})
    assert not programs.watch(())
    assert programs.watch({"steam"})
    assert not programs.watch({"steam"})
