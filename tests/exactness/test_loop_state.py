"""State that a loop keeps out of its own lines is told, wherever it lies; helpers that only show are not.

Covers: objects changed by their own methods, closures, globals, properties, callable objects, generators that
are suspended, iterators, copies of the weights, scalers, what moves only later; what is kept, shown or made
anew is silent.
Does not cover: variables of the loop itself (tests/unit/trainer_shim/test_loop_names.py), parts and
generators of the loop (test_strays.py).
"""

from __future__ import annotations

import copy
import csv
import functools
import gc
import itertools
import json
import os
import random
import signal
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset

import trainer_shim


class Meter:
    """A running mean as people copy it from script to script."""

    def __init__(self):
        self.total, self.count, self.most = 0.0, 0, 0.0

    def update(self, value, count=1):
        self.total += value * count
        self.count += count
        self.most = max(self.most, value)

    @property
    def mean(self):
        return self.total / max(1, self.count)


class Stopper:
    def __init__(self):
        self.best, self.num_bad = 1e9, 0

    def step(self, value):
        if value < self.best:
            self.best, self.num_bad = value, 0
        else:
            self.num_bad += 1
        return self.num_bad > 3


class Normalizer:
    def __init__(self):
        self.mean, self.count = 0.0, 0

    def __call__(self, x):
        self.count += 1
        self.mean += (x.mean().item() - self.mean) / self.count
        return x - self.mean


class Sums(dict):
    """By name, printed and cleared."""

    def add(self, **values):
        for key, value in values.items():
            total, count = self.get(key, (0.0, 0))
            self[key] = (total + float(value), count + 1)

    def flush(self):
        text = " ".join(f"{key}={total / count:.3f}" for key, (total, count) in self.items())
        self.clear()
        return text


class ItemWeights:
    def __init__(self, num_items):
        self.table = np.ones(num_items)

    def learn(self, rows, loss):
        np.put(self.table, rows, 0.5 * self.table[rows] + loss)


class Environment:
    """Has a state of its own, random numbers and all."""

    def __init__(self):
        self.numbers = random.Random(3)

    def state_dict(self):
        return {"numbers": self.numbers.getstate()}

    def load_state_dict(self, state):
        self.numbers.setstate(state["numbers"])


def show_progress(number, text):
    done = "#" * number
    sys.stdout.write(f"{done} {number} {text}")


class Log:
    def __init__(self):
        self.rows, self.count = [], 0

    def add(self, value):
        self.count += 1
        self.rows.append(value)
        if self.count % 2 == 0:
            print(self.rows[-1], self.count)


class Average:
    """An averaged copy by hand."""

    def __init__(self, model):
        self.shadow = {name: one.detach().clone() for name, one in model.named_parameters()}

    @torch.no_grad()
    def update(self, model):
        for name, one in model.named_parameters():
            self.shadow[name].lerp_(one, 0.1)


@dataclass
class Progress:
    step: int = 0


class Script:
    """A small training; `each` is called for each batch and gives what its loss is scaled by."""

    def __init__(self, folder):
        torch.manual_seed(0)
        self.folder = folder
        self.model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        self.opt = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.loader = DataLoader(torch.randn(12, 2), 2)

    def attach(self, **more):
        self.shim = trainer_shim.attach(checkpoints=self.folder, model=self.model, opt=self.opt, **more)
        return self.shim

    def step(self, batch, scale=1.0):
        self.opt.zero_grad()
        loss = self.model(batch).square().mean() * scale
        loss.backward()
        self.opt.step()
        return loss.item()


def a_mean_that_is_shown(script):
    shim, meter = script.attach(), Meter()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            meter.update(script.step(batch))
        print(meter.mean, meter.most)


def a_mean_that_decides(script):
    shim, meter = script.attach(), Meter()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            meter.update(script.step(batch))
            if meter.mean < 1e-9:
                return


def early_stopping(script):
    shim, stopper = script.attach(), Stopper()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            if stopper.step(script.step(batch)):
                return


def early_stopping_handed_over(script):
    stopper = Stopper()
    shim = script.attach(stopper=trainer_shim.Fields(stopper, "best", "num_bad"))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            if stopper.step(script.step(batch)):
                return


