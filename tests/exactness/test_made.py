"""What no state_dict() has comes back after a pause: flags, types, layouts, groups, parts that came late.

Covers: a cut at every place of a small training, against the same training without one.
Does not cover: signals and pauses (test_pauses.py), storing (tests/property).
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import trainer_shim
from trainer_shim.gate import LeaveBySignal
from trainer_shim.optimizer_state import mend
from trainer_shim.parts import restore

BATCHES = 3
EPOCHS = 3


class Scaled(nn.Module):
    """A temperature that the loop anneals, a buffer that counts, a tensor in an attribute, and a cache."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.temperature = 1.0
        self._gain = 1.0
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.shift = torch.zeros(4)

    def forward(self, rows):
        self.calls += 1
        return self.inner(rows) * self.temperature * self._gain + self.calls + self.shift


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), Scaled(), nn.Linear(4, 1))


class Kept(torch.optim.Optimizer):
    """State of all types that torch casts: narrow moments, a mask, small integers, a text, a nested map."""

    def __init__(self, parameters, lr=0.05):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                state = self.state[one]
                if not state:
                    state["exp"] = torch.zeros_like(one, dtype=torch.bfloat16)
                    state["mask"] = torch.rand_like(one) > 0.3
                    state["q"] = [
                        torch.zeros(one.shape, dtype=torch.int8),
                        {"wide": torch.zeros_like(one).double()},
                    ]
                    state["rule"] = "sum"
                assert state["rule"] == "sum"
                assert state["mask"].dtype == torch.bool
                state["exp"].mul_(0.9).add_(one.grad.bfloat16(), alpha=0.1)
                state["q"][0] += (one.grad * 100).clamp(-3, 3).to(torch.int8)
                wide = state["q"][1]["wide"].mul_(0.99).add_(one.grad.double() / 3)
                move = state["exp"].float() + state["q"][0].float() / 100 + wide.float()
                one.sub_(move * state["mask"], alpha=group["lr"])


class Lists(Kept):
    """The same, with a load_state_dict() of its own that calls torch's."""

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)


def train(folder, change=lambda *_: None, cut=None, make=torch.optim.AdamW, model=net):
    """
    One training; `change(epoch, model, optimizer, shim)` is what the loop does at the top of an epoch, and
    may return another optimizer. Returns the weights, or None where it was cut.
    """
    torch.manual_seed(1)
    one = model()
    optimizer = make(one.parameters())
    shim = trainer_shim.attach(checkpoints=folder, net=one, opt=optimizer)
    try:
        for epoch in shim.epochs(EPOCHS):
            optimizer = change(epoch, one, optimizer, shim) or optimizer
            for rows in shim.batches(
                [torch.full((6, 4), float(n)) + torch.eye(6, 4) for n in range(BATCHES)]
            ):
                optimizer.zero_grad()
                (one(rows) - 1).square().mean().backward()
                optimizer.step()
                if cut is not None and shim.step + 1 == cut:
                    shim._gate.put(LeaveBySignal(15))
    except SystemExit:
        return None
    finally:
        shim.detach()
    return {name: value.clone() for name, value in one.state_dict().items()}


def same(tmp_path, cut, *args, **more):
    whole = train(tmp_path / "whole", *args, **more)
    assert train(tmp_path / "cut", *args, cut=cut, **more) is None
    again = train(tmp_path / "cut", *args, **more)
    return whole.keys() == again.keys() and all(whole[name].equal(again[name]) for name in whole)


def at_one(act):
    def change(epoch, model, optimizer, shim):
        # Once at all, not whenever the epoch is taken up.
        if shim.step == BATCHES:
            act(model)

    return change


def set_to(*path, value):
    def act(model):
        owner = model[path[0]]
        for name in path[1:-1]:
            owner = getattr(owner, name)
        setattr(owner, path[-1], value)

    return at_one(act)


CHANGES = {
    "frozen": at_one(lambda model: model[0].requires_grad_(False)),
    "one bias": at_one(lambda model: model[4].bias.requires_grad_(False)),
    "eval": at_one(lambda model: model[1].eval()),
    "dropout": set_to(2, "p", value=0.5),
    "momentum": set_to(1, "momentum", value=0.01),
    "no momentum": set_to(1, "momentum", value=None),
    "no statistics": set_to(1, "track_running_stats", value=False),
    "eps": set_to(1, "eps", value=0.1),
    "temperature": set_to(3, "temperature", value=0.25),
    "own private attribute": set_to(3, "_gain", value=2),
    "new tensor": set_to(3, "shift", value=torch.ones(4)),
    "tensor in place": at_one(lambda model: model[3].shift.add_(0.5)),
    "nothing": lambda *_: None,
}


