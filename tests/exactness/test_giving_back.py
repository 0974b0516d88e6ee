"""A loop that gives its memory back and goes on, or cannot, or must not.

Covers: depth `offload` in the session, on real torch training with CPU tensors
and a device that can be full: deeper and deeper while it waits, a return that
finds no memory, interrupts; what is told of each.
Does not cover: storages one by one (tests/unit/trainer_shim/test_offload.py), the daemon
(tests/integration/test_deeper.py), bits of many pauses (test_pauses.py).
"""

from __future__ import annotations

import signal
from functools import cache

import pytest
import torch

import trainer_shim
from tests.fakes.device import FakeDevice
from tests.fakes.session_parts import gives_back, listens
from tests.trainers.torch_small import Training
from trainer_shim import protocol as wire

NUM_EPOCHS = 2


class Script:
    """Stands where the link is: answers what the shim says by what comes next in a list."""

    def __init__(self, shim, *answers):
        self._gate = shim._gate
        self._answers = list(answers)
        self.said = []

    def send(self, message):
        self.said.append(message)
        done = isinstance(message, wire.Yielded | wire.CannotYield | wire.Stage)
        if done and self._answers and not self._answers[0](message):
            return
        if done and self._answers:
            self._answers.pop(0)
            command = self._answers.pop(0)
            self._gate.put(command() if callable(command) else command)

    def close(self, *, wait_s):
        pass

    @property
    def words(self):
        """What was told, in short; saving is told of each boundary."""
        return [(type(one).__name__, getattr(one, "depth", "")) for one in self.said if not _is_small(one)]


def _is_small(message):
    return isinstance(message, wire.Saving | wire.Checkpointed)


def on(kind, **fields):
    """A condition on what the shim says."""
    return lambda said: isinstance(said, kind) and all(getattr(said, k) == v for k, v in fields.items())


def pause(depth, request="p", *, by_rule=False):
    return wire.Pause(request=request, depth=depth, by_rule=by_rule)


RESUME = wire.Resume(request="r")


class Scene:
    """One run with a script of a daemon."""

    def __init__(self, folder, *, first, answers):
        self.training = Training(0, 1)
        self.shim = trainer_shim.attach(checkpoints=folder, **self.training.parts())
        self.device = FakeDevice()
        gives_back(self.shim, self.device)
        self.daemon = listens(self.shim, Script(self.shim, *answers))
        self.shim._report.has_daemon = True
        self.shim._report.return_retry_s = 0.0
        self._first = first
        #: Steps that were made while no memory was behind the weights.
        self.num_blind = 0
        self.digest = ""

    def run(self):
        """Train to the end; the exit code of a process that ended before, or None."""
        try:
            for _ in self.shim.epochs(NUM_EPOCHS):
                for batch in self.shim.batches(self.training.loader):
                    if self.training.num_batches == 3 and self._first is not None:
                        self.shim._gate.put(self._first)
                        self._first = None
                    self.num_blind += self.is_away
                    self.training.step(batch)
        except SystemExit as end:
            return end.code
        finally:
            self.shim.detach()
        # It draws random numbers, so it is taken once.
        self.digest = self.training.digest()
        return None

    @property
    def is_away(self):
        return 0 == self.training.model[0].weight.untyped_storage().nbytes()


@cache
def never_paused():
    training = Training(0, 1)
    for _ in range(NUM_EPOCHS):
        for batch in training.loader:
            training.step(batch)
    return training.digest()


def test_it_goes_deeper_and_deeper_without_training_in_between(tmp_path):
    """
    hold, offload, exit: told each time, with one checkpoint for all three.
    """
    scene = Scene(
        tmp_path,
        first=pause("hold"),
        answers=[
            on(wire.Yielded, depth="hold"),
            pause("offload", "p2"),
            on(wire.Yielded, depth="offload"),
            pause("exit", "p3"),
        ],
    )
    code = scene.run()
    said = scene.daemon.said
    yielded = [one for one in said if isinstance(one, wire.Yielded)]

    assert 75 == code
    assert ["hold", "offload", "exit"] == [one.depth for one in yielded]
    assert ["p", "p2", "p3"] == [one.request for one in yielded]
    assert 1 == len({(one.checkpoint.digest, one.checkpoint.step) for one in yielded})
    assert 1 == sum(isinstance(one, wire.Saving) for one in said)
    assert [False, True, False] == [one.bytes_freed > 0 for one in yielded]
    assert 4 == scene.training.num_batches
    assert not scene.is_away


