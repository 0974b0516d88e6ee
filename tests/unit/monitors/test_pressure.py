"""What the kernel says of tasks that wait.

Covers: reading the averages, kernels without them, contents that make no sense,
a trigger that cannot be had.
Does not cover: a kernel that calls (tests/integration/test_memory_trigger.py).
"""

import pytest

from supervisor.core.readings.sample import Missing, Pressure
from supervisor.monitors.pressure import MemoryTrigger, PressureFiles
from tests.fakes.machine import FakeMachine


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)


def read(machine, **groups):
    files = PressureFiles(folder=machine.proc / "pressure")
    for resource, folder in groups.items():
        files.limit_to(resource, folder)
    pressure = files.read()
    files.close()
    return pressure


def test_averages_of_ten_seconds_are_read(machine):
    """
    Some and full, of each resource that has both.
    """
    machine.pressure("cpu", some=1.5, full=0.0)
    machine.pressure("memory", some=2.25, full=1.0)
    machine.pressure("io", some=30.0, full=20.5)

    assert Pressure(
        cpu_some_pct=1.5,
        memory_some_pct=2.25,
        memory_full_pct=1.0,
        io_some_pct=30.0,
        io_full_pct=20.5,
    ) == read(machine)


def test_a_changed_file_is_read_again(machine):
    """
    It is kept open between readings.
    """
    files = PressureFiles(folder=machine.proc / "pressure")
    files.read()
    machine.pressure("memory", some=77.0)
    pressure = files.read()
    files.close()

    assert 77.0 == pressure.memory_some_pct


def test_a_kernel_without_it_is_missing(machine):
    """
    Each by itself, with the reason.
    """
    (machine.proc / "pressure/io").unlink()
    pressure = read(machine)

    assert f"cannot read {machine.proc}/pressure/io: No such file or directory" == pressure.io_some_pct.why
    assert 0.0 == pressure.cpu_some_pct


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some\n",
        "some avg10\n",
        "some avg10=x\n",
        "some avg10=-1.0\n",
        "some avg10=nan\n",
        "some avg10=101\n",
        "full avg10=1.0\n",
        "\n",
    ],
)
def test_a_file_that_makes_no_sense_is_missing(machine, text):
    """
    Never zero.
    """
    machine.write("proc/pressure/memory", text)

    assert "does not have the form that is known" in read(machine).memory_some_pct.why


def test_an_older_kernel_has_no_full_for_some(machine):
    """
    The other line counts all the same.
    """
    machine.write("proc/pressure/io", "some avg10=3.00 avg60=0.00 avg300=0.00 total=0\n")
    pressure = read(machine)

    assert 3.0 == pressure.io_some_pct
    assert Missing("the kernel does not tell `full` of it") == pressure.io_full_pct


def test_in_a_limited_group_its_own_tasks_count(machine):
    """
    They wait while the machine has plenty. A group without such a file leaves the machine's.
    """
    group = machine.write("group/memory.pressure", "some avg10=9.00\nfull avg10=8.00\n").parent
    pressure = read(machine, memory=group, cpu=group)

    assert (9.0, 8.0, 0.0) == (pressure.memory_some_pct, pressure.memory_full_pct, pressure.cpu_some_pct)


@pytest.mark.parametrize("name", ["memory", "no-such-file"])
def test_a_call_that_cannot_be_had_is_no_error(machine, name):
    """
    It says why, and its descriptor is never readable.
    """
    trigger = MemoryTrigger([machine.proc / "pressure" / name])
    trigger.acknowledge()
    problem, window = trigger.problem, trigger.window
    trigger.close()

    assert problem.startswith("cannot")
    assert str(machine.proc) in problem
    assert "" == window
