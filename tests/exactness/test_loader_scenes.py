"""A training that was cut ends with the same bits, for each kind of loader."""

import pytest
from loader_training import HARMLESS, SCENES, SINGLE_SCENES, WORKER_SCENES, run, run_bare

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]
ALONE = [(scene, 0) for scene in SCENES | SINGLE_SCENES]
#: With workers the plain scenes would show nothing that those with random numbers do not.
ALL = ALONE + [(scene, 2) for scene in SCENES | WORKER_SCENES if scene not in {"in order", "shuffled"}]
#: Starting workers takes most of the time: the ends of a pass, and no cut, are tried with one loader a kind.
ENDS = [
    *ALONE,
    *((scene, 2) for scene in ("shuffled, numpy", "persistent", "torchdata", "torchdata, persistent")),
]
#: Before the first batch, after it, in the middle, before the last, after the last, after the end, and again.
MANY = {(0, 0), (0, 1), (0, 3), (0, "end"), (1, 0), (1, 2)}


@pytest.fixture(scope="module")
def bare():
    """
    What a script without the shim ends with, worked out once a scene.
    """
    known = {}

    def result(scene, workers):
        if (scene, workers) not in known:
            known[scene, workers] = run_bare(scene, workers)
        return known[scene, workers]

    return result


@pytest.mark.parametrize(("scene", "workers"), ENDS)
def test_the_shim_changes_no_bit_of_a_training_that_is_never_paused(bare, scene, workers):
    """
    With the shim and without it, a script sees the same batches and ends with the same weights.
    """
    expected = bare(scene, workers)

    assert expected == run(scene, workers)


@pytest.mark.parametrize(("scene", "workers"), ALL)
def test_a_training_cut_many_times_ends_with_the_same_bits(bare, scene, workers):
    """
    Paused before the first batch, after one, in the middle, after an epoch and in the next one, each time
    from the checkpoint of a run that was itself taken up.
    """
    expected = bare(scene, workers)
    cuts = {one for one in MANY if one[1] == "end" or one[1] < len(expected["batches"]) / 2}

    assert expected == run(scene, workers, cuts)


@pytest.mark.parametrize(("scene", "workers"), ENDS)
def test_a_training_cut_after_its_last_batch_ends_with_the_same_bits(bare, scene, workers):
    """
    Paused one batch before the end of an epoch, then right after its last batch.
    """
    expected = bare(scene, workers)
    num_batches = len(expected["batches"]) // 2

    assert expected == run(scene, workers, {(0, num_batches - 1), (0, num_batches)})