def a_callable_object(script):
    shim, normalize = script.attach(), Normalizer()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(normalize(batch))


def a_variable_of_a_closure(script):
    shim, count = script.attach(), 0

    def scaled(batch):
        nonlocal count
        count += 1
        return script.step(batch, 1 / count)

    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            scaled(batch)


def a_partial_of_a_closure(script):
    shim, count = script.attach(), 0

    def scaled(power, batch):
        nonlocal count
        count += 1
        return script.step(batch, power / count)

    run = functools.partial(scaled, 2)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            run(batch)


num_calls = 0


def counted(script, batch):
    global num_calls  # noqa: PLW0603  # As scripts do.
    num_calls += 1
    if num_calls % 3 == 0:
        for group in script.opt.param_groups:
            group["lr"] *= 0.9
    return script.step(batch)


def a_global_variable(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            counted(script, batch)


def a_default_value_that_collects(script):
    def scale(value, seen=[]):  # noqa: B006
        seen.append(value)
        return 1 / len(seen)

    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch, scale(0.5))


def a_deque(script):
    shim, recent = script.attach(), deque([1.0], maxlen=3)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            recent.append(script.step(batch, statistics.median(recent)))


def a_dataclass(script):
    shim, progress = script.attach(), Progress()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            progress.step += 1
            script.step(batch, 1 / progress.step)


class Trainer:
    def __init__(self, script):
        self.script, self.num_done, self.losses, self.stopper = script, 0, [], Stopper()

    def rate(self):
        return 0.01 / (1 + self.num_done)

    def one(self, batch):
        for group in self.script.opt.param_groups:
            group["lr"] = self.rate()
        self.num_done += 1
        self.losses.append(self.script.step(batch))
        return self.losses[-1]

    def fit(self):
        self.shim = self.script.attach()
        for _ in self.shim.epochs(2):
            self.epoch()

    def epoch(self):
        total = 0.0
        for batch in self.shim.batches(self.script.loader):
            total += self.one(batch)
        print(total)


def a_trainer_class(script):
    Trainer(script).fit()


def a_log_of_ones_own(script):
    shim, log = script.attach(), Log()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            log.add(script.step(batch))


def decaying():
    scale = 1.0
    while True:
        scale *= 0.9
        yield scale


def a_suspended_generator(script):
    shim, scales = script.attach(), decaying()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch, next(scales))


def a_counter_of_itertools(script):
    shim, numbers = script.attach(), itertools.count(1)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch, 1 / next(numbers))


def a_generator_over_the_batches(script):
    """The documented form of fetching ahead: each epoch makes it anew."""
    shim = script.attach()

    def ahead(batches):
        yield from batches

    for _ in shim.epochs(2):
        batches = ahead(shim.batches(script.loader))
        for batch in batches:
            script.step(batch)


def a_copy_of_the_weights(script):
    shim = script.attach()
    average = {name: one.clone() for name, one in script.model.state_dict().items()}
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            for name, one in script.model.state_dict().items():
                average[name].mul_(0.9).add_(one, alpha=0.1)


def a_class_with_a_copy_of_the_weights(script):
    shim, average = script.attach(), Average(script.model)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            average.update(script.model)


