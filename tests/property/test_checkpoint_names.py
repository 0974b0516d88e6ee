"""Names: what is newest, what is a leftover, what is a mark."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from trainer_shim.checkpoint.layout import (
    Name,
    aside_name,
    doomed_name,
    doomed_of,
    free_name,
    is_leftover,
    parse_aside,
    parse_name,
    parse_pin,
    pin_name,
)

NAMES = st.builds(Name, st.integers(0, 12) | st.integers(0, 10**12), st.integers(0, 4))


@given(NAMES)
def test_a_name_is_read_back_and_is_no_leftover(name):
    """
    A checkpoint that was saved is found again, and never swept away.
    """
    assert name == parse_name(str(name))
    assert not is_leftover(str(name))


@given(NAMES)
def test_a_name_under_removal_or_set_aside_is_not_a_checkpoint(name):
    """
    What is half removed or damaged is never loaded; only the former is swept.
    """
    doomed, aside = doomed_name(str(name)), aside_name(str(name), lambda _: False)

    assert (None, None) == (parse_name(doomed), parse_name(aside))
    assert (True, False) == (is_leftover(doomed), is_leftover(aside))
    assert (name, None) == (doomed_of(doomed), doomed_of(aside))
    assert (None, name) == (parse_aside(doomed), parse_aside(aside))
    assert name == parse_aside(aside_name(str(name), [aside].__contains__))


@given(NAMES)
def test_a_pin_is_no_checkpoint_and_no_leftover(name):
    """
    It names what it pins, and nothing sweeps it away.
    """
    mark = pin_name(name)

    assert (name, None, None, False) == (
        parse_pin(mark),
        parse_name(mark),
        doomed_of(mark),
        is_leftover(mark),
    )
    assert parse_pin(str(name)) is None


@given(st.text(alphabet="step-0123456789.x", max_size=20))
@example("step-0000000012")
@example("step-000000012.0")
@example("step-000000012.damaged")
def test_only_names_that_we_write_are_checkpoints(text):
    """
    A folder that somebody made by hand is left alone.
    """
    name = parse_name(text)

    assert name is None or str(name) == text


@given(st.sets(NAMES), st.integers(0, 12))
def test_a_new_save_is_newer_than_every_earlier_one_of_its_step(names, step):
    """
    A pause right after a periodic save goes on from the pause.
    """
    name = free_name(step, {str(one) for one in names})

    assert all(name > other for other in names if other.step == step)