@pytest.mark.parametrize(
    ("change", "cut"),
    [*((change, 4) for change in CHANGES), ("eval", 8), ("tensor in place", 8), ("own private attribute", 8)],
)
def test_what_the_loop_changed_once_in_a_module_is_so_after_a_pause(tmp_path, capfd, change, cut):
    """
    A flag set at the head of epoch 1 is set in epoch 2 too, though the script that goes on never sets it.
    """
    assert same(tmp_path, cut, CHANGES[change])
    assert "script" not in capfd.readouterr().err


@pytest.mark.parametrize("make", [Kept, Lists, torch.optim.NAdam])
def test_optimizer_state_keeps_its_types(tmp_path, make):
    """
    Moments in bfloat16, masks, int8, float64 and texts are after a pause what they were.
    """
    assert same(tmp_path, 5, make=make)


def test_float32_state_of_float64_weights_stays(tmp_path):
    """
    NAdam keeps a float32 number beside float64 weights.
    """
    one = nn.Linear(2, 1).double()
    first, second = torch.optim.NAdam(one.parameters()), torch.optim.NAdam(one.parameters())
    one(torch.ones(3, 2).double()).sum().backward()
    first.step()
    restore({"opt": second}, {"opt": first.state_dict()}, tmp_path)
    mend(second, first.state_dict())

    assert torch.float32 == second.state[one.weight]["mu_product"].dtype


def lying(weight, state):
    """
    A saved state whose momentum lies as `state`, loaded for a parameter that lies as `weight`.
    """
    optimizer = torch.optim.SGD([nn.Parameter(weight)], lr=0.1, momentum=0.9)
    saved = optimizer.state_dict() | {"state": {0: {"momentum_buffer": state}}}
    optimizer.load_state_dict(saved)
    mend(optimizer, saved)
    return optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_buffer"]


@pytest.mark.parametrize("is_last_now", [True, False])
@pytest.mark.parametrize("was_last", [True, False])
def test_state_of_its_parameters_shape_lies_as_the_parameter_does_now(was_last, is_last_now):
    """
    A fused kernel walks both memories side by side.
    """
    form = {True: torch.channels_last, False: torch.contiguous_format}
    weight = torch.randn(4, 3, 2, 2).contiguous(memory_format=form[is_last_now])
    state = torch.randn(4, 3, 2, 2).contiguous(memory_format=form[was_last])

    live = lying(weight, state)
    assert weight.stride() == live.stride()
    assert state.equal(live)


def test_state_of_another_shape_keeps_the_layout_that_it_was_saved_with():
    """
    Nothing else says how it is to lie; a sum over it depends on that.
    """
    state = torch.randn(5, 3).t()

    assert state.stride() == lying(torch.randn(7), state).stride()


def test_a_model_in_another_layout_than_the_saved_one_is_said(tmp_path, capfd):
    """
    Sums are added up in another order: the values are the same, later bits may not be.
    """
    one = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
    shim.checkpoint()
    shim.detach()
    trainer_shim.attach(checkpoints=tmp_path, net=nn.Conv2d(3, 4, 2)).detach()
    other = capfd.readouterr().err
    trainer_shim.attach(
        checkpoints=tmp_path, net=nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    ).detach()

    assert "`net` was saved with another memory layout" in other
    assert "memory layout" not in capfd.readouterr().err


def test_a_value_that_somebody_changed_in_the_script_stays_and_is_said(tmp_path, capfd):
    """
    The run raised dropout from 0.1 to 0.5; the script now makes 0.2: that was meant.
    """
    for p, raised in ((0.1, 0.5), (0.2, None)):
        one = nn.Sequential(nn.Dropout(p))
        shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
        if raised:
            one[0].p = raised
            shim.checkpoint()
        shim.detach()

    said = capfd.readouterr().err
    assert 0.2 == one[0].p
    assert "`net`: 0.p is 0.2 in the script now and was 0.1 before, 0.5 in the run" in said


# --- groups and parts that come late ------------------------------------------------------------


def head_only(parameters):
    return torch.optim.AdamW(list(parameters)[-2:], lr=0.01)


