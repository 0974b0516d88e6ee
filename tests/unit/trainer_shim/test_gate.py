"""What a boundary is told to do, and the crossing between the threads."""

import threading

import pytest

from trainer_shim.gate import Gate, LeaveBySignal, Pace, Want, merge
from trainer_shim.protocol import Checkpoint, Pause, Resume, Stop

PAUSE = Pause(request="p", depth="hold")
DEEPER = Pause(request="d", depth="exit")
RESUME = Resume(request="r")
STOP = Stop(request="s")
TERM = LeaveBySignal(15)


def wanted(*commands, start=None):
    want = Want() if start is None else start
    for command in commands:
        want = merge(want, command)
    return want


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ((), Want()),
        ((PAUSE,), Want(pause=PAUSE)),
        ((PAUSE, DEEPER), Want(pause=DEEPER)),
        ((PAUSE, RESUME), Want(resumed="r")),
        ((RESUME, PAUSE), Want(pause=PAUSE)),
        ((TERM,), Want(leave=TERM)),
        ((TERM, STOP), Want(leave=STOP)),
        # The daemon waits for an answer to its request; nobody waits for one to a signal.
        ((STOP, TERM), Want(leave=STOP)),
        ((TERM, LeaveBySignal(2)), Want(leave=LeaveBySignal(2))),
        ((Checkpoint(request="a"), Checkpoint(request="b")), Want(saves=("a", "b"))),
        ((Checkpoint(request="a"), Checkpoint(request="a")), Want(saves=("a",))),
        ((PAUSE, STOP, RESUME), Want(leave=STOP, resumed="r")),
    ],
)
def test_the_later_command_counts(commands, expected):
    """
    One thing is done at the boundary, whatever was asked in which order on the way to it.
    """
    assert expected == wanted(*commands)


@pytest.mark.parametrize("want", [Want(pause=PAUSE), Want(leave=STOP), Want(saves=("a",)), Want(resumed="r")])
def test_a_want_is_true_while_something_is_to_be_done(want):
    """
    So a boundary ends when nothing is.
    """
    assert want
    assert not Want()


def test_the_flag_is_up_while_something_waits():
    """
    The only thing that a boundary looks at.
    """
    gate = Gate()
    seen = [gate.asked]
    gate.put(PAUSE)
    seen.append(gate.asked)
    want = gate.take(Want())
    seen.append(gate.asked)

    assert ([False, True, False], Want(pause=PAUSE)) == (seen, want)
    assert Want() == gate.take(Want())


def test_what_is_put_while_it_is_taken_is_not_lost():
    """
    Many threads ask, one takes, until all has come.
    """
    gate, num_threads, num_each = Gate(), 4, 200

    def ask(which):
        for number in range(num_each):
            gate.put(Checkpoint(request=f"{which}-{number}"))

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(num_threads)]
    for thread in threads:
        thread.start()
    want = Want()
    while len(want.saves) < num_threads * num_each:
        want = gate.wait(want)
    for thread in threads:
        thread.join()

    assert num_threads * num_each == len(set(want.saves))


def test_a_loop_that_holds_is_woken_by_a_command():
    """
    And sees what else has come by then.
    """
    gate, held = Gate(), Want(pause=PAUSE)
    woken = []
    thread = threading.Thread(target=lambda: woken.append(gate.wait(held)))
    thread.start()
    gate.put(RESUME)
    thread.join(30.0)

    assert [Want(resumed="r")] == woken


def test_who_asks_wins_over_who_sets_the_step():
    """
    In whatever order: a boundary looks at once while something is asked, and at its step else.
    """
    pace, seen = Pace(), []
    gate = Gate(pace)
    for steps in ([gate.ask, lambda: gate.due_at(7.0)], [lambda: gate.due_at(7.0), gate.ask]):
        for step in steps:
            step()
        seen.append(pace._due)
        gate.take(Want())
        gate.due_at(7.0)
        seen.append(pace._due)

    assert [0.0, 7.0, 0.0, 7.0] == seen