def a_copy_that_is_made_each_time(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            before = {name: one.clone() for name, one in script.model.state_dict().items()}
            script.step(batch)
            print(sum((before[name] - one).norm() for name, one in script.model.state_dict().items()))


def weights_under_another_name(script):
    shim, weights = script.attach(), list(script.model.parameters())
    state = script.model.state_dict()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            print(len(weights), len(state))


def a_scaler(script, **parts):
    scaler = torch.amp.GradScaler("cpu")
    shim = script.attach(**dict.fromkeys(parts, scaler))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.opt.zero_grad()
            scaler.scale(script.model(batch).square().mean()).backward()
            scaler.step(script.opt)
            scaler.update()


def a_scaler_handed_over(script):
    a_scaler(script, scaler=True)


def an_average_inside_an_object(script):
    class Holder:
        def __init__(self):
            self.average = torch.optim.swa_utils.AveragedModel(script.model)

    shim, holder = script.attach(), Holder()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            holder.average.update_parameters(script.model)


def a_generator_that_is_used_later(script):
    shim, numbers = script.attach(), random.Random(3)
    for epoch in shim.epochs(3):
        for batch in shim.batches(script.loader):
            script.step(batch + (numbers.random() if epoch else 0.0))
            if shim.step % 4 == 2:
                shim.checkpoint()


def the_best_weights(script):
    shim, best_weights = script.attach(), None
    state = shim.state(best=1e9)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            loss = script.step(batch)
            if loss < state.best:
                state.best = loss
                best_weights = copy.deepcopy(script.model.state_dict())
    script.model.load_state_dict(best_weights)


def the_last_state(script):
    """Made anew in each turn, whatever becomes of it."""
    shim, last = script.attach(), None
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            last = copy.deepcopy(script.model.state_dict())
    script.model.load_state_dict(last)


def weights_of_items(script):
    shim, weights = script.attach(), ItemWeights(12)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            rows = [shim.step % 12]
            weights.learn(rows, script.step(batch, weights.table[rows[0]]))


def sums_that_are_printed(script):
    shim, sums, num_turns = script.attach(), Sums(), 0
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            sums.add(loss=script.step(batch))
            num_turns += 1
            if num_turns % 2 == 0:
                print(f"{sums.flush()} {num_turns}")


def a_loss_that_is_printed_behind_the_epoch(script):
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    shim = script.attach()
    for epoch in shim.epochs(2):
        for batch in shim.batches(script.loader):
            loss = script.model(batch).square().mean()
            scaler.scale(loss).backward()
            script.opt.step()
        print(epoch, loss.item())


def a_number_that_is_handed_to_a_progress_bar(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        for index, batch in enumerate(shim.batches(script.loader)):
            loss = script.step(batch)
            if index % 2 == 0:
                show_progress(index, f"{loss:.2f}")


def a_part_with_random_numbers(script):
    environment = Environment()
    shim = script.attach(environment=environment)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch, environment.numbers.random())


def fields_with_random_numbers(script):
    environment = Environment()
    shim = script.attach(environment=trainer_shim.Fields(environment, "numbers"))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch, environment.numbers.random())


def a_buffer_that_is_filled_anew(script):
    shim, room = script.attach(), torch.empty(2, 2)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            room.copy_(batch)
            script.step(room)


def trained(script, rate):
    script.folder = script.folder.parent / str(rate)
    shim = script.attach()
    for _ in shim.epochs(1):
        for batch in shim.batches(script.loader):
            loss = script.step(batch, rate)
    shim.detach()
    return loss


def several_trainings(script):
    """A restart goes through all of them again."""
    best, path = 1e9, script.folder.parent / "best.txt"
    for rate in (0.1, 0.2, 0.3):
        loss = trained(script, rate)
        if loss < best:
            best = loss
            path.write_text(str(rate))


class Part:
    """Weights of one's own, attached."""

    weight = 0.5

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state):
        self.weight = state["weight"]


def a_part_that_is_no_module(script):
    part, worst = Part(), 0.0
    shim = script.attach(part=part)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            loss = script.step(batch)
            if loss > 1e6:
                loss += worst
            worst = max(worst, loss)
            part.weight -= 0.1 * loss


class Numbers(Dataset):
    scale = 1.0

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.full((2,), index * self.scale)


def a_data_set_that_follows_a_counter(script):
    data, count = Numbers(), 0
    script.loader = DataLoader(data, 2)
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            count += 1
            data.scale = 1 / count
            script.step(batch)


def settings_that_are_handed_on(script):
    progress, count = Progress(), 0
    shim = script.attach()
    script.model.register_forward_pre_hook(lambda module, given: None)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            count += 1
            progress.step = count
            torch.utils.checkpoint.checkpoint(
                lambda x, given: x * given.step, batch, progress, use_reentrant=False
            )
            script.step(batch)


