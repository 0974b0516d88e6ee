"""Why two traces differ, as far as they tell.

Does not cover: pauses at the end of an epoch (test_traces_of_epochs.py).
"""

import pytest

from supervisor.cli.prove.cause import find_cause, stray_generators, unseeded
from tests.fakes.scripted_run import PLAIN, Script


def cause_of(paused, again=None):
    looks = {step: {"w": f"{step}"} for step in paused.pauses}
    return find_cause(PLAIN, paused.run(), (again or Script(looks=looks)).run())


def test_a_training_that_does_not_repeat_itself_says_nothing_about_pauses():
    """
    Two runs without pauses differ: that is the finding, whatever the pauses did.
    """
    looks = {2: {"w": "2"}}
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "exit"}), Script(losses={1: "y"}, looks=looks))

    assert not cause.is_repeatable
    assert "two runs without a pause differ too, first at step 1 in `loss`, on the same data" in cause.text


def test_an_unseeded_generator_is_named():
    """
    One that stands elsewhere before anything has happened was never seeded.
    """
    other = Script(rng={step: {"python": "q"} for step in range(1, 7)}, losses={1: "y"})
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "exit"}), other)

    assert "the generator `python` starts elsewhere in each" in cause.text
    assert "seed it: random.seed()" == cause.hint


def test_data_in_another_order_without_pauses_is_named():
    """
    The numbers differ because the data did: kernels are not to blame.
    """
    other = Script(batches={1: "c"}, losses={1: "y"})

    assert cause_of(Script(losses={3: "x"}, pauses={2: "exit"}), other).text.endswith("and the data does")


def test_a_part_that_came_back_different_is_named():
    """
    Saved state and restored state are compared, not only what came of it.
    """
    cause = cause_of(Script(losses={5: "x"}, pauses={2: "exit"}, restored={2: {"w": "7"}}))

    assert "what was saved at step 2 was not what stood there after loading it: `w`" == cause.text


def test_what_the_script_asks_for_behind_attach_had_only_not_come_back_yet():
    """
    A variable of shim.state(), or a part that comes in mid-run.
    """
    looks = {2: {"w": "2", "state.best": "0.5"}}
    script = Script(losses={3: "x"}, pauses={2: "exit"}, looks=looks, restored={2: {"w": "2"}})

    assert cause_of(script, Script(looks=looks)).text.startswith("all that was handed over is the same")


LEAF = "float32[8, 3, 3, 3] 1ce4"


@pytest.mark.parametrize(
    ("saved", "restored", "is_layout"),
    [
        (f"{LEAF} strides [27, 1, 9, 3]", LEAF, True),
        (LEAF, f"{LEAF} strides [27, 1, 9, 3]", True),
        (f"{LEAF} strides [27, 1, 9, 3]", "float32[8, 3, 3, 3] 77aa", False),
        (f"{LEAF} strides [27, 1, 9, 3]", None, False),
        ('"a strides b"', '"a strides c"', False),
    ],
)
def test_the_same_numbers_in_another_memory_layout_are_named(saved, restored, is_layout):
    """
    A model that is brought to channels_last after attach() has moments that fused kernels mix up.
    """
    back = {} if restored is None else {"w": restored}
    looks = {2: {"w": saved}}
    paused = Script(losses={5: "x"}, looks=looks, pauses={2: "exit"}, restored={2: back})
    cause = cause_of(paused, Script(looks=looks))

    assert ("the same numbers in another memory layout: `w`" in cause.text) == is_layout
    assert ("memory_format" in cause.hint) == is_layout


def test_memory_that_returned_with_other_contents_is_named():
    """
    What was given back is compared with what stands there afterwards, as a checkpoint is.
    """
    cause = cause_of(Script(losses={5: "x"}, pauses={2: "offload"}, restored={2: {"w": "7"}}))

    assert "what was given back at step 2 was not the same when it had returned: `w`" == cause.text


def test_memory_that_returned_as_it_was_points_to_its_address():
    """
    The tensors are the same and only where they lie is not.
    """
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "offload"}))

    assert cause.text.startswith("every tensor came back as it was at the pause at step 2 (offload)")
    assert "keeps the address of a tensor" in cause.hint


