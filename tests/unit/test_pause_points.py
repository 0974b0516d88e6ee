"""Where a run that is proved is paused."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.pause_points import choose

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


@given(num_pauses=st.integers(2, 8), seed=SEEDS)
def test_one_of_several_pauses_is_at_the_end_of_an_epoch_that_is_not_the_last(num_pauses, seed):
    """
    Between two epochs a run holds other things than between two batches.
    """
    points = choose(run_of(3, 10), num_pauses, ["hold"], seed)

    assert any((point.step, point.epoch) in {(10, 1), (20, 2)} for point in points)


@given(seed=SEEDS)
def test_pauses_are_spread_over_the_run(seed):
    """
    One in each fifth of the run, when there are five.
    """
    wheres = [(step, 0) for step in range(1, 101)]
    steps = [point.step for point in choose(wheres, 5, ["hold"], seed)]

    assert [0, 1, 2, 3, 4] == [(step - 1) // 20 for step in steps]


@given(num_pauses=st.integers(2, 9), depths=st.sampled_from([["exit", "hold"], ALL]), seed=SEEDS)
def test_several_depths_are_as_even_as_they_can_be(num_pauses, depths, seed):
    """
    Every way to pause is proved, whatever the seed, those that come first the more often.
    """
    chosen = [point.depth for point in choose(run_of(3, 10), num_pauses, depths, seed)]
    counts = [chosen.count(depth) for depth in depths]

    assert sorted(counts, reverse=True) == counts
    assert max(counts) - min(counts) <= 1
    assert num_pauses == sum(counts)


def test_the_seed_decides():
    """
    The same seed gives the same pauses, another one others.
    """
    wheres = run_of(3, 40)

    assert choose(wheres, 5, ALL, 1) == choose(wheres, 5, ALL, 1)
    assert choose(wheres, 5, ALL, 1) != choose(wheres, 5, ALL, 2)
