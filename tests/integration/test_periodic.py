"""Checkpoints in the background, by a real session on a real folder."""

from __future__ import annotations

import errno
import gc
import os
import signal
import threading
import time

import pytest
import torch

import trainer_shim
from tests.fakes.disk import FailingDisk
from tests.fakes.session_parts import listens
from tests.harness import until
from trainer_shim import protocol
from trainer_shim.checkpoint.commit import LocalDisk
from trainer_shim.checkpoint.reader import load, visible
from trainer_shim.periodic import Periodic

GUARD_S = 60


class Part:
    """A state of which every number is the step."""

    def __init__(self) -> None:
        self.tensor = torch.zeros(300_000)
        self.on_save = lambda: None

    def state_dict(self):
        self.on_save()
        return {"tensor": self.tensor}

    def load_state_dict(self, state):
        self.tensor = state["tensor"]


class Line:
    """What the daemon is told."""

    def __init__(self) -> None:
        self.told = []

    def send(self, message):
        self.told.append(message)

    def close(self, *, wait_s):
        pass


class SlowDisk(LocalDisk):
    """Does not answer until it is let, not even how full it is."""

    def __init__(self) -> None:
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def sync(self, path):
        self.began.set()
        assert self.may_go_on.wait(GUARD_S)
        super().sync(path)

    def free(self, path):
        self.began.set()
        assert self.may_go_on.wait(GUARD_S)
        return super().free(path)


@pytest.fixture
def part():
    return Part()


@pytest.fixture
def attach(tmp_path, part):
    made = []

    def make(**kwargs):
        shim = trainer_shim.attach(checkpoints=tmp_path, part=part, keep=100, **kwargs)
        listens(shim, Line())
        made.append(shim)
        return shim

    yield make
    for shim in made:
        if isinstance(shim._store._disk, SlowDisk):
            shim._store._disk.may_go_on.set()
        shim.detach()


def train(shim, part, num_steps=1):
    for _ in range(num_steps):
        part.tensor += 1
        shim.boundary()


def train_until(shim, part, condition):
    """Steps for as long as it takes."""
    end_s = time.monotonic() + GUARD_S
    while not condition():
        assert time.monotonic() < end_s
        train(shim, part)
        time.sleep(0.001)  # A step takes a while.


def saved_steps(root):
    return sorted(name.step for name in visible(root))


def check_all(root):
    """Each checkpoint holds the state of its own step."""
    for name in visible(root):
        tensor = load(root / str(name)).state["parts"]["part"]["tensor"]
        assert torch.equal(tensor, torch.full_like(tensor, name.step))


def test_checkpoints_appear_while_training_goes_on(attach, part, tmp_path):
    """
    A crash costs no more than the steps since the last one, which the daemon knows of.
    """
    shim = attach(every_steps=5)
    line = shim._telling._line
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= 4)
    shim.detach()

    check_all(tmp_path)
    assert saved_steps(tmp_path) == [m.step for m in line.told if isinstance(m, protocol.Checkpointed)]
    assert saved_steps(tmp_path)[0] >= 5


def test_a_checkpoint_is_of_its_moment_however_long_the_disk_takes(attach, part, tmp_path):
    """
    Steps that are made while it is written are not in it.
    """
    shim = attach(every_steps=1)
    shim._store._disk = disk = SlowDisk()
    train_until(shim, part, disk.began.is_set)
    train(shim, part, 20)
    assert [] == saved_steps(tmp_path)
    disk.may_go_on.set()
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= 2)
    shim.checkpoint()

    check_all(tmp_path)


def test_there_is_one_at_a_time_and_no_queue(attach, part, tmp_path):
    """
    A slow disk makes checkpoints rarer, not memory fuller.
    """
    shim = attach(every_steps=1)
    shim._store._disk = disk = SlowDisk()
    train_until(shim, part, disk.began.is_set)
    num_saves = []
    part.on_save = lambda: num_saves.append(shim.step)
    train(shim, part, 50)

    assert [] == num_saves
    disk.may_go_on.set()
    train_until(shim, part, lambda: num_saves)


