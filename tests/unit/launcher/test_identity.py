"""Who a process is, and who belongs to a tree. Reads only this process; the rest is made up.

Covers: parsing of hostile names, comparison of identities, trees from a table.
Does not cover: other processes (tests/contract/test_launcher.py).
"""

import os

import msgspec
import pytest

from supervisor.core.jobs.job import Pid
from supervisor.launcher.identity import identify, is_alive, open_process
from supervisor.launcher.stop import leftovers, tree
from supervisor.system.procfs import Stat, boot_id, parse_stat

BEHIND_THE_NAME = b" S 17 42 43 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 250 18446744073709551615\n"
BOOT = "this-boot"


@pytest.mark.parametrize("name", [b"python", b"a b", b"(a) (b", b") S 1 2 3", b"a\nb", b"\xff\xfe", b""])
def test_a_process_cannot_hide_behind_its_name(name):
    """
    A program chooses its name freely; what is read behind it stays right.
    """
    stat = parse_stat(b"4711 (" + name + b")" + BEHIND_THE_NAME)

    assert stat == Stat(state="S", parent=17, session=43, start_ticks=98765)


def test_this_process_is_itself():
    """
    What is read of a living process opens that process.
    """
    me = identify(os.getpid())
    fd = open_process(me)
    os.close(fd)

    assert me.pid == os.getpid()
    assert is_alive(me)


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another-boot"}, {"pid": 0}, {"pid": -1}])
def test_a_process_that_differs_in_anything_is_not_opened(change):
    """
    Number, start and boot must all be the same.
    """
    other = msgspec.structs.replace(identify(os.getpid()), **change)

    assert open_process(other) is None
    assert not is_alive(other)


def test_nobody_has_no_identity():
    """
    A number above the kernel's limit names nobody.
    """
    beyond = 1 << 30

    assert identify(beyond) is None
    assert not is_alive(Pid(beyond, 1, boot_id()))


def row(parent, session, start_ticks=100, state="S"):
    return Stat(state, parent, session, start_ticks)


def pids(processes):
    return {process.pid for process in processes}


#: 10 is a command with child 11; 12 lost its parent but is in the session; 13 and its child 14
#: are below the command in a session of their own; 20 is a stranger.
TABLE = {
    1: row(0, 1),
    5: row(1, 5),
    10: row(5, 10),
    11: row(10, 10),
    12: row(1, 10),
    13: row(11, 13),
    14: row(13, 13),
    20: row(1, 20),
}


def test_a_tree_is_session_and_descendants():
    """
    Whoever lost his parent is found by the session, whoever left the session
    by his parent; nobody else is touched.
    """
    assert pids(tree([Pid(10, 100, BOOT)], TABLE, BOOT)) == {10, 11, 12, 13, 14}


def test_a_keeper_as_root_adds_the_orphans_it_inherited():
    """
    A process that left the session and lost its parent is below the keeper.
    """
    table = TABLE | {30: row(5, 30)}

    assert pids(tree([Pid(10, 100, BOOT), Pid(5, 100, BOOT)], table, BOOT)) == {5, 10, 11, 12, 13, 14, 30}


@pytest.mark.parametrize("root", [Pid(10, 99, BOOT), Pid(10, 100, "another-boot"), Pid(9, 100, BOOT)])
def test_a_root_that_is_somebody_else_has_no_tree(root):
    """
    A number that was given out again leads to nobody.
    """
    assert tree([root], TABLE, BOOT) == set()


def test_zombies_need_no_signal():
    """
    What is over is not counted, what it started is.
    """
    table = TABLE | {11: row(10, 10, state="Z")}

    assert pids(tree([Pid(10, 100, BOOT)], table, BOOT)) == {10, 12, 13, 14}


def test_leftovers_are_what_remains_of_the_session():
    """
    After the end of the command, reaped or not, its session still tells who
    belonged to it.
    """
    root = Pid(10, 100, BOOT)
    without = {pid: stat for pid, stat in TABLE.items() if pid != 10}

    assert pids(leftovers(root, TABLE, BOOT)) == {11, 12, 13, 14}
    assert pids(leftovers(root, without, BOOT)) == {11, 12, 13, 14}


@pytest.mark.parametrize(
    ("root", "table"),
    [
        (Pid(10, 100, "another-boot"), TABLE),
        (Pid(10, 99, BOOT), TABLE),
        (Pid(10, 101, BOOT), {pid: stat for pid, stat in TABLE.items() if pid != 10}),
    ],
    ids=["another boot", "number given out again", "older than the command"],
)
def test_strangers_are_no_leftovers(root, table):
    """
    In doubt nobody is signalled.
    """
    assert leftovers(root, table, BOOT) == set()
