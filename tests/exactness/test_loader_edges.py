"""What else a pass promises: no data read twice, and bare batches for everybody else."""

import gc
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import loader_training as scenes
import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loader_training import (
    HARMLESS,
    Items,
    Stream,
    Training,
    generator,
    run,
    run_bare,
    same,
    save,
    take,
)
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from trainer_shim import rng
from trainer_shim.errors import CannotRestore
from trainer_shim.loader import open_pass
from trainer_shim.loader_workers import MadeWorkers

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]


def test_a_fresh_process_ends_with_the_same_bits(tmp_path):
    """
    A run that leaves by exit and is started again as a new program goes on as if nothing had happened.
    """
    scene = "persistent"
    expected = run_bare(scene, 2)
    training = Training(scene, 2)
    scenes.go_on(training, open_pass(training.loader), 0, set(), lambda: training)
    batches = open_pass(training.loader)
    for batch in take(batches, 3):
        training.step(batch, 1)
    checkpoint, answer = tmp_path / "checkpoint", tmp_path / "answer"
    checkpoint.write_bytes(save(training, batches, 1))
    paths = f"{Path(__file__).parent}:{Path(__file__).parents[2]}"
    command = [sys.executable, scenes.__file__, scene, "2", str(checkpoint), str(answer)]
    subprocess.run(command, check=True, env={"PYTHONPATH": paths})

    assert expected == msgspec.msgpack.decode(answer.read_bytes())


@pytest.mark.parametrize("workers", [0, 2])
def test_gradient_accumulation_ends_with_the_same_bits(workers):
    """
    Paused between two groups of accumulated batches, a run ends with the same weights.
    """
    expected = run_bare("shuffled, torch", workers, accumulate=2)

    assert expected == run("shuffled, torch", workers, {(0, 2), (1, 4)}, accumulate=2)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(
    scene=st.sampled_from(["shuffled, python", "replacement, shared generator", "weighted", "torchdata"]),
    cuts=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 6) | st.just("end")), max_size=5),
)
def test_wherever_a_training_is_cut_it_ends_with_the_same_bits(scene, cuts):
    """
    The place and the number of pauses make no difference.
    """
    expected = run_bare(scene, 0)

    assert expected == run(scene, 0, cuts)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(cuts=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 6) | st.just("end")), min_size=1, max_size=3))
def test_wherever_a_training_with_workers_is_cut_it_ends_with_the_same_bits(cuts):
    """
    The same with workers that outlive their epoch.
    """
    expected = run_bare("persistent", 2)

    assert expected == run("persistent", 2, cuts)


def test_taking_up_a_pass_loads_no_data_again():
    """
    Resuming late in an epoch of a big dataset costs no more reading than resuming early.
    """
    read = []

    class Noted(Items):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    batches = open_pass(DataLoader(Items(), 4, shuffle=True))
    take(batches, 4)
    again = open_pass(DataLoader(Noted(), 4, shuffle=True), resume=batches.state_dict())

    assert [] == read
    next(again)
    assert 4 == len(read)
    assert (5, 6, True, []) == (again.taken, again.length, again.exact, again.notes)


def test_the_workers_may_be_spawned():
    """
    What the shim sends to a worker can be pickled, so every start method works.
    """

    def loader():
        return DataLoader(
            Items("torch"),
            4,
            shuffle=True,
            generator=generator(),
            num_workers=1,
            multiprocessing_context="spawn",
        )

    batches = open_pass(loader())
    take(batches, 2)
    state = batches.state_dict()
    expected = take(batches, 2)
    actual = take(open_pass(loader(), resume=state), 2)

    assert same(expected, actual)


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
def test_a_loop_without_the_shim_gets_bare_batches_from_the_same_persistent_workers(kind):
    """
    A loader that the shim has used may be used without it, as an evaluation in the same script may do.
    """
    loader = kind(Items(), 11, num_workers=1, persistent_workers=True)
    through_shim = list(open_pass(loader))

    assert same(through_shim, list(loader))


def test_a_pass_that_was_broken_off_leaves_persistent_workers_where_they_were():
    """
    Workers had batches ready that nobody took; the next pass, paused and taken up, still gets the same ones.
    """

    def loader():
        return DataLoader(
            Items("numpy"), 4, shuffle=True, generator=generator(), num_workers=2, persistent_workers=True
        )

    torch.manual_seed(4)
    bare = loader()
    next(iter(bare))
    expected = list(bare)
    torch.manual_seed(4)
    through_shim = loader()
    next(open_pass(through_shim))
    batches = open_pass(through_shim)
    actual = take(batches, 1)  # Of two workers: the other one is known from the pass before only.
    again = open_pass(loader(), resume=batches.state_dict())

    assert same(expected, [*actual, *again])
    assert (True, []) == (again.exact, again.notes)


