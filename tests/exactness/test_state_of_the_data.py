"""What samplers, data sets and their transforms keep comes back: generators wherever they lie, and values.

Covers: hidden generators, generators that several loaders share, lists and counters that the run changed,
samplers with a state of their own.
Does not cover: the walk that finds them (unit/trainer_shim/test_reach.py).
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cutting import NUM_ITEMS, Numbers, epochs_over, once, whole_and_cut
from loader_training import HARMLESS
from torch.utils.data import DataLoader, Dataset, Sampler, random_split

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in HARMLESS]

global_generator = random.Random(5)


def from_global(_index):
    return global_generator.random()


class Mixer:
    def __init__(self):
        self.own = np.random.default_rng(5)

    def draw(self, _index):
        return float(self.own.random())

    def collate(self, batch):
        return torch.stack(batch) * float(self.own.random())


class Slots(Numbers):
    __slots__ = ("own",)

    def __init__(self):
        super().__init__()
        self.own = random.Random(5)

    def __getitem__(self, index):
        return super().__getitem__(index) * self.own.random()


class Many(Numbers):
    def __init__(self, container, count=100):
        super().__init__()
        self.own = container(random.Random(number) for number in range(count))

    def __getitem__(self, index):
        return super().__getitem__(index) * self.own[index].random()


class Negatives(Numbers):
    """Draws others for each epoch; at first what it fills is the very list of what it has."""

    def __init__(self):
        super().__init__()
        self.rows = list(range(NUM_ITEMS // 2))
        self.filled = self.rows

    def draw_others(self, epoch):
        self.filled = self.rows + [100 * epoch + row for row in self.rows]

    def __getitem__(self, index):
        return torch.tensor([float(self.filled[index])])


def in_a_closure():
    own = np.random.default_rng(5)
    return lambda _index: float(own.random())


def drawn_by(_index, own):
    return own.random()


def drawing(draw):
    return lambda _index: draw()


def fresh_global():
    global_generator.seed(5)
    return from_global


HIDDEN = {
    "partial": lambda: Numbers(functools.partial(drawn_by, own=random.Random(5))),
    "bound method": lambda: Numbers(Mixer().draw),
    "closure": lambda: Numbers(in_a_closure()),
    "partial of a method of C": lambda: Numbers(drawing(random.Random(5).random)),
    "global of the script": lambda: Numbers(fresh_global()),
    "slots": Slots,
    "long list": lambda: Many(list),
    "long tuple": lambda: Many(tuple),
    "deque": lambda: Many(collections.deque, NUM_ITEMS),
    "map": lambda: Many(lambda items: dict(enumerate(items))),
}


@pytest.mark.parametrize(
    # Starting workers takes most of the time, and they look in the same way.
    ("name", "workers"),
    [*((name, 0) for name in HIDDEN), ("partial", 2), ("closure", 2), ("slots", 2)],
)
def test_a_generator_is_found_wherever_it_lies(tmp_path, name, workers):
    """
    It goes on where it was, in this process or in a worker.
    """

    def make(_run):
        data = DataLoader(HIDDEN[name](), 4, shuffle=True, num_workers=workers)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (9,))

    assert whole == cut


@pytest.mark.parametrize(
    "collate", [lambda: Mixer().collate, lambda: functools.partial(Mixer.collate, Mixer())]
)
def test_a_generator_of_the_collate_function_is_found(tmp_path, collate):
    """
    In the object of a bound method, and in an argument that was given before.
    """

    def make(_run):
        data = DataLoader(Numbers(), 4, shuffle=True, collate_fn=collate())
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (2, 9))

    assert whole == cut


class Namespaced(Numbers):
    """Keeps what it is told by a command line, and a generator with it."""

    def __init__(self):
        super().__init__()
        self.args = argparse.Namespace(own=np.random.default_rng(3), scale=1.0)

    def __getitem__(self, index):
        self.args.scale *= 0.99
        return super().__getitem__(index) * self.args.scale + self.args.own.random()


class Augment:
    """A class that is a place for functions."""

    own = random.Random(5)

    @staticmethod
    def apply(number):
        return number + Augment.own.random()


class ByClass(Numbers):
    def __getitem__(self, index):
        return Augment.apply(super().__getitem__(index))


class OfTheClass(Numbers):
    """Counts for all of its kind."""

    num_given = 0

    def __getitem__(self, index):
        type(self).num_given += 1
        return super().__getitem__(index) + self.num_given / 100


class WithModule(Numbers):
    """Has a transform that is a module, as those of torchvision are."""

    def __init__(self):
        super().__init__()
        self.transform, self.num_given = torch.nn.Identity(), np.float64(0)

    def __getitem__(self, index):
        self.num_given += 1
        return self.transform(super().__getitem__(index) + float(self.num_given) / 100)


class Paths(Numbers):
    """Shuffles a list of paths, and one of NumPy's numbers, when its last item is asked for."""

    def __init__(self):
        super().__init__()
        self.files = [Path(f"/data/{number}") for number in range(NUM_ITEMS)]
        self.order = list(np.random.default_rng(1).permutation(NUM_ITEMS))

    def __getitem__(self, index):
        if index == NUM_ITEMS - 1:
            random.shuffle(self.files)
            random.shuffle(self.order)
        return torch.tensor([float(self.files[index].name) + float(self.order[index])])