def one_epoch(script, shim):
    meter = Meter()
    for batch in shim.batches(script.loader):
        meter.update(script.step(batch))
    return meter.mean


def a_mean_of_an_epoch_that_decides(script):
    """The loop is in another function than what makes use of it."""
    shim = script.attach()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(script.opt)
    shim.add_parts(plateau=plateau)
    for _ in shim.epochs(2):
        plateau.step(one_epoch(script, shim))


def a_mean_of_an_epoch_that_is_printed(script):
    shim = script.attach()
    means = []
    for epoch in shim.epochs(2):
        mean = one_epoch(script, shim)
        means.append(mean)
        print(f"{epoch} {mean:.3f}")
    script.folder.with_suffix(".json").write_text(json.dumps(means))


windows, filters = {}, None


def spectrum(batch):
    global filters  # noqa: PLW0603  # As scripts do.
    if filters is None:
        filters = torch.eye(2)
    if batch.dtype not in windows:
        windows[batch.dtype] = torch.ones(2)
    return (batch * windows[batch.dtype]) @ filters


def what_is_made_once(script):
    """Made again after a restart, and the same."""
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(spectrum(batch))


def the_first_loss_as_a_measure(script):
    shim, first = script.attach(), None
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            loss = script.step(batch)
            if first is None:
                first = loss
            script.step(batch, first)


def a_log_by_the_clock(script):
    shim, log, num_turns, began = script.attach(), Log(), 0, time.time_ns()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            num_turns += 1
            script.step(batch)
            if num_turns % 3 == 0:
                elapsed = max((time.time_ns() - began) / 1e9, 1e-9)
                log.add(num_turns / elapsed)


def balancing(power):
    total = 0.0

    def scale(value):
        nonlocal total
        total += value
        return power / (1 + total)

    return scale


def scaled_step(script, scale, batch):
    return script.step(batch, scale(0.5))


def a_closure_in_a_partial(script):
    shim = script.attach()
    step = functools.partial(scaled_step, script, balancing(2))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            step(batch)


def a_closure_in_a_lambda(script):
    shim, scale = script.attach(), balancing(2)
    step = lambda batch: scaled_step(script, scale, batch)  # noqa: E731
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            step(batch)


class Clip:
    """A callback that goes by what it has seen."""

    def __init__(self):
        self.norms = []

    def before_step(self, script):
        norm = sum(one.grad.norm().item() for one in script.model.parameters() if one.grad is not None)
        self.norms.append(norm)
        torch.nn.utils.clip_grad_norm_(script.model.parameters(), max(1e-3, statistics.median(self.norms)))


class Shown:
    """A callback that prints."""

    def __init__(self):
        self.turns = 0

    def before_step(self, script):
        self.turns += 1
        if self.turns % 4 == 0:
            print(script.folder, self.turns)


def trained_with(script, hooks, call):
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.opt.zero_grad()
            script.model(batch).square().mean().backward()
            for hook in hooks:
                call(hook)
            script.opt.step()


def a_callback_in_a_list(script):
    trained_with(script, [Shown(), Clip()], lambda hook: hook.before_step(script))


def call_all(hooks, name, script):
    for hook in hooks:
        getattr(hook, name)(script)


def a_callback_by_name(script):
    shim, hooks = script.attach(), [Clip()]
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            call_all(hooks, "before_step", script)
            script.step(batch)


def callbacks_that_print(script):
    trained_with(script, [Shown(), Shown()], lambda hook: hook.before_step(script))


class Flat:
    """An average of the weights, made by a hook of the optimizer."""

    def __init__(self, model):
        self.model = model
        self.weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()

    def __call__(self, optimizer, args, words):
        self.weights.lerp_(torch.nn.utils.parameters_to_vector(self.model.parameters()).detach(), 0.1)

    def put_into(self, model):
        torch.nn.utils.vector_to_parameters(self.weights, model.parameters())


def an_average_by_a_hook(script):
    average = Flat(script.model)
    script.opt.register_step_post_hook(average)
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.opt.zero_grad()
            script.model(batch).square().mean().backward()
            script.opt.step()
    average.put_into(script.model)