def thaw(order):
    def change(epoch, model, optimizer, shim):
        if epoch == 1 and len(optimizer.param_groups) == 1:
            optimizer.add_param_group({"params": order(list(model[0].parameters())), "lr": 0.001})

    return change


@pytest.mark.parametrize("cut", [2, 3, 4, 8])
@pytest.mark.parametrize("order", [list, lambda params: params[::-1], lambda params: params[:1]])
def test_a_group_that_was_added_in_mid_run_is_there_after_a_pause(tmp_path, order, cut):
    """
    Layers thawed with add_param_group() at epoch 1, in whatever order, wherever the pause is.
    """
    assert same(tmp_path, cut, thaw(order), make=head_only)


def test_parameters_that_stand_in_another_order_now_get_their_own_state(tmp_path):
    """
    State goes by the name of the parameter, not by its number.
    """
    one = nn.Linear(3, 3)
    for params in ([one.weight, one.bias], [one.bias, one.weight]):
        optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9)
        shim = trainer_shim.attach(checkpoints=tmp_path, net=one, opt=optimizer)
        if params[0] is one.weight:
            one(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            shim.checkpoint()
        shim.detach()

    assert one.bias.shape == optimizer.state[one.bias]["momentum_buffer"].shape


def test_a_group_that_the_checkpoint_does_not_know_is_refused_by_name(tmp_path):
    """
    The hint says where to add it instead.
    """
    one = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    shim = trainer_shim.attach(checkpoints=tmp_path, net=one, opt=torch.optim.SGD(one[0].parameters(), lr=1))
    shim.checkpoint()
    shim.detach()
    with pytest.raises(trainer_shim.CannotRestore, match=r"`net.1.weight`, `net.1.bias`") as caught:
        trainer_shim.attach(checkpoints=tmp_path, net=one, opt=torch.optim.SGD(one.parameters(), lr=1))

    assert "add_param_group" in caught.value.hint


def replace(since):
    def change(epoch, model, optimizer, shim):
        if epoch >= since and not hasattr(shim, "replaced"):
            shim.replaced = True
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
            shim.add_parts(opt=optimizer)
            return optimizer
        return None

    return change


@pytest.mark.parametrize("cut", [2, 3, 4, 8])
@pytest.mark.parametrize("since", [1, 2])
def test_another_optimizer_in_mid_run_goes_on_exactly(tmp_path, since, cut):
    """
    add_parts() puts it in the place of the first one, and gives it its state after a pause.
    """
    assert same(tmp_path, cut, replace(since))


@pytest.mark.parametrize("cut", [3, 5, 7, 8])
def test_a_part_that_came_in_mid_run_is_restored_where_it_is_handed_over(tmp_path, cut):
    """
    attach() does not miss it; the call that brings it restores it.
    """

    def change(epoch, model, optimizer, shim):
        # What stands above the loop is done again when its epoch is taken up: once an epoch only.
        if shim.extra.get("seen", 0) < epoch or not hasattr(shim, "copy"):
            is_new = shim.extra.get("seen", 0) < epoch
            shim.extra["seen"] = epoch
            if epoch >= 1 and not hasattr(shim, "copy"):
                shim.copy = torch.optim.swa_utils.AveragedModel(model)
                shim.add_parts(ema=shim.copy)
            if hasattr(shim, "copy") and is_new:
                shim.copy.update_parameters(model)
                with torch.no_grad():
                    model[0].weight.lerp_(shim.copy.module[0].weight, 0.5)

    assert same(tmp_path, cut, change)


def test_a_part_that_is_not_handed_over_again_ends_the_run_at_its_first_boundary(tmp_path):
    """
    It would go on without it otherwise; the words name it and the line to write.
    """
    one = nn.Linear(2, 2)
    shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
    shim.boundary()
    shim.add_parts(head=nn.Linear(2, 1))
    shim.checkpoint()
    shim.detach()
    shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
    with pytest.raises(
        trainer_shim.CannotRestore, match="`head`, a Linear, was handed over at step 1"
    ) as caught:
        shim.boundary()
    shim.detach()

    assert "shim.add_parts(head=...)" in caught.value.hint


def test_a_script_can_ask_where_it_will_go_on(tmp_path):
    """
    So that it builds what belongs to that epoch before attach(); a new run is nowhere.
    """
    new = trainer_shim.saved_position(tmp_path)
    shim = trainer_shim.attach(checkpoints=tmp_path, net=nn.Linear(2, 2))
    for _ in shim.epochs(2):
        shim.boundary()
        if shim.epoch == 1:
            shim.checkpoint()
    shim.detach()

    assert new is None
    assert trainer_shim.Position(step=2, epoch=1) == trainer_shim.saved_position(tmp_path)


# --- options changed by hand ---------------------------------------------------------------------


def again(folder, capfd, *makes):
    """
    Attach what each of `makes` makes in turn, with a checkpoint each; what the last one was told.
    """
    for make in makes:
        capfd.readouterr()
        shim = trainer_shim.attach(checkpoints=folder, **make())
        shim.checkpoint()
        shim.detach()
    return capfd.readouterr().err


def made(lr=0.1, scheduler=None, **options):
    def make():
        one = nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(one.parameters(), lr=lr, **options)
        more = {} if scheduler is None else {"sched": scheduler(optimizer)}
        return {"net": one, "opt": optimizer, **more}

    return make


LR = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (made(0.1), made(0.2), "`opt` was made with lr 0.2 now and 0.1 before"),
        (made(), made(weight_decay=0.5), "weight_decay 0.5 now and 0.01 before"),
        (made(), made(betas=(0.8, 0.9)), "betas (0.8, 0.9) now and (0.9, 0.999) before"),
        (
            made(scheduler=lambda o: LR.StepLR(o, 2)),
            made(scheduler=lambda o: LR.StepLR(o, 5)),
            "it on purpose set it after attach(): sched.step_size = ...",
        ),
        (
            made(scheduler=lambda o: LR.CosineAnnealingLR(o, 9)),
            made(scheduler=lambda o: LR.CosineAnnealingLR(o, 12)),
            "T_max 12 now and 9 before",
        ),
    ],
)
def test_another_option_at_the_restart_is_said(tmp_path, capfd, before, now, said):
    """
    The checkpoint's value goes on, and the words show how to change it on purpose.
    """
    assert said in again(tmp_path, capfd, before, now)