def counting_collate():
    num_batches = 0

    def collate(batch):
        nonlocal num_batches
        num_batches += 1
        return torch.stack(batch) * num_batches

    return collate


def fresh_class(data_set):
    def make():
        Augment.own.seed(5)
        OfTheClass.num_given = 0
        return data_set()

    return make


@pytest.mark.parametrize("data_set", [Namespaced, ByClass, OfTheClass, WithModule, Paths])
def test_a_data_set_keeps_things_where_people_put_them(tmp_path, data_set):
    """
    In a namespace, in its class or another one, beside a module, as paths and numbers of NumPy's.
    """

    def make(_run):
        data = DataLoader(fresh_class(data_set)(), 4)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut


def test_a_collate_function_that_counts_goes_on(tmp_path):
    """
    In a variable around it.
    """

    def make(_run):
        data = DataLoader(Numbers(), 4, collate_fn=counting_collate())
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut


@pytest.mark.parametrize("is_batched", [True, False])
def test_a_list_that_is_a_part_of_the_loader_goes_on(tmp_path, is_batched):
    """
    A plain list as data set or as batch sampler, which the script shuffles.
    """

    def train(run):
        batches = [list(range(first, first + 4)) for first in range(0, NUM_ITEMS, 4)]
        items = [torch.tensor([float(number)]) for number in range(NUM_ITEMS)]
        data = DataLoader(Numbers(), batch_sampler=batches) if is_batched else DataLoader(items, 4)
        run.attach()
        for _ in run.shim.epochs(3):
            random.shuffle(batches if is_batched else items)
            for batch in run.shim.batches(data):
                run.step(batch)

    whole, cut = whole_and_cut(tmp_path, train, (3, 9))

    assert whole == cut


num_asked = 0
asked_of = {"items": 0}
palette = [1.0, 2.0, 3.0, 4.0]


