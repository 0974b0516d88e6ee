"""What two traces say about each other."""

import pytest

from supervisor.cli.prove.traces import TraceDifference, compare
from tests.fakes.scripted_run import PLAIN, Script
from trainer_shim import trace
from trainer_shim.trace import TracedMetric, TracedStart


def test_equal_runs_are_identical_and_counted():
    """
    The verdict says how much was compared: numbers, tensors and values, among them step and epoch.
    """
    found = compare(PLAIN, Script(pauses={2: "exit", 4: "hold"}).run())

    assert found.is_identical
    assert (6, 6, 1, 3) == (found.num_steps, found.num_numbers, found.num_tensors, found.num_values)


def test_the_first_number_that_differs_comes_first():
    """
    Numbers are told by step, each with both values.
    """
    found = compare(PLAIN, Script(losses={5: "x", 3: "y"}).run())

    assert [
        TraceDifference("loss", "3", "y", step=3),
        TraceDifference("loss", "5", "x", step=5),
    ] == found.numbers
    assert not found.is_identical


@pytest.mark.parametrize("final", [{"w": "2"}, {"t": "float32[2] cd"}, {"new": "1"}])
def test_a_leaf_of_the_final_state_differs(final):
    """
    A value, a tensor, or one that only one of the runs has.
    """
    found = compare(PLAIN, Script(final=final).run())

    assert list(final) == [one.name for one in found.state]
    assert not found.is_identical


def test_a_run_of_another_length_is_different():
    """
    A number that is missing is a difference like any other.
    """
    found = compare(PLAIN, Script(num_steps=5).run())

    assert TraceDifference("loss", "6", None, step=6) in found.numbers
    assert "step" in [one.name for one in found.state]


def test_what_a_resumed_epoch_reports_again_is_no_difference():
    """
    The head of an epoch runs again in a new process; only what belongs to the step counts.
    """
    again = [TracedMetric(step=2, name="loss", value="old"), TracedMetric(step=3, name="rate", value="0")]
    again += [TracedMetric(step=3, name="loss", value="old")]
    found = compare(PLAIN, Script(pauses={2: "exit"}, again={2: again}).run())

    assert found.is_identical


def test_a_number_reported_with_pauses_only_is_a_difference_elsewhere():
    """
    Only a new process may report something again.
    """
    extra = [TracedMetric(step=3, name="rate", value="0")]
    found = compare(PLAIN, Script(pauses={2: "hold"}, again={2: extra}).run())

    assert [TraceDifference("rate", None, "0", step=3)] == found.numbers


def test_a_line_that_was_cut_off_is_dropped():
    """
    A process that was killed in the middle of a line has still told the rest.
    """
    text = (
        trace.write(TracedStart(step=0, epoch=0))
        + trace.write(TracedMetric(step=1, name="loss", value="1"))[:-5]
    )

    assert [TracedStart(step=0, epoch=0)] == list(trace.read(text.splitlines(keepends=True)))