def test_a_pause_waits_for_the_one_that_is_being_written(attach, part, tmp_path):
    """
    Both are there afterwards, and the newest is the pause's.
    """
    shim = attach(every_steps=1)
    shim._store._disk = disk = SlowDisk()
    train_until(shim, part, disk.began.is_set)
    train(shim, part, 3)
    threading.Timer(0.05, disk.may_go_on.set).start()
    path = shim.checkpoint()

    assert 2 == len(saved_steps(tmp_path))
    assert shim.step == saved_steps(tmp_path)[-1] == load(path).step
    check_all(tmp_path)


def test_a_pause_of_the_same_boundary_uses_the_one_that_is_being_written(attach, part, tmp_path):
    """
    Nothing is written twice.
    """
    shim = attach(every_steps=2)
    train_until(shim, part, lambda: saved_steps(tmp_path))  # There is memory from now on.
    part.on_save = lambda: shim._gate.put(protocol.Checkpoint(request="r1"))
    before = saved_steps(tmp_path)
    line = shim._telling._line
    train_until(shim, part, lambda: any(getattr(message, "request", "") == "r1" for message in line.told))
    answer = next(m for m in line.told if isinstance(m, protocol.Checkpointed) and m.request == "r1")
    part.on_save = lambda: None

    assert load(tmp_path / f"step-{answer.step:09d}").digest == answer.digest
    assert all(name.again == 0 for name in visible(tmp_path))
    assert len(saved_steps(tmp_path)) > len(before)
    check_all(tmp_path)


def test_one_that_fails_is_told_and_training_goes_on(attach, part, tmp_path, capsys):
    """
    A full disk does not end a run; the next one works as soon as there is room.
    """
    shim = attach(every_steps=1)
    shim._store._disk = FailingDisk(errno.ENOSPC, None)
    line = shim._telling._line
    train_until(shim, part, lambda: any(isinstance(m, protocol.CannotYield) for m in line.told))
    shim._background._periodic.wait()
    shim._store._disk = LocalDisk()
    train_until(shim, part, lambda: saved_steps(tmp_path))

    refusal = next(m for m in line.told if isinstance(m, protocol.CannotYield))
    assert "" == refusal.request
    assert "the disk is full" in refusal.why
    assert "the older checkpoints are untouched); training goes on" in capsys.readouterr().err


def test_they_come_by_the_clock(attach, part, tmp_path):
    """
    Steps may be slow or fast; what is lost at most is a time.
    """
    shim = attach(every_s=0.05)
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= 3)

    check_all(tmp_path)


def test_the_job_says_how_often_where_the_script_does_not(attach, part, tmp_path, monkeypatch, capsys):
    """
    `run --every` comes with the environment; a script that says it itself wins, and the log tells.
    """
    monkeypatch.setenv("TRAINING_SUPERVISOR_EVERY_S", "1.0")
    shim = attach()
    until(lambda: (shim.boundary(), visible(tmp_path))[1], "a checkpoint by the clock")
    quiet = capsys.readouterr().err
    shim.detach()
    attach(every_steps=5)
    own = capsys.readouterr().err
    monkeypatch.setenv("TRAINING_SUPERVISOR_EVERY_S", "often")
    attach()

    assert "every" not in quiet
    assert 1 == own.count("saves as the script says (every_steps=5), not every 1 s as the job says")
    assert "cannot save every 'often' seconds" in capsys.readouterr().err


def test_memory_is_taken_once(attach, part, tmp_path):
    """
    The tenth one costs the loop a copy, not an allocation.
    """
    shim = attach(every_steps=1)
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= 1)
    memory = shim._background._periodic._stage._memory.obj
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= 4)

    assert memory is shim._background._periodic._stage._memory.obj


def test_a_forked_child_can_end_the_session_without_waiting(attach, part):
    """
    A data-loader worker has no such thread and does not hang on it.
    """
    shim = attach(every_steps=1)
    shim._store._disk = disk = SlowDisk()
    train_until(shim, part, disk.began.is_set)
    child = os.fork()
    if child == 0:
        shim._background._periodic.close()
        os._exit(7)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kwargs", [{"every_s": 0}, {"every_s": -1}, {"every_steps": 0}])