@pytest.mark.parametrize(
    "make",
    [
        made(),
        made(scheduler=lambda o: LR.LambdaLR(o, lambda step: 0.1 * step)),
        made(scheduler=lambda o: LR.LinearLR(o, 0.1)),
        made(scheduler=lambda o: LR.OneCycleLR(o, 1.0, 9)),
        made(scheduler=LR.ReduceLROnPlateau),
    ],
)
def test_the_same_options_are_not_mentioned(tmp_path, capfd, make):
    """
    Schedulers set the learning rate when they are made: that is no change of the script.
    """
    assert "was made with" not in again(tmp_path, capfd, make, make, make)


# --- modules of other kinds ------------------------------------------------------------------------


class Rude(nn.Module):
    """One whose attributes raise when they are read, as those of a script module do."""

    @property
    def training(self):
        raise RuntimeError("not now")

    @training.setter
    def training(self, value):
        pass


class Cached(nn.Module):
    """A length beside a cache that is too much to keep: one without the other would be worse than neither."""

    def __init__(self):
        super().__init__()
        self.length, self.cache = 0, None

    def fill(self):
        self.length, self.cache = 600, torch.ones(600, 600)


def tied():
    one = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    one[1].weight = one[0].weight
    return one


@pytest.mark.parametrize(
    "make",
    [
        tied,
        nn.Identity,
        Rude,
        lambda: torch.compile(nn.Linear(2, 2), backend="eager"),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        lambda: nn.DataParallel(nn.Linear(2, 2)),
        lambda: nn.LSTM(2, 2, dropout=0.1, num_layers=2),
    ],
)
def test_modules_of_all_kinds_are_attached_saved_and_restored(tmp_path, capfd, make):
    """
    Whatever raises when it is looked at is left out; a module that nobody changed says nothing.
    """
    said = again(tmp_path, capfd, *[lambda: {"net": make()}] * 2)

    told = [line for line in said.splitlines() if "going on from step" not in line]

    assert 1 == len(told), said
    assert "attached again, and nothing was trained in between" in told[0]


def test_a_lazy_module_gets_its_state_and_its_flags(tmp_path):
    """
    Its parameters have no shape before load_state_dict() gives them one.
    """
    for is_first in (True, False):
        one = nn.Sequential(nn.LazyLinear(3), nn.Dropout(0.1))
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9)
        if is_first:
            one(torch.ones(2, 2))
        shim = trainer_shim.attach(checkpoints=tmp_path, opt=optimizer, net=one)
        if is_first:
            one(torch.ones(2, 2)).sum().backward()
            optimizer.step()
            one[1].p = 0.5
            shim.checkpoint()
        shim.detach()

    assert 0.5 == one[1].p
    assert one[0].weight.shape == optimizer.state[one[0].weight]["momentum_buffer"].shape