def schedulers_inside_one(script):
    LR = torch.optim.lr_scheduler  # noqa: N806
    warm, main = LR.LinearLR(script.opt, 0.1), LR.StepLR(script.opt, 2)
    shim = script.attach(scheduler=LR.SequentialLR(script.opt, [warm, main], [3]))
    scheduler = shim._parts["scheduler"]
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            scheduler.step()
    print(warm.last_epoch, main.last_epoch)


def gradients_over_several_boundaries(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            (script.model(batch).square().mean() / 3).backward()
            if shim.step % 3 == 2:
                script.opt.step()
                script.opt.zero_grad()


def gradients_that_are_accumulated(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        for number, batch in enumerate(shim.batches(script.loader, accumulate=3)):
            (script.model(batch).square().mean() / 3).backward()
            if number % 3 == 2:
                script.opt.step()
                script.opt.zero_grad()


def folds_by_hand(script):
    for fold in range(2):
        script.folder = script.folder.parent / str(fold)
        shim = script.attach()
        for _ in shim.epochs(2):
            for batch in shim.batches(script.loader):
                script.step(batch)
        shim.detach()


num_naps = 0


def nap():
    global num_naps  # noqa: PLW0603  # As scripts do.
    num_naps += 1
    if num_naps % 4 == 0:
        gc.collect()
        time.sleep(0.0001)
    if num_naps > 1e6:
        os.kill(os.getpid(), signal.SIGTERM)


def what_is_done_now_and_then(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            nap()


def a_scaler_in_a_trainer(script):
    class Holder:
        def __init__(self):
            self.scaler = torch.amp.GradScaler("cpu")

        def run(self):
            for _ in shim.epochs(2):
                for batch in shim.batches(script.loader):
                    script.opt.zero_grad()
                    self.scaler.scale(script.model(batch).square().mean()).backward()
                    self.scaler.step(script.opt)
                    self.scaler.update()

    shim, holder = script.attach(), Holder()
    holder.run()


class Lookahead:
    """Slow weights behind an optimizer; its state is the optimizer's alone."""

    def __init__(self, optimizer):
        self.optimizer, self.num_steps = optimizer, 0

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)

    def step(self):
        self.optimizer.step()
        self.num_steps += 1
        if self.num_steps % 2 == 0:
            for group in self.optimizer.param_groups:
                for weight in group["params"]:
                    weight.data.mul_(0.9)


class WholeLookahead(Lookahead):
    def state_dict(self):
        return {"inner": super().state_dict(), "n": self.counts()}

    def counts(self):
        return self.num_steps

    def load_state_dict(self, state):
        super().load_state_dict(state["inner"])
        self.num_steps = state["n"]


class Restarting(torch.optim.SGD):
    """Torch saves its groups and its state, not what the script adds."""

    def __init__(self, weights, lr):
        super().__init__(weights, lr)
        self.num_calls = 0

    def step(self, closure=None):
        self.num_calls += 1
        for group in self.param_groups:
            group["lr"] = 0.01 / self.num_calls
        return super().step(closure)


def a_part_that_leaves_something_out(script, kind=Lookahead):
    wrapped = kind(script.opt)
    script.shim = shim = trainer_shim.attach(checkpoints=script.folder, model=script.model, wrapped=wrapped)
    script.opt = wrapped
    wrapped.zero_grad = wrapped.optimizer.zero_grad
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            wrapped.zero_grad()
            script.model(batch).square().mean().backward()
            wrapped.step()


def a_part_that_has_all(script):
    a_part_that_leaves_something_out(script, WholeLookahead)


def an_optimizer_with_a_counter(script):
    opt = script.opt = Restarting(script.model.parameters(), lr=0.01)
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            opt.zero_grad()
            script.model(batch).square().mean().backward()
            opt.step()


class SlowWeights(Lookahead):
    """Goes back to weights of its own at each third step."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.weights = [[one.detach().clone() for one in optimizer.param_groups[0]["params"]]]

    def state_dict(self):
        return {"inner": super().state_dict(), "num_steps": self.num_steps}

    @torch.no_grad()
    def step(self):
        super().step()
        for group, slow in zip(self.param_groups(), self.weights, strict=True):
            if self.num_steps % 3 == 0:
                for weight, kept in zip(group["params"], slow, strict=True):
                    kept.lerp_(weight, 0.5)
                    weight.copy_(kept)

    def param_groups(self):
        return self.optimizer.param_groups


def slow_weights_inside_of_a_part(script):
    a_part_that_leaves_something_out(script, SlowWeights)


def losses_whose_average_is_kept_for_a_curve(script):
    shim, curve = script.attach(), []
    for _ in shim.epochs(2):
        losses = []
        for batch in shim.batches(script.loader):
            losses.append(script.step(batch))  # noqa: PERF401  # As scripts do.
        curve.append((np.average(losses), statistics.median_low(losses)))
    print(curve)


def losses_whose_average_decides(script):
    shim = script.attach()
    for _ in shim.epochs(2):
        losses = []
        for batch in shim.batches(script.loader):
            losses.append(script.step(batch))  # noqa: PERF401  # As scripts do.
        script.opt.param_groups[0]["lr"] = 0.01 * np.average(losses)


class Recurrent(nn.Module):
    """Goes on with the hidden state of the batch before; its last output is only there to be seen."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(2, 3, batch_first=True)
        self.hidden, self.seen = None, ()

    def forward(self, batch):
        out, hidden = self.cell(batch[None], self.hidden)
        self.hidden = tuple(one.detach() for one in hidden)
        self.seen = (out.detach(),)
        return out


def a_hidden_state_inside_of_the_network(script):
    script.model = Recurrent()
    script.opt = torch.optim.SGD(script.model.parameters(), lr=0.01)
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)


class Centered(nn.Module):
    """A loss whose running mean is a new tensor each time."""

    def __init__(self):
        super().__init__()
        self.register_buffer("center", torch.zeros(1))

    def forward(self, out):
        self.center = 0.9 * self.center + 0.1 * out.detach().mean()
        return (out - self.center).square().mean()


def a_buffer_that_is_assigned_anew(script):
    shim, criterion = script.attach(), Centered()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.opt.zero_grad()
            criterion(script.model(batch)).backward()
            script.opt.step()


def a_tensor_that_is_trained_beside_the_model(script, *, is_kept=False):
    scale = torch.ones(1, requires_grad=True)
    script.opt = torch.optim.SGD([{"params": script.model.parameters()}, {"params": [scale]}], lr=0.01)
    shim = script.attach()
    if is_kept:
        shim.state(scale=scale)
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.opt.zero_grad()
            (script.model(batch).square().mean() * scale).sum().backward()
            script.opt.step()


def a_trained_tensor_that_is_kept(script):
    a_tensor_that_is_trained_beside_the_model(script, is_kept=True)


def pictures_now_and_then(script):
    shim, pictures, num_done = script.attach(), [], 0
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            if num_done % 3 == 0:
                script.model.eval()
                with torch.no_grad():
                    pictures.append(script.model(torch.ones(2)).numpy())
                script.model.train()
            num_done += 1


def evaluation_once_for_good(script):
    shim, num_done = script.attach(), 0
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            if num_done == 3:
                script.model.eval()
            num_done += 1


class Episodes:
    """An environment that sums up rewards for the log."""

    def __init__(self):
        self.rewards, self.num_turns = [], 0

    def turn(self, is_last):
        self.rewards.append(1.0)
        info = {"sum": sum(self.rewards)} if is_last else {}
        return 0.5, info


def a_sum_in_an_entry_that_is_looked_for(script):
    shim, episodes, sums = script.attach(), Episodes(), []
    for _ in shim.epochs(2):
        for i, batch in shim.batches(enumerate(script.loader)):
            scale, info = episodes.turn(i % 3 == 2)
            if "sum" in info:
                sums.append(info["sum"])
                script.opt.zero_grad()
            script.step(batch, scale)
        print(sums)


def a_sum_that_decides_about_an_entry(script):
    shim, episodes = script.attach(), Episodes()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            _, info = episodes.turn(sum(episodes.rewards) > 3)
            if "sum" in info:
                script.opt.zero_grad()
            script.step(batch)


def a_mean_in_a_row_of_a_table(script):
    shim, meter = script.attach(), Meter()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            meter.update(script.step(batch))
        row = {"loss": meter.mean}
        with (script.folder.parent / "log.csv").open("a") as file:
            csv.DictWriter(file, fieldnames=row.keys()).writerow(row)


class Margin:
    value = 0.5

    @classmethod
    def adapt(cls, loss):
        cls.value = min(1.0, cls.value * (1 + loss))

    def __call__(self, loss):
        self.adapt(loss)
        return self.value


def a_variable_of_a_class(script):
    shim, margin, scale = script.attach(), Margin(), 1.0
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            scale = margin(script.step(batch, margin.value))
    print(scale)


def a_running_mean_of_a_library(script):
    shim, scaler = script.attach(), StandardScaler()
    scaler.partial_fit(np.eye(2))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            scaler.partial_fit(batch.numpy())
            script.step(torch.tensor(scaler.transform(batch.numpy()), dtype=torch.float32))


def a_running_mean_of_a_library_handed_over(script):
    scaler = StandardScaler().partial_fit(np.eye(2))
    shim = script.attach(scaler=trainer_shim.Fields(scaler, "mean_", "var_", "scale_", "n_samples_seen_"))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            scaler.partial_fit(batch.numpy())
            script.step(torch.tensor(scaler.transform(batch.numpy()), dtype=torch.float32))


def an_object_of_a_library_that_stays_as_it_is(script):
    shim, scaler = script.attach(), StandardScaler()
    scaler.fit(np.eye(2))
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(torch.tensor(scaler.transform(batch.numpy()), dtype=torch.float32))


def a_running_mean_of_a_library_that_is_shown(script):
    shim, scaler = script.attach(), StandardScaler()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)
            scaler.partial_fit(batch.numpy())
        print(scaler.mean_)