@pytest.mark.parametrize(
    "answers",
    [
        [on(wire.Yielded, depth="hold"), pause("offload", "p2"), on(wire.Yielded, depth="offload"), RESUME],
        # Asked for less than it has given back: it stays as deep as it is.
        [on(wire.Yielded, depth="offload"), pause("hold", "p2"), on(wire.Yielded, request="p2"), RESUME],
    ],
    ids=["deeper", "less-deep"],
)
def test_it_comes_back_with_the_same_bits(tmp_path, answers):
    """
    From any depth, as if nothing had been.
    """
    first = (
        "hold" if answers[0](wire.Yielded(request="p", depth="hold", checkpoint=_CHECKPOINT)) else "offload"
    )
    scene = Scene(tmp_path, first=pause(first), answers=answers)
    code = scene.run()

    assert None is code
    assert never_paused() == scene.digest
    assert ("Resumed", "") == scene.daemon.words[-1]
    assert 0 == scene.num_blind


_CHECKPOINT = wire.Checkpointed(step=1, epoch=0, path="/c", digest="d")


def test_a_loop_that_cannot_go_deeper_holds_as_before(tmp_path):
    """
    2026-11: it said that it could not, and trained on while the daemon thought that it was paused.
    """
    scene = Scene(
        tmp_path,
        first=pause("hold"),
        answers=[on(wire.Yielded), pause("offload", "p2"), on(wire.Yielded, request="p2"), RESUME],
    )
    scene.device.graphs = True
    scene.run()
    told = [one for one in scene.daemon.said if isinstance(one, wire.CannotYield)]

    assert [("p2", "hold")] == [(one.request, one.holding_depth) for one in told]
    assert "captured CUDA graphs" in told[0].why
    assert [("Yielded", "hold"), ("Stage", ""), ("CannotYield", ""), ("Yielded", "hold")] == (
        scene.daemon.words[:4]
    )
    assert never_paused() == scene.digest


def test_a_loop_that_cannot_give_back_trains_on(tmp_path):
    """
    It held for nobody before; the checkpoint stays, and the reason is told.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[])
    scene.device.breaks_at = 2
    scene.run()
    told = [one for one in scene.daemon.said if isinstance(one, wire.CannotYield)]

    assert [None] == [one.holding_depth for one in told]
    assert "the launch timed out" in told[0].why
    assert never_paused() == scene.digest


@pytest.mark.parametrize("room", [0, 1, 7])
def test_without_memory_it_waits_and_then_goes_on(tmp_path, room):
    """
    What is missing is told meanwhile; whichever storage found none, not one step is trained half restored.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[])

    def more_memory():
        scene.device.room = scene.device.free = None
        return wire.Checkpoint(request="c")

    scene.daemon._answers = [on(wire.Yielded), RESUME, on(wire.Stage), more_memory]
    scene.shim._report.return_retry_s = 60.0
    scene.device.room, scene.device.free = room, 1
    code = scene.run()
    stages = [one.what for one in scene.daemon.said if isinstance(one, wire.Stage)]

    assert None is code
    assert ["copying GPU memory to the host", "waiting for GPU memory: needs 796 B, free 1 B"] == stages
    assert never_paused() == scene.digest
    assert ("Resumed", "") == scene.daemon.words[-1]


def test_while_others_have_the_memory_it_waits_as_long_as_it_takes(tmp_path):
    """
    A process started anew would find none either, and its job would have failed instead of waiting.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[])
    ask = wire.Checkpoint(request="c")
    more = [on(wire.Stage), lambda: setattr(scene.device, "free", None) or ask]
    scene.daemon._answers = [on(wire.Yielded), RESUME, *[on(wire.Stage), ask] * 4, *more]
    scene.device.free = 1
    code = scene.run()

    assert (None, never_paused()) == (code, scene.digest)
    assert ("Resumed", "") == scene.daemon.words[-1]


@pytest.mark.parametrize("room", [0, 5])
def test_memory_that_does_not_come_back_ends_the_process_with_its_word(tmp_path, room):
    """
    Exit code and message are those of a pause by exit, so that the daemon starts it from its
    checkpoint, which goes on with the same bits.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[on(wire.Yielded), RESUME])
    scene.device.room = room
    code = scene.run()
    last = scene.daemon.said[-1]
    again = Scene(tmp_path, first=None, answers=[])
    again.run()

    assert 75 == code
    assert ("r", "exit", 4) == (last.request, last.depth, last.checkpoint.step)
    assert "Resumed" not in [kind for kind, _ in scene.daemon.words]
    assert never_paused() == again.digest


