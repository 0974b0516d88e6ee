"""Who belongs to a tree of processes, and who is what remains of one. The tables are made up."""

import pytest

from supervisor.core.jobs.job import Pid
from supervisor.launcher.stop import leftovers, tree
from supervisor.system.procfs import Stat

BOOT = "this-boot"


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