def test_data_that_changes_with_a_pause_is_named_with_what_the_shim_said():
    """
    The order of the data is wrong in the first step after the pause.
    """
    script = Script(losses={5: "x"}, batches={5: "c"}, pauses={2: "hold", 4: "exit"}, notes={4: ["sampler"]})
    cause = cause_of(script)

    assert "the data is another already in the first step after the pause at step 4 (exit)" in cause.text
    assert "the shim said: sampler" in cause.text


def test_a_generator_that_moved_is_named():
    """
    Same data, another place in a global generator.
    """
    script = Script(losses={5: "x"}, rng={3: {"torch": "u"}}, pauses={2: "exit", 4: "exit"})

    assert "the generator `torch` stands elsewhere" in cause_of(script).text
    assert "step 2 (exit)" in cause_of(script).text


def test_state_that_nobody_handed_over_is_what_is_left():
    """
    All that is known is the same, and the loss is not.
    """
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "exit", 4: "exit"}))

    assert "all that was handed over is the same after the pause at step 2 (exit)" in cause.text
    assert "shim.state(...)" in cause.hint


def test_state_that_differs_at_a_later_pause_points_to_the_one_before():
    """
    No number has shown it yet, but what is saved next is not what it should be.
    """
    script = Script(losses={6: "x"}, pauses={2: "exit", 4: "exit"}, looks={4: {"w": "wrong"}})
    script.restored = {4: {"w": "wrong"}}
    looks = {2: {"w": "2"}, 4: {"w": "4"}}

    assert "step 2 (exit)" in cause_of(script, Script(looks=looks)).text


def test_a_hold_that_changes_something_points_to_saving():
    """
    Nothing was loaded, so it is not what was forgotten.
    """
    assert (
        "nothing was loaded at the pause at step 2"
        in cause_of(Script(losses={3: "x"}, pauses={2: "hold"})).text
    )


def test_a_difference_before_the_first_pause_is_not_its_fault():
    """
    Nothing had been paused yet.
    """
    cause = cause_of(Script(losses={1: "x"}, pauses={2: "exit"}))

    assert not cause.is_repeatable
    assert "before the first pause" in cause.text


def test_only_seeded_generators_can_stray():
    """
    One that was never seeded stands elsewhere in every run and means nothing.
    """
    everywhere = {step: {"python": "q"} for step in range(1, 7)}
    everywhere[4] = {"python": "q", "torch": "u"}
    other = Script(rng=everywhere).run()

    assert ["python"] == unseeded(PLAIN, other)
    assert ["torch"] == stray_generators(PLAIN, other)


def test_what_the_shim_said_names_the_cause_of_what_a_restart_lost():
    """
    It comes first, once, with what was seen behind it.
    """
    script = Script(losses={5: "x"}, pauses={2: "exit", 4: "hold"}, said=("`best` goes on", "`best` goes on"))
    cause = cause_of(script)

    assert cause.text.startswith(
        "the shim said: `best` goes on. Seen was: all that was handed over is the same"
    )
    assert "the pauses at steps 2 (exit) and 4 (hold)" in cause.text
    assert cause.hint.startswith("do as it says.")


def test_what_the_shim_said_does_not_explain_a_run_that_was_never_restarted():
    """
    What a restart would lose is still there after a hold.
    """
    script = Script(losses={5: "x"}, pauses={4: "hold"}, said=("`best` goes on",))

    assert cause_of(script).text.startswith("nothing was loaded at the pause at step 4 (hold)")


def test_a_clock_in_the_state_of_a_part_is_named():
    """
    No number differs without pauses, and yet a leaf of the state does.
    """
    looks = {2: {"w": "2"}}
    cause = cause_of(Script(final={"t": "5"}, pauses={2: "exit"}), Script(final={"t": "6"}, looks=looks))

    assert not cause.is_repeatable
    assert cause.text.startswith("a clock, or something else from outside, is in the state of a part")
    assert "`t` is another in each" in cause.text


def test_a_clock_hides_no_other_cause():
    """
    Neither in what is saved nor in what is restored.
    """
    script = Script(losses={5: "x"}, final={"t": "5"}, pauses={2: "exit", 4: "exit"})
    script.looks, script.restored = {2: {"w": "2", "t": "1"}}, {2: {"w": "2", "t": "2"}}
    again = Script(final={"t": "6"}, looks={2: {"w": "2", "t": "3"}, 4: {"w": "4"}})
    cause = find_cause(PLAIN, script.run(), again.run())

    assert cause.is_repeatable
    assert cause.text.startswith(
        "all that was handed over is the same after the pauses at steps 2 (exit) and 4"
    )
