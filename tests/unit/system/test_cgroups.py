"""Which limits systemd can keep in units, on made-up machines.

Covers: both versions, the system's manager and that of a user, what cannot be read.
Does not cover: the limits around us (tests/unit/monitors/test_host.py), groups by name
(tests/unit/monitors/test_group_counters.py).
"""

import pytest

from supervisor.system.cgroups import limits_of_units
from tests.fakes.machine import FakeMachine

UID = 1000


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)


def second(machine, *, system="", user=None):
    machine.write("proc/self/cgroup", "0::/system.slice/x.service\n")
    mount = machine.proc.parent / "groups"
    machine.write("proc/self/mountinfo", f"30 23 0:26 / {mount} rw - cgroup2 cgroup2 rw\n")
    machine.write("groups/cgroup.controllers", system)
    if user is not None:
        place = f"groups/user.slice/user-{UID}.slice/user@{UID}.service"
        machine.write(f"{place}/cgroup.controllers", user)


@pytest.mark.parametrize(
    ("system", "user", "by_root", "by_user"),
    [
        ("cpuset cpu io memory hugetlb pids\n", "memory pids\n", {"cpu", "memory"}, {"memory"}),
        ("hugetlb\n", "", set(), set()),
        ("cpu memory\n", None, {"cpu", "memory"}, set()),
        ("\x00\xff memoryx\n", "cpu,memory", set(), set()),
    ],
    ids=["all", "none", "no manager of the user", "nonsense"],
)
def test_a_limit_is_kept_by_a_controller_that_the_manager_has(machine, system, user, by_root, by_user):
    """
    What the system has is not yet handed to the managers of users.
    """
    second(machine, system=system, user=user)

    assert by_root == limits_of_units(0, proc=machine.proc)
    assert by_user == limits_of_units(UID, proc=machine.proc)


def test_in_version_1_only_the_system_limits_anything(machine):
    """
    There users are handed no controllers.
    """
    machine.write("proc/self/cgroup", "4:memory:/x\n3:cpuset:/\n0::/x\n")
    machine.write("proc/self/mountinfo", f"30 23 0:26 / {machine.proc.parent} rw - cgroup cgroup rw,memory\n")

    assert {"memory"} == limits_of_units(0, proc=machine.proc)
    assert set() == limits_of_units(UID, proc=machine.proc)


def test_where_nothing_is_mounted_nothing_is_limited(machine):
    """
    And nothing fails.
    """
    assert set() == limits_of_units(0, proc=machine.proc)