def test_a_senseless_period_is_refused(kwargs):
    """
    A typo is said at the start.
    """
    with pytest.raises(ValueError, match="cannot save every"):
        Periodic(None, **({"every_s": None, "every_steps": None} | kwargs), wake=lambda: None)


def test_they_come_by_the_clock_after_a_pause_of_any_length(attach, part, tmp_path):
    """
    The moment for one passes while the run holds: a night's pause does not end the saving for the week.
    """
    shim = attach(every_s=0.2)

    def resume():
        until(lambda: shim._background._periodic._is_due)
        shim._gate.put(protocol.Resume(request="r"))

    shim._gate.put(protocol.Pause(request="p", depth="hold"))
    person = threading.Thread(target=resume)
    person.start()
    train(shim, part)
    person.join()
    held = saved_steps(tmp_path)
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= len(held) + 2)

    check_all(tmp_path)


def test_a_state_that_grows_at_every_step_is_saved(attach, part, tmp_path):
    """
    A buffer of experience is always larger than the memory that was taken for it a step ago.
    """
    shim = attach(every_steps=1)

    def larger():
        part.tensor = torch.full((part.tensor.numel() + 2000,), float(shim.step))
        return {"tensor": part.tensor}

    part.state_dict = larger
    train_until(shim, part, lambda: len(saved_steps(tmp_path)) >= 2 or shim.step > 5000)

    assert len(saved_steps(tmp_path)) >= 2
    check_all(tmp_path)


def copied_at_each_save(part):
    """Let a part copy its tensor for each save; return what tells whether these copies are still there."""
    kept = []

    def copied():
        tensor = torch.zeros(300_000)
        kept.append(torch.multiprocessing.reductions.StorageWeakRef(tensor.untyped_storage()))
        return {"tensor": tensor}

    part.state_dict = copied
    return kept


def test_tensors_that_were_saved_are_not_kept(attach, part):
    """
    Those of a part that makes a copy for each save would take the memory of the run twice.
    """
    kept = copied_at_each_save(part)
    shim = attach(every_steps=1)
    train_until(
        shim, part, lambda: any(isinstance(m, protocol.Checkpointed) for m in shim._telling._line.told)
    )
    shim._background._periodic.wait()

    assert [True] * len(kept) == [one.expired() for one in kept]


def test_a_save_that_failed_keeps_nothing_of_what_it_was_to_write(attach, part):
    """
    A full disk must not hold the memory of a model that the script has dropped, collector or not.
    """
    kept = copied_at_each_save(part)
    shim = attach(every_steps=1)
    shim._store._disk = FailingDisk(errno.ENOSPC, None)
    gc.disable()
    try:
        train_until(
            shim, part, lambda: any(isinstance(m, protocol.CannotYield) for m in shim._telling._line.told)
        )
        shim._background._periodic.wait()
        part.state_dict = lambda: {"tensor": torch.zeros(1)}
        shim._background.tell_ended()

        assert until(lambda: all(one.expired() for one in kept))
    finally:
        gc.enable()


def test_a_forked_child_passes_boundaries_whatever_the_thread_was_doing(attach, part):
    """
    The thread, and a lock that it held at that moment, stay in the parent: the child would wait for ever.
    """
    shim = attach(every_steps=1)
    held, may_go_on = threading.Event(), threading.Event()

    def hold():
        with shim._background._periodic._changed:
            held.set()
            assert may_go_on.wait(GUARD_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(GUARD_S)
    child = os.fork()
    if child == 0:
        # Not pytest's own alarm, which would go on with the tests here.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        shim.boundary()
        os._exit(7)
    status = os.waitpid(child, 0)[1]
    may_go_on.set()
    thread.join()

    assert 7 == os.waitstatus_to_exitcode(status)


def test_what_was_said_is_not_remembered_for_ever(attach, capsys):
    """
    On a disk that stays full each failure has words of its own, for weeks.
    """
    shim = attach()
    for number in range(3000):
        shim._say(f"cannot save step {number}")
        shim._say(f"cannot save step {number}")

    assert 3000 == len(capsys.readouterr().err.splitlines())
    assert len(shim._say.__self__._said) <= 1000
