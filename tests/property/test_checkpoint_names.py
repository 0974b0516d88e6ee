"""Names and retention: what stays, what goes, what is newest."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from trainer_shim.checkpoint.layout import Name, aside_name, doomed_name, free_name, is_leftover, parse_name
from trainer_shim.checkpoint.retention import decide

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
    doomed, aside = doomed_name(str(name)), aside_name(str(name), [])

    assert (None, None) == (parse_name(doomed), parse_name(aside))
    assert (True, False) == (is_leftover(doomed), is_leftover(aside))


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


@given(st.sets(NAMES), NAMES, st.integers(1, 5))
def test_the_checkpoint_just_saved_always_stays(names, saved, keep_last):
    """
    Whatever else goes, the work just made safe does not.
    """
    verdicts = {verdict.name: verdict for verdict in decide(names, saved=saved, keep_last=keep_last)}

    assert verdicts.keys() == names | {saved}
    assert verdicts[saved].stays
    assert all(verdict.why for verdict in verdicts.values())


@given(st.sets(NAMES), NAMES, st.integers(1, 5))
def test_as_many_steps_stay_as_were_asked_for(names, saved, keep_last):
    """
    `keep_last` counts steps; a step that was saved twice is kept once.
    """
    every = names | {saved}
    stays = {verdict.name for verdict in decide(names, saved=saved, keep_last=keep_last) if verdict.stays}
    last_steps = sorted({name.step for name in every}, reverse=True)[:keep_last]

    assert {max(name for name in every if name.step == step) for step in last_steps} | {saved} == stays