class Memory(nn.Module):
    """Goes on from what it had for the same key."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.table, self.seen = {}, []

    def recall(self, key, size):
        return self.table.get(key, torch.zeros(size))

    def forward(self, batch):
        out = self.linear(batch) + self.recall(0, (len(batch), 1))
        for key in range(2):
            self.table[key] = out.detach()
        self.seen.append(out.mean().item())
        return out


def a_memory_inside_of_the_network(script):
    script.model = Memory()
    script.opt = torch.optim.SGD(script.model.parameters(), lr=0.01)
    shim = script.attach()
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            script.step(batch)


def a_list_of_the_network_that_the_loop_goes_on_from(script):
    script.model.history = [1.0]
    shim, model = script.attach(), script.model
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            model.history.append(script.step(batch, model.history[-1]))


def a_copy_of_the_weights_for_each_turn(script):
    shim, model = script.attach(), script.model
    for _ in shim.epochs(2):
        for batch in shim.batches(script.loader):
            before = copy.deepcopy(model.state_dict())
            script.step(batch)
            now = model.state_dict()
            model.load_state_dict({name: before[name].lerp(now[name], 0.5) for name in before})


TOLD = {
    a_variable_of_a_class: '`trainer_shim.Fields(Margin, "value")`',
    a_running_mean_of_a_library: "`scaler`, a StandardScaler, goes on",
    a_memory_inside_of_the_network: '`trainer_shim.Fields(model, "table")`',
    a_list_of_the_network_that_the_loop_goes_on_from: "`model.history` (line",
    losses_whose_average_decides: "`losses` (line",
    a_hidden_state_inside_of_the_network: "`model.hidden` goes on from batch to batch",
    slow_weights_inside_of_a_part: "`wrapped.weights[0]` holds tensors of the shapes of the weights",
    a_buffer_that_is_assigned_anew: "`criterion` is a module that changes",
    a_tensor_that_is_trained_beside_the_model: "`opt` trains `scale`, which no part has",
    evaluation_once_for_good: "`num_done` (line",
    a_part_that_leaves_something_out: "`wrapped.num_steps` (line",
    an_optimizer_with_a_counter: "`opt.num_calls` (line",
    a_sum_that_decides_about_an_entry: "`episodes.rewards` (line",
    weights_of_items: "`weights.table` (line",
    a_scaler_in_a_trainer: "`self.scaler` scales the loss",
    the_best_weights: "`best_weights` (line",
    a_mean_that_decides: "`meter.total`, `meter.count`",
    early_stopping: '`trainer_shim.Fields(stopper, "best", "num_bad")`',
    a_callable_object: "`normalize.count`, `normalize.mean`",
    a_variable_of_a_closure: "`count` (line",
    a_partial_of_a_closure: "`count` (line",
    a_global_variable: "`num_calls` (line",
    a_default_value_that_collects: "`seen` (line",
    a_part_that_is_no_module: "`worst` (line",
    a_data_set_that_follows_a_counter: "`count` (line",
    settings_that_are_handed_on: "`count` (line",
    a_mean_of_an_epoch_that_decides: "`meter.total`, `meter.count` (line",
    the_first_loss_as_a_measure: "`first` (line",
    a_closure_in_a_partial: "`total` (line",
    a_closure_in_a_lambda: "`total` (line",
    a_callback_in_a_list: "norms` (line",
    a_callback_by_name: "norms` (line",
    an_average_by_a_hook: "`average.weights` (line",
    gradients_over_several_boundaries: "gradients are added up over several boundaries",
    a_deque: "`recent` (line",
    a_dataclass: "`progress.step` (line",
    a_trainer_class: '`trainer_shim.Fields(self, "num_done")`',
    a_suspended_generator: "`scales` is a generator that goes on",
    a_counter_of_itertools: "`numbers` is an iterator that goes on",
    a_copy_of_the_weights: "`shim.state(average=average)` behind attach(): it stays the object",
    a_class_with_a_copy_of_the_weights: "`average.shadow` holds tensors of the shapes of the weights",
    a_scaler: "`scaler` scales the loss of the run",
    an_average_inside_an_object: "`holder.average` is a module that changes",
    a_generator_that_is_used_later: "`numbers` draws random numbers",
}
FINE = [
    a_running_mean_of_a_library_handed_over,
    an_object_of_a_library_that_stays_as_it_is,
    a_running_mean_of_a_library_that_is_shown,
    a_copy_of_the_weights_for_each_turn,
    losses_whose_average_is_kept_for_a_curve,
    a_trained_tensor_that_is_kept,
    pictures_now_and_then,
    a_part_that_has_all,
    a_sum_in_an_entry_that_is_looked_for,
    a_mean_in_a_row_of_a_table,
    a_mean_that_is_shown,
    early_stopping_handed_over,
    a_log_of_ones_own,
    a_generator_over_the_batches,
    a_copy_that_is_made_each_time,
    weights_under_another_name,
    the_last_state,
    sums_that_are_printed,
    several_trainings,
    callbacks_that_print,
    schedulers_inside_one,
    gradients_that_are_accumulated,
    folds_by_hand,
    what_is_made_once,
    a_log_by_the_clock,
    what_is_done_now_and_then,
    a_mean_of_an_epoch_that_is_printed,
    a_loss_that_is_printed_behind_the_epoch,
    a_number_that_is_handed_to_a_progress_bar,
    a_part_with_random_numbers,
    fields_with_random_numbers,
    a_buffer_that_is_filled_anew,
    a_scaler_handed_over,
]


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path / "checkpoints")
    yield made
    made.shim.detach()


@pytest.mark.parametrize("loop", TOLD, ids=lambda one: one.__name__)
def test_what_decides_and_is_in_no_checkpoint_is_told_by_name(script, capsys, loop):
    """
    Wherever it lies, with the line to write.
    """
    loop(script)

    told = capsys.readouterr().err

    assert TOLD[loop] in told
    assert 1 == told.count("trainer_shim: "), told


@pytest.mark.parametrize("loop", FINE, ids=lambda one: one.__name__)
def test_what_is_shown_kept_or_made_anew_is_not_told(script, capsys, loop):
    """
    A false alarm costs more than a remark is worth.
    """
    loop(script)

    assert "" == capsys.readouterr().err