def test_a_flag_of_a_compiled_module_comes_back(tmp_path):
    """
    What is set on the module inside it is found there.
    """
    for is_first in (True, False):
        one = torch.compile(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), backend="eager")
        shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
        if is_first:
            one._orig_mod[1].p = 0.5
            one._orig_mod[0].bias.requires_grad_(False)
            shim.checkpoint()
        shim.detach()

    assert (0.5, False) == (one._orig_mod[1].p, one._orig_mod[0].bias.requires_grad)


def test_a_length_is_not_brought_back_without_its_cache(tmp_path, capfd):
    """
    A module that fills a large cache and remembers how far begins with both as the script makes them.
    """
    for is_first in (True, False):
        one = Cached()
        shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
        if is_first:
            one.fill()
            shim.checkpoint()
        shim.detach()

    assert (0, None) == (one.length, one.cache)
    assert "cache, length: changed by the run together with what cannot be kept" in capfd.readouterr().err


def test_a_module_that_is_gone_is_said(tmp_path, capfd):
    """
    It held nothing that load_state_dict() would miss.
    """
    one = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
    one[1].p = 0.7
    shim.checkpoint()
    shim.detach()
    trainer_shim.attach(checkpoints=tmp_path, net=nn.Sequential(nn.Linear(2, 2))).detach()

    assert "`net`: 1 is not there now" in capfd.readouterr().err


# --- what a module registers in its first forward --------------------------------------------------


class Registering(nn.Module):
    """A model whose statistics have a buffer since it saw data; `how` it comes to have it."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)
        if how == "from None":
            self.inner.register_buffer("mean", None)

    def forward(self, rows):
        rows = self.inner(rows)
        now = rows.detach().mean(0)
        if self.how == "from None" and self.inner.mean is None:
            self.inner.mean = now
        elif self.how == "at every call":
            before = getattr(self.inner, "mean", now)
            self.inner.register_buffer("mean", before.lerp(now, 0.1))
        elif not hasattr(self.inner, "mean"):
            self.inner.register_buffer("mean", now.double())
        else:
            self.inner.mean.lerp_(now.to(self.inner.mean.dtype), 0.1)
        return self.head((rows - self.inner.mean).to(rows.dtype))


@pytest.mark.parametrize("cut", [1, 4, 8])
@pytest.mark.parametrize("how", ["once", "from None", "at every call"])
def test_a_buffer_that_comes_with_the_first_batch_is_there_after_a_pause(tmp_path, how, cut):
    """
    The fresh module has no such buffer when its state is given back.
    """
    assert same(tmp_path, cut, model=lambda: Registering(how))


def test_a_buffer_that_the_script_makes_itself_by_now_is_its_own(tmp_path):
    """
    Where a later version of the script makes it before attach(), there is nothing to make.
    """
    first, later = nn.Linear(2, 2), nn.Linear(2, 2)
    shim = trainer_shim.attach(checkpoints=tmp_path, net=first)
    first.register_buffer("mean", torch.ones(3))
    shim.boundary()
    shim.checkpoint()
    shim.detach()
    later.register_buffer("mean", torch.zeros(3))
    mine = later.mean

    trainer_shim.attach(checkpoints=tmp_path, net=later).detach()

    assert later.mean is mine
    assert later.mean.tolist() == [1, 1, 1]


def test_a_parameter_that_comes_with_the_first_batch_is_told_at_the_first_boundary(tmp_path, capfd):
    """
    No optimizer of a fresh start would have it: said while the script can still be changed, and once.
    """
    one = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    shim = trainer_shim.attach(checkpoints=tmp_path, net=one)
    one[1].register_parameter("gain", nn.Parameter(torch.ones(2)))
    for _ in range(3):
        shim.boundary()
    shim.checkpoint()
    shim.detach()

    said = [line for line in capfd.readouterr().err.splitlines() if "1.gain" in line]

    assert 1 == len(said)
    assert "saved_position()" in said[0]
    fresh = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(trainer_shim.CannotRestore, match="gain"):
        trainer_shim.attach(checkpoints=tmp_path, net=fresh)
