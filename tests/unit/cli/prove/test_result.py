"""How people are told what a proof came to."""

from supervisor.cli.prove.result import ProofResult, show
from trainer_shim.trace import Point

POINTS = [Point(2, 0, "exit"), Point(5, 0, "hold"), Point(7, 0, "exit")]
BASE = {"seed": 1, "pauses": POINTS, "num_reached": 3, "num_steps": 9}


def test_a_pause_that_was_not_reached_is_no_pause_at_which_nothing_differed(capsys):
    """
    What was asked for and what was tried are told apart.
    """
    show(ProofResult(verdict="doubtful", **BASE | {"num_reached": 1}))

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("doubtful: nothing differed at 1 of 2 exits and 1 hold of 9 steps: ")
    assert "the run with pauses took another way: it did not come to the others" == lines[1]


def test_a_generator_that_moved_is_no_all_clear(capsys):
    """
    It drew otherwise, and it did not matter for what was compared.
    """
    show(ProofResult(verdict="doubtful", strays=["numpy"], **BASE))

    told = capsys.readouterr().out
    assert told.startswith("doubtful: nothing differed at 2 exits and 1 hold of 9 steps: ")
    assert "\nthe generator `numpy` stood elsewhere later on in the run with pauses\n" in told


def test_what_the_shim_said_is_told_once(capsys):
    """
    What stands in the cause stands nowhere else.
    """
    show(ProofResult(verdict="different", cause="the shim said: one", hint="h", said=["one", "two"], **BASE))

    told = capsys.readouterr().out
    assert told.startswith(
        "different: 0 of 9 steps and 0 of 0 leaves of the final state, at 2 exits and 1 hold\n"
    )
    assert 1 == told.count("one")
    assert told.endswith("\nthe shim said: two\n")
