"""What is done at a boundary stays true whatever interrupts it, by a real session on a real folder."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import chdir

import pytest
import torch

import trainer_shim
from tests.fakes.device import FakeDevice
from tests.fakes.session_parts import gives_back, listens
from trainer_shim import protocol as wire
from trainer_shim.checkpoint.reader import load
from trainer_shim.gate import Gate


class Part:
    """A state of which every number is the step."""

    def __init__(self) -> None:
        self.tensor = torch.zeros(1000)

    def state_dict(self):
        return {"tensor": self.tensor}

    def load_state_dict(self, state):
        self.tensor = state["tensor"]


class Daemon:
    """Does what comes next in a list each time that the shim holds."""

    def __init__(self, *turns) -> None:
        self.told = []
        self._turns = list(turns)

    def send(self, message):
        self.told.append(message)
        if isinstance(message, wire.Yielded | wire.CannotYield) and self._turns:
            self._turns.pop(0)()

    def close(self, *, wait_s):
        pass

    def words(self, kind):
        return [message for message in self.told if isinstance(message, kind)]


@pytest.fixture
def part():
    return Part()


@pytest.fixture
def shim(tmp_path, part):
    made = trainer_shim.attach(checkpoints=tmp_path, part=part)
    gives_back(made, FakeDevice())
    yield made
    made.detach()


def train(shim, part, num_steps=1):
    for _ in range(num_steps):
        part.tensor += 1
        shim.boundary()


def pause(depth, request="p"):
    return wire.Pause(request=request, depth=depth)


RESUME = wire.Resume(request="r")


def interrupted():
    raise KeyboardInterrupt


class Interrupting(list):
    """Notices that are looked at when Ctrl-C comes."""

    __bool__ = staticmethod(interrupted)


def test_a_pause_after_an_interrupt_that_was_caught_saves_what_was_trained_since(shim, part):
    """
    A notebook goes on after Ctrl-C; its next pause must not tell of the checkpoint of the one before.
    """
    listens(shim, Daemon(interrupted))
    shim._gate.put(pause("hold"))
    with pytest.raises(KeyboardInterrupt):
        train(shim, part)
    train(shim, part, 10)
    daemon = listens(shim, Daemon())
    shim._gate.put(pause("exit"))
    with pytest.raises(SystemExit):
        train(shim, part)
    saved = daemon.words(wire.Yielded)[0].checkpoint

    assert 12 == saved.step == load(shim._store._root / "step-000000012").state["parts"]["part"]["tensor"][0]


def test_an_interrupt_behind_a_save_of_the_scripts_own_is_forgotten_too(shim, part):
    """
    The same, where the script itself asked for the checkpoint.
    """
    train(shim, part)
    shim._store.notices = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        shim.checkpoint()
    shim._store.notices = []
    train(shim, part, 3)

    assert 4 == load(shim.checkpoint()).step


def test_a_part_that_cannot_give_its_state_is_said_and_training_goes_on(shim, part):
    """
    Some make a copy on a device that is too full for it, which is just when a pause is asked for.
    """

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    part.state_dict = full
    daemon = listens(shim, Daemon())
    for asked in (pause("hold"), pause("exit"), wire.Checkpoint(request="c")):
        shim._gate.put(asked)
        train(shim, part)

    assert 3 == shim.step == len(daemon.words(wire.CannotYield))
    assert all("`part`" in said.why and "out of memory" in said.why for said in daemon.told[1::2])


@pytest.mark.parametrize("depth", ["hold", "offload"])
def test_a_checkpoint_that_somebody_removed_is_no_reason_to_end(shim, part, depth):
    """
    Days into a pause its folder may be gone: a held loop writes it again, and one whose memory was given back
    stays, because the process is all that is left of the run.
    """

    def deeper():
        shutil.rmtree(shim._store._root / "step-000000001")
        shim._gate.put(pause("exit", "deeper"))

    daemon = listens(shim, Daemon(deeper, lambda: None, lambda: shim._gate.put(RESUME)))
    shim._gate.put(pause(depth))
    if depth == "hold":
        with pytest.raises(SystemExit):
            train(shim, part)
        assert 1 == load(shim._store._root / "step-000000001").step
        return
    train(shim, part)
    [said] = daemon.words(wire.CannotYield)

    assert ("deeper", "offload") == (said.request, said.holding_depth)
    assert "is gone" in said.why
    assert 1 == part.tensor[0]


class ResumedWhenAtRest(Gate):
    """Somebody resumes the loop as soon as it has nothing to do but to wait."""

    __slots__ = ()

    def wait(self, want, *, at_most_s=None):
        if self._inbox.empty():
            self.put(RESUME)
        return super().wait(want, at_most_s=at_most_s)


@pytest.mark.parametrize("depth", ["hold", "offload", "exit"])
def test_a_held_loop_whose_checkpoints_are_gone_for_good_comes_to_rest(shim, part, depth):
    """
    Somebody cleaned up, or a disk is gone, and the pause comes again, as from a daemon that was
    restarted: it is answered once, not for ever, and the run goes on afterwards.
    """

    def again():
        shutil.rmtree(shim._store._root)
        shim._store._root.touch()
        shim._gate.put(pause(depth, "again"))

    def answered():
        assert len(daemon.told) < 20

    daemon = listens(shim, Daemon(again, *[answered] * 20))
    # All parts of the session have this gate.
    shim._gate.__class__ = ResumedWhenAtRest
    shim._gate.put(pause("hold"))
    train(shim, part)

    assert 1 == part.tensor[0]
    assert "r" == daemon.words(wire.Resumed)[-1].request
    assert ("again", "hold") == (daemon.words(wire.Yielded)[-1].request, daemon.words(wire.Yielded)[-1].depth)


def test_a_script_that_leaves_by_its_own_handler_still_has_its_model(shim, part):
    """
    Its SIGTERM handler calls sys.exit() while the run holds without its memory, and behind the loop it saves.
    """

    def leaves():
        raise SystemExit(3)

    listens(shim, Daemon(leaves))
    shim._gate.put(pause("offload"))
    with pytest.raises(SystemExit):
        train(shim, part)

    assert [1.0] * 1000 == part.tensor.tolist()
    assert 4000 == part.tensor.untyped_storage().nbytes()


def test_the_number_that_decides_about_keeping_is_saved_among_any_others(tmp_path, part):
    """
    A script that reports the norm of every layer, and the loss behind them, still keeps its best.
    """
    name = "validation/" + "loss" * 20
    shim = trainer_shim.attach(checkpoints=tmp_path, keep=trainer_shim.Keep(best=1, metric=name), part=part)
    shim.report(**{f"norm/{number}": 0.5 for number in range(100)}, **{name: 0.25})
    train(shim, part)
    saved = load(shim.checkpoint())
    shim.detach()

    assert 0.25 == saved.manifest.facts["metrics"][name]


def test_a_working_directory_that_was_removed_is_no_reason_not_to_train(tmp_path, part):
    """
    Its checkpoints lie elsewhere; only the commit that it stood at is not known.
    """
    (tmp_path / "gone").mkdir()
    with chdir(tmp_path / "gone"):
        (tmp_path / "gone").rmdir()
        shim = trainer_shim.attach(checkpoints=tmp_path / "there", part=part)
        os.chdir(tmp_path)
        shim.detach()

    assert (tmp_path / "there").is_dir()


def test_a_child_that_is_ended_at_its_birth_ends(shim):
    """
    `Process.terminate()` right behind `start()`, as pools do: our handler in it must not swallow the signal.
    """
    ends = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            signal.pause()
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert [-signal.SIGTERM] * 20 == ends
    assert not shim._gate.asked or shim._gate._inbox.empty()
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_training_in_a_thread_of_its_own_can_be_paused_by_exit(shim, part):
    """
    The session ends there and the process with it, by the main thread; a signal acts as before the session.
    """
    daemon = listens(shim, Daemon())
    shim._gate.put(pause("exit"))
    ends = []

    def trained():
        try:
            train(shim, part)
        except (SystemExit, ValueError) as error:
            ends.append(error)

    thread = threading.Thread(target=trained)

    def start_and_wait():
        thread.start()
        thread.join()

    with pytest.raises(SystemExit) as end:
        start_and_wait()
    thread.join()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

    assert 75 == end.value.code
    assert [75] == [getattr(end, "code", end) for end in ends]
    assert "exit" == daemon.words(wire.Yielded)[-1].depth