class OfTheModule(Numbers):
    """Counts in variables of its module, as short scripts do."""

    def __getitem__(self, index):
        global num_asked  # noqa: PLW0603  # That is the case.
        num_asked += 1
        asked_of["items"] += index
        palette.append(palette.pop(0))
        return super().__getitem__(index) * num_asked + asked_of["items"] * palette[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_global_variables_that_the_data_set_names_go_on(tmp_path, workers):
    """
    Counters, maps and lists at the top of the script, which a fresh process begins with anew.
    """

    def make(_run):
        global num_asked
        num_asked, asked_of["items"], palette[:] = 0, 0, [1.0, 2.0, 3.0, 4.0]
        data = DataLoader(OfTheModule(), 4, shuffle=True, num_workers=workers)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut


class Transition(NamedTuple):
    state: torch.Tensor
    action: int


class Replay(Numbers):
    """Remembers what no checkpoint can hold."""

    def __init__(self):
        super().__init__()
        self.buffer = collections.deque(maxlen=30)

    def __getitem__(self, index):
        self.buffer.append(Transition(super().__getitem__(index), 1))
        return random.choice(self.buffer).state


def test_what_the_data_keeps_and_no_checkpoint_can_hold_is_told_and_ends_no_run(tmp_path, capsys):
    """
    Nobody handed it over, so nothing is refused.
    """

    def make(_run):
        data = DataLoader(Replay(), 4, shuffle=True)
        return lambda: data

    assert once(tmp_path, epochs_over(make)) is not None
    assert (
        "`dataset.buffer` was changed by the run, and holds objects that cannot be kept"
        in capsys.readouterr().err
    )


# --- generators that several loaders use ------------------------------------------------------


def sharing_a_generator():
    shared = torch.Generator().manual_seed(3)
    data, valid = (DataLoader(Numbers(), 4, shuffle=True, generator=shared) for _ in range(2))
    return data, valid


def sharing_a_data_set():
    whole = Numbers(functools.partial(drawn_by, own=random.Random(8)))
    parts = random_split(whole, [16, 8], generator=torch.Generator().manual_seed(1))
    data, valid = (DataLoader(part, 4, shuffle=True) for part in parts)
    return data, valid


@pytest.mark.parametrize("steps", [(3,), (8,), (6, 12)])
@pytest.mark.parametrize("through_shim", [True, False])
@pytest.mark.parametrize("share", [sharing_a_generator, sharing_a_data_set])
def test_a_generator_that_two_loaders_share_has_one_state(tmp_path, share, through_shim, steps):
    """
    It stands where the last of them left it, whoever was first to use it after the restart.
    """

    def train(run):
        data, valid = share()
        shim = run.attach()
        for _ in shim.epochs(3):
            for batch in shim.batches(data):
                run.step(batch)
            for batch in shim.batches(valid) if through_shim else valid:
                run.see(batch)

    whole, cut = whole_and_cut(tmp_path, train, steps)

    assert whole == cut


@pytest.mark.parametrize("step", range(2, 12, 3))
def test_two_passes_of_an_epoch_share_a_generator(tmp_path, step):
    """
    A loader that is gone through twice an epoch, beside another one with its generator.
    """

    def train(run):
        own = torch.Generator().manual_seed(3)
        data = DataLoader(Numbers(), 8, shuffle=True, generator=own)
        other = DataLoader(Numbers(), 12, shuffle=True, generator=own)
        shim = run.attach()
        for _ in shim.epochs(2):
            for one in (data, other, data):
                for batch in shim.batches(one):
                    run.step(batch)

    whole, cut = whole_and_cut(tmp_path, train, [step])

    assert whole == cut


# --- values ------------------------------------------------------------------------------------


class InPlace(Sampler):
    """Shuffles its own list."""

    kind = list

    def __init__(self):
        self.order = self.kind(range(NUM_ITEMS))

    def __len__(self):
        return NUM_ITEMS

    def __iter__(self):
        random.shuffle(self.order)
        return iter(list(self.order))


class InPlaceArray(InPlace):
    kind = np.arange

    def __init__(self):
        self.order = np.arange(NUM_ITEMS)

    def __iter__(self):
        np.random.shuffle(self.order)  # noqa: NPY002
        return iter(self.order.tolist())


class Long(InPlace):
    """With a list that is kept as bytes."""

    def __init__(self):
        self.order = list(range(NUM_ITEMS))
        self.ballast = list(range(10_000))

    def __iter__(self):
        random.shuffle(self.ballast)
        return iter([number % NUM_ITEMS for number in self.ballast[:NUM_ITEMS]])


class CountsEpochs(Sampler):
    """Seeds each pass by how many there were, counted when it begins."""

    def __init__(self):
        self.epoch = 0

    def __len__(self):
        return NUM_ITEMS

    def __iter__(self):
        order = self.order()
        self.epoch += 1
        return iter(order)

    def order(self):
        return torch.randperm(NUM_ITEMS, generator=torch.Generator().manual_seed(100 + self.epoch)).tolist()


class CountsAtTheEnd(CountsEpochs):
    def __iter__(self):
        yield from self.order()
        self.epoch += 1


class TellsItsState(CountsEpochs):
    """In a place that nobody else would look into."""

    def __init__(self):
        super().__init__()
        self._hidden = iter(())

    def state_dict(self):
        return {"epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]


class GoesOnByItself(Sampler):
    """Begins in the middle of a pass when it is told its state, as samplers of some libraries do."""

    def __init__(self):
        self.used, self.passes = 0, 0

    def __len__(self):
        return NUM_ITEMS

    def __iter__(self):
        order = list(range(NUM_ITEMS))
        random.Random(self.passes).shuffle(order)
        for index in order[self.used :]:
            self.used += 1
            yield index
        self.used, self.passes = 0, self.passes + 1

    def state_dict(self):
        return {"used": self.used, "passes": self.passes}

    def load_state_dict(self, state):
        self.used, self.passes = state["used"], state["passes"]


SAMPLERS = [InPlace, InPlaceArray, Long, CountsEpochs, CountsAtTheEnd, TellsItsState, GoesOnByItself]


@pytest.mark.parametrize("steps", [(4,), (12,), (5, 11)])
@pytest.mark.parametrize(
    ("sampler", "is_part"),
    [*((one, False) for one in SAMPLERS), *((one, True) for one in SAMPLERS if hasattr(one, "state_dict"))],
)
def test_a_sampler_that_keeps_something_goes_on(tmp_path, sampler, is_part, steps):
    """
    In a pass, and between two; by its own state where it tells one, also if that is attached as a part.
    """

    def train(run):
        own = sampler()
        data = DataLoader(Numbers(), 4, sampler=own)
        if is_part:
            run.seen.state_dict = lambda: {"batches": run.seen.batches, "own": own.state_dict()}
            run.seen.load_state_dict = lambda state: (
                run.seen.batches.extend(state["batches"]),
                own.load_state_dict(state["own"]),
            )
        shim = run.attach()
        for _ in shim.epochs(3):
            for batch in shim.batches(data):
                run.step(batch)
            if run._leave_at == shim.step:
                run.leave()

    whole, cut = whole_and_cut(tmp_path, train, steps)

    assert whole == cut


class Counts(Numbers):
    """Gives another item each time."""

    def __init__(self):
        super().__init__()
        self.num_given = 0

    def __getitem__(self, index):
        self.num_given += 1
        return super().__getitem__(index) + self.num_given / 100


@dataclasses.dataclass(frozen=True)
class Frozen(Dataset):
    """Keeps what it counts in a map."""

    counts: dict = dataclasses.field(default_factory=dict)

    def __len__(self):
        return NUM_ITEMS

    def __getitem__(self, index):
        self.counts[index] = self.counts.get(index, 0) + 1
        return torch.tensor([float(self.counts[index])])


@pytest.mark.parametrize(("data_set", "workers"), [(Counts, 0), (Counts, 2), (Frozen, 0), (Frozen, 1)])
def test_a_data_set_that_counts_goes_on(tmp_path, data_set, workers):
    """
    In this process, and each copy of it in its worker.
    """

    def make(_run):
        data = DataLoader(data_set(), 4, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        return lambda: data

    whole, cut = whole_and_cut(tmp_path, epochs_over(make), (3, 8))

    assert whole == cut


class Files(Numbers):
    """A list of files that the script puts in another order when an epoch begins."""

    def __init__(self):
        super().__init__()
        self.files = [f"{number}.wav" for number in range(NUM_ITEMS)]

    def __getitem__(self, index):
        return torch.tensor([float(self.files[index].removesuffix(".wav"))])


@pytest.mark.parametrize("steps", [(2,), (8,), (12,), (7, 12)])
@pytest.mark.parametrize("is_early", [True, False])
def test_a_list_that_the_script_shuffles_each_epoch_goes_on(tmp_path, is_early, steps):
    """
    Whether the loader was made before attach() or behind it.
    """

    def train(run):
        if not is_early:
            run.attach()
        files = Files()
        data = DataLoader(files, 4)
        if is_early:
            run.attach()
        for _ in run.shim.epochs(3):
            random.shuffle(files.files)
            for batch in run.shim.batches(data):
                run.step(batch)
            if run._leave_at == run.shim.step:
                run.leave()

    whole, cut = whole_and_cut(tmp_path, train, steps)

    assert whole == cut


def test_a_script_that_was_changed_keeps_its_change_and_is_told(tmp_path, capsys):
    """
    A list that the run changed, and that its owner made another: the owner's stays.
    """
    made = []

    def train(run, name="0"):
        files = Files()
        files.files = [f"{number}.wav" for number in range(NUM_ITEMS)]
        files.files[0] = f"{name}.wav"
        made.append(files)
        data = DataLoader(files, 4)
        run.attach()
        for _ in run.shim.epochs(2):
            files.files.reverse()
            for batch in run.shim.batches(data):
                run.step(batch)

    assert once(tmp_path, train, leave_at=4) is None
    capsys.readouterr()
    once(tmp_path, lambda run: train(run, "77"), seed=5)

    assert "77.wav" in made[-1].files
    assert "neither what the run made of it nor what it was before" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [(3,), (8,), (3, 8)])
def test_a_list_that_takes_the_place_of_another_leaves_that_one_alone(tmp_path, steps):
    """
    Two attributes are one list in a fresh process, and two in the run.
    """

    def train(run):
        data = Negatives()
        loader = DataLoader(data, 4, shuffle=True)
        run.attach()
        for epoch in run.shim.epochs(2):
            data.draw_others(epoch)
            for batch in run.shim.batches(loader):
                run.step(batch)

    whole, cut = whole_and_cut(tmp_path, train, steps)

    assert whole == cut