def test_any_iterable_is_read_again():
    """
    A list, a generator or a loader of one's own goes on after the batches that were trained on.
    """
    batches = open_pass([10, 20, 30])
    take(batches, 2)
    again = open_pass([10, 20, 30], resume=batches.state_dict())

    assert [30] == list(again)
    assert (3, True) == (again.length, again.exact)
    assert [] == again.notes


def test_reading_again_is_told_where_somebody_waits_for_it():
    """
    With the time that it took: the way out is a loader that knows its place.
    """

    class Slow:
        def __iter__(self):
            time.sleep(1.1)
            yield from (10, 20, 30)

    batches = open_pass(Slow())
    take(batches, 2)
    again = open_pass(Slow(), resume=batches.state_dict())

    assert ["taking up this pass reads the batches before it again, which took 1 s"] == again.notes


def test_a_loader_with_a_state_of_its_own_is_asked_for_it():
    """
    A loader that is no torch loader but can save its position is put back by its own means.
    """

    class Counter:
        def __init__(self):
            self.at = 0

        def __iter__(self):
            while self.at < 5:
                self.at += 1
                yield self.at

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = state["at"]

    batches = open_pass(Counter())
    take(batches, 2)
    again = open_pass(Counter(), resume=batches.state_dict())

    assert [3, 4, 5] == list(again)
    assert None is again.length
    ended = open_pass(Counter(), resume=again.state_dict())
    assert [] == list(ended)


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
def test_a_loader_that_iterates_its_own_way_is_read_again(kind):
    """
    Subclasses that move batches to a device or read ahead keep doing so after a resume.
    """

    class Doubling(kind):
        def __iter__(self):
            return (2 * batch for batch in super().__iter__())

    batches = open_pass(Doubling(Items("python"), 4, num_workers=1, generator=generator()))
    take(batches, 2)
    state = batches.state_dict()
    expected = list(batches)
    again = open_pass(Doubling(Items("python"), 4, num_workers=1, generator=generator()), resume=state)

    assert same(expected, list(again))


def test_a_checkpoint_of_another_kind_of_loader_is_refused():
    """
    The script now brings another kind of loader: the error names both and says what to do.
    """
    state = open_pass([1]).state_dict()

    with pytest.raises(CannotRestore, match="`replayed` loader, the script brings a `indexed` one") as error:
        open_pass(DataLoader(Items()), resume=state)
    assert error.value.hint


def test_a_batch_that_cannot_be_made_uses_up_its_place():
    """
    A script that skips a broken row goes on behind it after a pause, as it did before.
    """

    class Broken(Items):
        def __getitem__(self, index):
            if index == 4:
                raise ValueError("broken row")
            return super().__getitem__(index)

    batches = open_pass(DataLoader(Broken(), 4))
    next(batches)
    with pytest.raises(ValueError, match="broken row"):
        next(batches)
    state = batches.state_dict()
    expected = list(batches)

    assert same(expected, list(open_pass(DataLoader(Broken(), 4), resume=state)))


def test_asking_for_the_length_of_a_stream_causes_no_warning_later():
    """
    torch warns when a stream is longer than it said, but only if somebody asked; the shim asks unseen.
    """

    class Longer(Stream):
        def __len__(self):
            return 4

    batches = open_pass(DataLoader(Longer(), 4))

    assert 1 == batches.length
    assert 6 == len(list(batches))


def test_the_extra_part_of_a_batch_survives_pinning():
    """
    torch's pinning thread passes on what it does not know, once it was asked to pin itself.
    """
    made = MadeWorkers(["text", 3], 1, {"python": b""}, is_torn=False)

    assert ["text", 3] == made.pin_memory().batch


def test_an_open_pass_leaves_nothing_behind_in_the_loader():
    """
    The loader has its own parts again as soon as the pass is open, and no worker outlives the pass.
    """
    loader = DataLoader(Items(), 4, shuffle=True, num_workers=1)
    before = dict(vars(loader))
    batches = open_pass(loader)

    assert before == vars(loader)
    process = batches._way._iterator._workers[0]
    del batches
    gc.collect()
    assert not process.is_alive()


def test_the_state_of_a_pass_is_small():
    """
    Three generators at the start and three for each worker: no more than 10 KB each.
    """
    batches = open_pass(DataLoader(Items("torch"), 4, shuffle=True, num_workers=2))
    take(batches, 3)

    assert len(msgspec.msgpack.encode(batches.state_dict())) < 45_000
    assert len(msgspec.msgpack.encode(rng.capture())) < 11_000


def test_a_pass_that_had_ended_starts_no_workers_to_end_again():
    """
    Taken up between two epochs, the ended one costs nothing, and says the same again when it is asked.
    """
    batches = open_pass(DataLoader(Items("torch"), 4, shuffle=True, num_workers=1))
    list(batches)
    state = batches.state_dict()
    del batches
    gc.collect()
    again = open_pass(DataLoader(Items("torch"), 4, shuffle=True, num_workers=1), resume=state)

    assert [] == active_children()
    assert [] == list(again)
    assert state == again.state_dict()