def test_without_a_daemon_it_waits_for_memory_as_long_as_it_takes(tmp_path):
    """
    Nobody would start it again.
    """
    scene = Scene(tmp_path, first=pause("offload", by_rule=True), answers=[])
    scene.shim._report.has_daemon = False
    scene.daemon._answers = [on(wire.Yielded), RESUME, on(wire.Stage), RESUME, on(wire.Stage), RESUME]
    scene.daemon._answers += [on(wire.Stage), lambda: setattr(scene.device, "room", None) or RESUME]
    scene.device.room = 0
    code = scene.run()

    assert (None, never_paused()) == (code, scene.digest)


def test_a_pause_that_comes_while_it_waits_for_memory_is_met_at_once(tmp_path):
    """
    It has given back all there is already; a stop ends it, with the checkpoint that it has.
    """
    scene = Scene(
        tmp_path,
        first=pause("offload"),
        answers=[
            on(wire.Yielded),
            RESUME,
            on(wire.Stage),
            pause("offload", "p2"),
            on(wire.Yielded, request="p2"),
            wire.Stop(request="s"),
        ],
    )
    scene.shim._report.return_retry_s = 60.0
    scene.device.room = 0
    code = scene.run()

    assert 75 == code
    assert [("Yielded", "offload"), ("Yielded", "exit")] == scene.daemon.words[-2:]
    assert 1 == sum(isinstance(one, wire.Saving) for one in scene.daemon.said)


def test_checkpoints_asked_for_meanwhile_are_the_one_that_is_there(tmp_path):
    """
    Nothing looks at tensors that are away.
    """
    scene = Scene(
        tmp_path,
        first=pause("offload"),
        answers=[on(wire.Yielded), lambda: scene.shim._gate.put(wire.Checkpoint(request="c")) or RESUME],
    )
    scene.run()
    asked = [one for one in scene.daemon.said if isinstance(one, wire.Checkpointed) and one.request == "c"]

    assert [4] == [one.step for one in asked]
    assert never_paused() == scene.digest


def test_metrics_are_numbers_before_their_memory_is_given_back(tmp_path):
    """
    A script reports a buffer of its model; the line to the daemon reads it while it is away.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[])
    numbers = []

    def beat():
        numbers.append(scene.shim._report.numbers())
        return RESUME

    scene.daemon._answers = [on(wire.Yielded), beat]
    weight = scene.training.model[0].weight
    scene.shim.report(first=weight[0, 0], all=weight, n=3)
    first = float(weight.detach()[0, 0])
    scene.training.optimizer.param_groups[0]["lr"] = 0.0
    scene.run()

    assert [{"first": first, "n": 3.0}] == numbers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_where_it_is(tmp_path, number):
    """
    With the checkpoint that is durable; a `finally` of the script finds its tensors on the host.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[])
    scene.daemon._answers = [on(wire.Yielded), lambda: signal.raise_signal(number) or RESUME]
    code = scene.run()

    assert 128 + number == code
    assert not scene.is_away
    assert [4] == [loaded.step for loaded in [scene.shim._report.checkpoint]]


def test_a_second_interrupt_leaves_the_tensors_whole(tmp_path):
    """
    Many scripts save in `except KeyboardInterrupt`; that must not find null pointers.
    """
    scene = Scene(tmp_path, first=pause("offload"), answers=[])

    def interrupt():
        raise KeyboardInterrupt

    scene.daemon._answers = [on(wire.Yielded), RESUME, on(wire.Stage), interrupt]
    scene.device.room = 2
    with pytest.raises(KeyboardInterrupt):
        scene.run()
    sums = [float(value.sum()) for value in scene.training.model.state_dict().values()]

    assert 4 == len(sums)
    assert all(torch.isfinite(torch.tensor(sums)))


def test_what_can_be_given_back_is_noticed_when_the_model_is_moved(tmp_path):
    """
    attach() comes before the model is on its device in many scripts.
    """
    holder = torch.nn.Module()
    shim = trainer_shim.attach(checkpoints=tmp_path, model=holder)
    gives_back(shim, FakeDevice())
    before = shim._report.depths
    holder.weight = torch.nn.Parameter(torch.ones(3))
    shim.boundary()
    after = shim._report.depths
    shim.detach()

    assert (("hold", "exit"), ("hold", "offload", "exit")) == (before, after)
