"""What a script does at the head of an epoch, a restart in the middle of that epoch does not do twice.

Covers: numbers drawn there by every generator, parts changed there, `shim.extra` and variables, the same
between two passes; what is set between attach() and the loop; what is made of the network there is told.
Does not cover: what a loop carries from turn to turn (test_loop_state.py, test_strays.py).
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from cutting import NUM_ITEMS, once, whole_and_cut

from trainer_shim import Fields

#: In the middle of an epoch of six steps, and twice in a later one: the way there is gone twice, too.
STEPS = (2, 13, 15)
BATCH = 4


class Everything:
    """What the heads here use, made anew in each start."""

    def __init__(self, run):
        self.run, self.order = run, list(range(NUM_ITEMS))
        self.scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, 1, 0.5)
        halves = [torch.optim.lr_scheduler.StepLR(run.optimizer, 1, 0.5) for _ in range(2)]
        self.several = torch.optim.lr_scheduler.SequentialLR(run.optimizer, halves, [1])
        self.target = torch.nn.Linear(1, 4)
        self.norm = torch.nn.BatchNorm1d(1)
        self.numpy, self.python = np.random.default_rng(5), random.Random(5)
        self.torch = torch.Generator().manual_seed(5)
        self.bag = [0]
        self.shim = run.attach(
            scheduler=self.scheduler,
            several=self.several,
            target=self.target,
            norm=self.norm,
            numpy=self.numpy,
            bag=Fields(self, "bag"),
        )
        self.state = self.shim.state(python=self.python, torch=self.torch, weights=None, names=["a"])
        self.shim.extra.setdefault("tally", [])


def global_numbers(one):
    one.order = torch.randperm(NUM_ITEMS).tolist()
    random.shuffle(one.order)
    one.order = np.random.permutation(one.order).tolist()  # noqa: NPY002 - the global one is tested.


def a_generator_that_is_a_part(one):
    one.order = one.numpy.permutation(NUM_ITEMS).tolist()


def generators_in_variables(one):
    one.order = torch.randperm(NUM_ITEMS, generator=one.state.torch).tolist()
    one.state.python.shuffle(one.order)


def a_scheduler(one):
    one.scheduler.step()


def schedulers_inside_one(one):
    one.several.step()


def a_target(one):
    one.target.load_state_dict(one.run.net[0].state_dict())


def data_of_a_weight(one):
    """Nothing counts a change by `.data`."""
    one.run.net[2].weight.data.mul_(0.5)


def running_statistics(one):
    one.norm(torch.arange(8.0).reshape(-1, 1))


def the_state_of_an_optimizer(one):
    one.run.optimizer.state.clear()


def an_object(one):
    one.bag = [*one.bag, len(one.bag)]


def extra_values(one):
    one.shim.extra["tally"].append(one.shim.step)


def a_variable(one):
    one.state.weights = one.run.net[0].weight.detach().clone()
    one.state.names.append("b")


#: torch wants a scheduler to step behind its optimizer; many scripts do it here.
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


def an_attribute_of_a_module(one):
    one.run.net[1].p *= 0.5


HEADS = [
    an_attribute_of_a_module,
    global_numbers,
    a_generator_that_is_a_part,
    generators_in_variables,
    a_scheduler,
    schedulers_inside_one,
    a_target,
    data_of_a_weight,
    running_statistics,
    the_state_of_an_optimizer,
    an_object,
    extra_values,
    a_variable,
]


def use(one, batch):
    """Train in a way that anything that a head made shows in the weights."""
    with torch.no_grad():
        level = one.norm.running_mean.sum() + one.target.weight.sum() + sum(one.bag)
        level = level + len(one.shim.extra["tally"]) + len(one.state.names)
        if one.state.weights is not None:
            level = level + one.state.weights.sum()
    one.run.step(torch.tensor([float(one.order[i]) for i in batch]) + level)


def batches():
    return [range(i, i + BATCH) for i in range(0, NUM_ITEMS, BATCH)]


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_at_the_head_is_done_once(tmp_path, head):
    """
    A run is ended in the middle of an epoch, and its head has drawn, stepped or changed something.
    """

    def train(run):
        one = Everything(run)
        for _ in one.shim.epochs(3):
            head(one)
            for batch in one.shim.batches(batches()):
                use(one, batch)
                one.run.shim.report(first=one.order[0])

    whole, cut = whole_and_cut(tmp_path, train, STEPS)

    assert cut == whole


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_between_two_passes_is_done_once(tmp_path, head):
    """
    The second pass of an epoch is over data that is drawn behind the first one.
    """

    def train(run):
        one = Everything(run)
        for _ in one.shim.epochs(2):
            for batch in one.shim.batches(batches()[:3]):
                use(one, batch)
            head(one)
            for batch in one.shim.batches(batches()[3:]):
                use(one, batch)
            one.order = list(range(NUM_ITEMS))

    whole, cut = whole_and_cut(tmp_path, train, (4, 11))

    assert cut == whole


def what_the_head_makes_of_a_variable(one):
    one.state.level *= 0.5
    return one.state.level


def what_the_loop_left_in_a_variable(one):
    return one.state.last


def what_a_scheduler_says(one):
    one.scheduler.step()
    return one.scheduler.get_last_lr()[0]


def the_next_of_a_list(one):
    return one.shim.extra["tally"].pop()


def what_an_object_counts(one):
    one.bag = [*one.bag, len(one.bag)]
    return len(one.bag)


@pytest.mark.parametrize(
    "local",
    [
        what_the_head_makes_of_a_variable,
        what_the_loop_left_in_a_variable,
        what_a_scheduler_says,
        the_next_of_a_list,
        what_an_object_counts,
    ],
)
def test_what_the_head_reckons_comes_out_as_it_did(tmp_path, local):
    """
    A number made of what the head changes or the loop left: it has what it had the first time.
    """

    def train(run):
        one = Everything(run)
        one.shim.extra["tally"] = one.shim.extra["tally"] or [1, 2, 3, 4]
        one.state = one.shim.state(level=1.0, last=1.0)
        for _ in one.shim.epochs(3):
            weight = local(one)
            for batch in one.shim.batches(batches()):
                run.step(torch.tensor([float(i) * weight for i in batch]))
                one.state.last = run.net[0].weight.abs().sum().item()

    whole, cut = whole_and_cut(tmp_path, train, STEPS)

    assert cut == whole


def test_a_rate_set_in_each_epoch_that_is_counted_by_hand_is_right(tmp_path):
    """
    As in the oldest scripts: the rate is set for the epoch, and a function makes the pass.
    """

    def train(run):
        shim = run.attach()

        def one_epoch():
            for batch in shim.batches(batches()):
                run.step(torch.tensor([float(i) for i in batch]))

        for epoch in range(4):
            for group in run.optimizer.param_groups:
                group["lr"] = 1e-3 * 0.3**epoch
            one_epoch()

    whole, cut = whole_and_cut(tmp_path, train, (8, 15))

    assert cut == whole


@pytest.mark.parametrize("head", [a_scheduler, a_target, running_statistics, the_state_of_an_optimizer])
def test_what_an_epoch_that_is_counted_by_hand_does_is_done_once(tmp_path, head):
    """
    Past epochs are gone through again without their batches.
    """

    def train(run):
        one = Everything(run)
        for _ in range(3):
            head(one)
            for batch in one.shim.batches(batches()):
                use(one, batch)

    whole, cut = whole_and_cut(tmp_path, train, (8, 15))

    assert cut == whole


def test_a_small_tensor_that_others_hold_stays_the_one_that_they_hold(tmp_path):
    """
    It is made what it was, and not replaced by another.
    """

    class Scale:
        def __init__(self):
            self.value = torch.ones(2)

        def state_dict(self):
            return {"value": self.value}

        def load_state_dict(self, state):
            self.value.copy_(state["value"])

    def train(run):
        scale = Scale()
        held = scale.value
        shim = run.attach(scale=scale)
        for _ in shim.epochs(3):
            held.mul_(0.5)
            for batch in shim.batches(batches()):
                run.step(torch.tensor([float(i) for i in batch]) * scale.value.sum())
                held.add_(0.125)

    whole, cut = whole_and_cut(tmp_path, train, STEPS)

    assert cut == whole


def test_a_run_that_is_complete_needs_no_part_that_its_loop_brings(tmp_path, capfd):
    """
    Started once more it says so, and trains nothing.
    """

    def train(run):
        shim = run.attach()
        for epoch in shim.epochs(2):
            if epoch >= 1:
                shim.add_parts(late=torch.nn.Linear(1, 1))
            for batch in shim.batches(batches()):
                run.step(torch.tensor([float(i) for i in batch]))
            if epoch == 1:
                run.leave()

    assert once(tmp_path, train) is None
    assert once(tmp_path, train) is not None
    assert "the run was complete" in capfd.readouterr().err


def test_epochs_counted_by_hand_draw_what_they_drew(tmp_path):
    """
    The orders of past epochs are drawn again on the way, each from where the one before left off.
    """

    def train(run):
        run.attach()
        for _ in range(4):
            order = torch.randperm(NUM_ITEMS).tolist()
            for batch in run.shim.batches(batches()):
                run.step(torch.tensor([float(order[i]) for i in batch]))

    whole, cut = whole_and_cut(tmp_path, train, (9, 16, 20))

    assert cut == whole


def test_what_is_set_between_attach_and_the_loop_stands(tmp_path):
    """
    Somebody goes on with other options from the command line, and the head of the epoch steps a scheduler.
    """
    rates = []

    def train(run):
        one = Everything(run)
        for group in run.optimizer.param_groups:
            group["weight_decay"] = 0.125
        one.shim.extra["note"] = "from the command line"
        for _ in one.shim.epochs(3):
            a_scheduler(one)
            extra_values(one)
            for batch in one.shim.batches(batches()):
                use(one, batch)
            rates.append((run.optimizer.param_groups[0]["weight_decay"], one.shim.extra["note"]))

    whole_and_cut(tmp_path, train, (8,))

    assert set(rates) == {(0.125, "from the command line")}


def plain(one, batch):
    one.run.step(torch.tensor([float(i) for i in batch]))


def labels_of_the_network(run):
    one = Everything(run)
    net = run.net
    for _ in one.shim.epochs(2):
        labels = net(torch.arange(float(NUM_ITEMS)).reshape(-1, 1)).detach()
        for batch in one.shim.batches(batches()):
            one.run.step(torch.stack([labels[i].float() for i in batch]))


def a_loader_over_what_the_network_made(run):
    one = Everything(run)
    net = run.net
    for _ in one.shim.epochs(2):
        made = net(torch.arange(8.0).reshape(-1, 1)).detach().tolist()
        for batch in one.shim.batches(made):
            one.run.step(torch.tensor(batch))


def in_a_function(run):
    one = Everything(run)
    net = run.net

    def relabel():
        with torch.no_grad():
            return net(torch.arange(float(NUM_ITEMS)).reshape(-1, 1))

    for _ in one.shim.epochs(2):
        labels = relabel()
        for batch in one.shim.batches(batches()):
            one.run.step(torch.stack([labels[i].float() for i in batch]))


def labels_in_a_variable(run):
    one = Everything(run)
    net, state = run.net, one.state
    for _ in one.shim.epochs(2):
        state.weights = net(torch.arange(float(NUM_ITEMS)).reshape(-1, 1)).detach()
        for batch in one.shim.batches(batches()):
            one.run.step(torch.stack([state.weights[i].float() for i in batch]))


def accuracy_that_is_printed(run):
    one = Everything(run)
    net = run.net
    for _ in one.shim.epochs(2):
        before = net(torch.arange(8.0).reshape(-1, 1)).mean().item()
        for batch in one.shim.batches(batches()):
            plain(one, batch)
        print(f"{before:.3f}")


def labels_of_a_teacher(run):
    one = Everything(run)
    teacher = torch.nn.Linear(1, 1).requires_grad_(requires_grad=False)
    teacher.weight.fill_(0.5)
    teacher.bias.fill_(0.5)
    for _ in one.shim.epochs(2):
        labels = teacher(torch.arange(float(NUM_ITEMS)).reshape(-1, 1))
        for batch in one.shim.batches(batches()):
            one.run.step(torch.stack([labels[i].float() for i in batch]))


@pytest.mark.parametrize(
    ("train", "name"),
    [
        (labels_of_the_network, "labels"),
        (a_loader_over_what_the_network_made, "made"),
        (in_a_function, "labels"),
        (labels_in_a_variable, ""),
        (accuracy_that_is_printed, ""),
        (labels_of_a_teacher, ""),
    ],
)
def test_what_is_made_of_the_network_is_told(tmp_path, capfd, train, name):
    """
    It cannot be made again after a restart in mid-epoch: the weights are others.
    """
    whole, cut = whole_and_cut(tmp_path, train, [3])
    told = [line for line in capfd.readouterr().err.splitlines() if line.endswith("[head]")]

    assert [f"`{name}` (line " in line for line in dict.fromkeys(told)] == [True] * bool(name)
    assert (cut == whole) is not bool(name)
