"""What a training process reads of its environment."""

import pytest

from trainer_shim.surroundings import Surroundings

EVERY = "TRAINING_SUPERVISOR_EVERY_S"


def read(**env):
    return Surroundings.read({f"TRAINING_SUPERVISOR_{name}": value for name, value in env.items()})


def test_without_a_word_nothing_is_saved_by_itself_and_nothing_goes_on():
    """
    As for every script that is started by hand.
    """
    here = read()

    assert (None, False, ()) == (here.every_s, here.goes_on, here.ignored)
    assert (None, ()) == here.period(None, None)
    assert (5.0, ()) == here.period(5.0, None)


@pytest.mark.parametrize(("text", "every_s"), [("600.0", 600.0), ("1", 1.0), ("315360000.0", 315360000.0)])
def test_how_often_to_save_counts_where_the_script_does_not_say_it(text, every_s):
    """
    The script's own wins, and that is said with both.
    """
    here = read(EVERY_S=text)

    assert (every_s, ()) == here.period(None, None)
    own_s, (by_s,) = here.period(0.5, None)
    none_s, (by_steps,) = here.period(None, 100)
    assert (0.5, None) == (own_s, none_s)
    assert f"saves as the script says (every_s=0.5), not every {every_s:g} s as the job says" == by_s
    assert "(every_steps=100)" in by_steps


@pytest.mark.parametrize("text", ["soon", "0", "0.99", "-5", "nan", "inf", "1e999", "10m", "9" * 400])
def test_what_is_no_time_is_ignored_and_said(text):
    """
    It is no reason not to train.
    """
    every_s, (said,) = read(EVERY_S=text).period(None, None)

    assert every_s is None
    assert said.startswith(f"cannot save every '{text[:40]}' seconds, as {EVERY} says")
    assert (7.0, (said,)) == read(EVERY_S=text).period(7.0, None)


@pytest.mark.parametrize(("text", "goes_on"), [("1", True), ("", False), ("0", False), ("yes", False)])
def test_a_start_goes_on_by_one_word(text, goes_on):
    """
    Nothing else means it.
    """
    assert goes_on is read(GOES_ON=text).goes_on
