"""Where a run that is proved is paused."""

from itertools import pairwise
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.prove.pause_points import choose

SEEDS = st.integers(0, 10_000)
ALL = ["exit", "offload", "hold"]


def run_of(num_epochs, num_batches):
    """
    The boundaries of a run: one a step, and one at the end of each epoch.
    """
    batches = [(1 + step, step // num_batches) for step in range(num_epochs * num_batches)]
    return batches + [(epoch * num_batches, epoch) for epoch in range(1, num_epochs + 1)]


@given(num_epochs=st.integers(1, 5), num_batches=st.integers(1, 9), num_pauses=st.integers(1, 12), seed=SEEDS)
def test_pauses_are_different_boundaries_of_the_run_in_order(num_epochs, num_batches, num_pauses, seed):
    """
    As many as were asked for, or one at every boundary of a run that has fewer.
    """
    wheres = run_of(num_epochs, num_batches)
    points = choose(wheres, num_pauses, ["exit"], seed)
    chosen = [(point.step, point.epoch) for point in points]

    assert min(num_pauses, len(wheres)) == len(chosen)
    assert sorted(set(chosen)) == chosen
    assert set(chosen) <= set(wheres)


@given(num_pauses=st.integers(4, 8), depths=st.sampled_from([["hold"], ["exit", "hold"], ALL]), seed=SEEDS)
def test_one_of_many_pauses_is_at_the_end_of_an_epoch_that_is_not_the_last(num_pauses, depths, seed):
    """
    Between two epochs a run holds other things than between two batches.
    """
    points = choose(run_of(3, 10), num_pauses, depths, seed)

    assert any((point.step, point.epoch) in {(10, 1), (20, 2)} for point in points)


@given(seed=SEEDS)
def test_pauses_are_spread_over_the_run(seed):
    """
    No third of the run is without one, when there are five.
    """
    wheres = [(step, 0) for step in range(1, 101)]
    steps = [0, *(point.step for point in choose(wheres, 5, ["hold"], seed)), 101]

    assert max(after - before for before, after in pairwise(steps)) <= 34


@given(num_pauses=st.integers(1, 9), depths=st.sampled_from([["exit", "hold"], ALL]), seed=SEEDS)
def test_most_of_few_pauses_are_exits_and_of_many_every_depth_has_its_share(num_pauses, depths, seed):
    """
    Only an exit shows what nobody saved; one alone may lie where nothing was carried yet.
    """
    chosen = [point.depth for point in choose(run_of(3, 10), num_pauses, depths, seed)]
    counts = {depth: chosen.count(depth) for depth in depths}

    assert num_pauses == sum(counts.values())
    assert counts["exit"] >= min(2, num_pauses)
    assert counts["exit"] == max(counts.values())
    assert all(counts.values()) or num_pauses < 5


@given(depths=st.sampled_from([["exit"], ["exit", "hold"], ALL]), seed=SEEDS)
def test_exits_are_early_in_the_middle_of_an_epoch_and_late_with_steps_behind_them(depths, seed):
    """
    What is lost shows only where enough was carried, and enough steps follow.
    """
    exits = [one for one in choose(run_of(4, 10), 5, depths, seed) if one.depth == "exit"]

    assert exits[0].step <= 3
    assert any(12 <= one.step <= 23 and one.step % 10 not in (0, 1) for one in exits)
    assert any(24 <= one.step <= 35 for one in exits)


@given(num_pauses=st.integers(2, 5), seed=SEEDS)
def test_no_count_of_steps_hides_behind_the_places_of_the_exits(num_pauses, seed):
    """
    A learning rate that falls each seventh step falls as before after exits at steps 14 and 28.
    """
    exits = [
        one.step for one in choose(run_of(1, 60), num_pauses, ["exit", "hold"], seed) if one.depth == "exit"
    ]

    assert 1 == gcd(*exits)


def test_the_seed_decides():
    """
    The same seed gives the same pauses, another one others.
    """
    wheres = run_of(3, 40)

    assert choose(wheres, 5, ALL, 1) == choose(wheres, 5, ALL, 1)
    assert choose(wheres, 5, ALL, 1) != choose(wheres, 5, ALL, 2)
