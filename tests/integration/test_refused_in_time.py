"""What cannot be stored is refused before anybody needs a checkpoint, with a way out that can be walked."""

from __future__ import annotations

import enum
import itertools
import random
import re

import pytest
import torch

import trainer_shim
from trainer_shim import protocol as wire
from trainer_shim.checkpoint import Store
from trainer_shim.errors import CannotRestore, CannotStore


class Part:
    """Plain values with a state."""

    def __init__(self, **values):
        self.__dict__.update(values)

    def state_dict(self):
        return dict(vars(self))

    def load_state_dict(self, state):
        self.__dict__.update(state)


class Color(enum.Enum):
    RED = 1


class Hook:
    """An object without a state of its own."""


@pytest.fixture
def attach(tmp_path):
    made = []

    def run(**arguments):
        made.append(trainer_shim.attach(**{"checkpoints": tmp_path / "c"} | arguments))
        return made[-1]

    yield run
    for shim in made:
        shim.detach()


def files(tmp_path):
    return [path.name for path in (tmp_path / "c").glob("step-*")]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "path", "what", "way_out"),
    [
        (lambda: {"part": Part(hook=Hook())}, "parts.part.hook", "an object of type", "`state_dict()`"),
        (
            lambda: {"part": Part(a=[{"b": iter([])}])},
            "parts.part.a.0.b",
            "an object of type",
            "leave it out",
        ),
        (
            lambda: {"model": torch.nn.LazyLinear(2)},
            "parts.model.weight",
            "no shape yet",
            "run one batch through",
        ),
        (
            lambda: {"model": torch.nn.Sequential(torch.nn.LazyBatchNorm1d())},
            "parts.model.0.weight",
            "no shape yet",
            "before attach()",
        ),
        (
            lambda: {"part": Part(w=torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))},
            "parts.part.w",
            "a quantized tensor",
            "before it was quantized",
        ),
        (
            lambda: {"model": torch.nn.Linear(2, 2, device="meta")},
            "parts.model.weight",
            "meta device",
            "materialize",
        ),
        (lambda: {"part": Part(), "labels": {"a": {1}}}, "facts.labels", "it as JSON", "use text, numbers"),
        (
            lambda: {"part": Part(), "preprocessing": {"size": Hook()}},
            "facts.preprocessing",
            "it as JSON",
            "use text",
        ),
    ],
)
def test_what_is_there_at_attach_is_refused_there(attach, tmp_path, make, path, what, way_out):
    """
    Not at the first pause, hours later: with its path, and something to do that can be done.
    """
    with pytest.raises(CannotStore, match=rf"^{path}") as caught:
        attach(**make())

    assert what in str(caught.value)
    assert way_out in caught.value.hint
    assert [] == files(tmp_path)
    # Nothing of the attempt is left: the mended script attaches as ever.
    attach(part=Part()).boundary()


@pytest.mark.parametrize("thing", [re.compile("a"), itertools.count(), ValueError("no"), memoryview(b"a")])
def test_the_hint_for_what_is_pythons_own_asks_nobody_to_change_python(attach, thing):
    """
    Its class cannot be given methods.
    """
    with pytest.raises(CannotStore) as caught:
        attach(part=Part(thing=thing))

    assert "give the class" not in caught.value.hint
    assert "make it anew" in caught.value.hint


def test_the_hint_for_an_object_can_be_followed_to_the_letter(attach):
    """
    "Give the class state_dict() and load_state_dict(), and let the part hold it when attach() is called".
    """
    with pytest.raises(CannotStore) as caught:
        attach(part=Part(hook=Hook()))
    assert "give the class" in caught.value.hint

    held = Part(hook=Part(count=1))
    shim = attach(part=held)
    held.hook.count = 7
    shim.boundary()
    shim.checkpoint()
    shim.detach()
    fresh = Part(hook=(hook := Part(count=1)))
    attach(part=fresh)

    assert fresh.hook is hook
    assert 7 == hook.count


def test_the_hint_for_an_enum_can_be_followed_to_the_letter(attach):
    """
    "Let the part hold a member of that enum already when attach() is called", or "store its .name".
    """
    part = Part(color=None)
    shim = attach(part=part)
    part.color = Color.RED
    with pytest.raises(CannotStore, match=r"parts\.part\.color") as caught:
        shim.boundary()
    assert "`.name`" in caught.value.hint
    shim.detach()

    for color in (Color.RED, Color.RED.name):
        part = Part(color=color)
        shim = attach(part=part, checkpoints=None)
        shim.boundary()
        shim.detach()


@pytest.mark.parametrize("value", [1, [1], torch.ones(1), "x"])
def test_the_hint_for_what_is_no_object_leads_to_where_it_goes(attach, value):
    """
    A plain value cannot be attached, and can be kept by `shim.state()`.
    """
    with pytest.raises(TypeError) as caught:
        attach(part=value)
    assert "write `state = shim.state(part=...)` behind attach()" in caught.value.__notes__[0]

    shim = attach()
    shim.state(part=value)
    shim.boundary()
    shim.checkpoint()
    shim.detach()

    assert repr(value) == repr(attach().state(part=None).part)


@pytest.mark.parametrize("wanted", [None, "hold", "save", "exit"])
def test_what_comes_into_being_with_the_first_step_is_refused_at_its_boundary(attach, tmp_path, wanted):
    """
    The state of an optimizer, say: the loop ends there, whether or not a pause is wanted at that very moment.
    """
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    shim = attach(model=model, optimizer=optimizer)
    optimizer.state[model.weight]["hook"] = Hook()
    if wanted is not None:
        command = wire.Checkpoint(request="s") if wanted == "save" else wire.Pause(request="p", depth=wanted)
        shim._gate.put(command)

    with pytest.raises(CannotStore, match=r"^parts\.optimizer\.state\.0\.hook") as caught:
        shim.boundary()
    assert caught.value.hint
    assert [] == files(tmp_path)


@pytest.mark.parametrize("value", [Hook(), print, Color.RED, {"a": iter([])}])
def test_what_is_put_into_extra_after_attach_is_refused_at_the_first_boundary(attach, value):
    """
    `extra` is empty in a fresh process, so nothing in it can be brought back by a name.
    """
    shim = attach(part=Part())
    shim.extra["mine"] = value

    with pytest.raises(CannotStore, match=r"^extra\.mine"):
        shim.boundary()


@pytest.mark.parametrize(("since", "said_at"), [(2, 10), (10, 10), (11, 100), (101, None)])
def test_what_comes_later_is_said_and_ends_no_run(attach, capfd, since, said_at):
    """
    At the tenth boundary and at the hundredth: by then a run is worth more than its next checkpoint.
    """
    part = Part(hook=None)
    shim = attach(part=part)
    found = None
    for step in range(1, 121):
        part.hook = Hook() if step >= since else None
        shim.boundary()
        if "parts.part.hook: cannot store" in (said := capfd.readouterr().err):
            assert "training goes on" in said
            found = found or step

    assert said_at == found


def test_a_boundary_inside_a_critical_section_is_not_the_first(attach):
    """
    In the middle of something the state is none that a save would see.
    """
    part = Part(hook=Hook)
    shim = attach(part=part)
    with shim.critical():
        part.hook = Hook()
        shim.boundary()
        part.hook = Hook
    shim.boundary()


def test_looking_reads_no_tensor_and_touches_no_generator(attach):
    """
    It costs a walk over the names, and a run that is looked at is bit for bit one that is not.
    """

    class Large(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(8))

    model = Large()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    shim = attach(model=model)
    version = model.w._version
    shim.boundary()

    assert torch.equal(before, torch.get_rng_state())
    assert version == model.w._version


def test_a_part_that_cannot_give_its_state_yet_is_no_refusal(attach, capfd):
    """
    Some can be asked only after a step; a device may be full. It is said, and the run goes on.
    """
    part = Part()
    part.state_dict = lambda: {}["not yet"]
    shim = attach(part=part)
    shim.boundary()

    assert "cannot save `part`: its state_dict() raised KeyError" in capfd.readouterr().err


def test_a_restored_run_is_looked_at_again(attach):
    """
    The first boundary after each attach() is a first one.
    """
    part = Part(n=1)
    shim = attach(part=part)
    shim.boundary()
    shim.checkpoint()
    shim.detach()
    part = Part(n=0)
    shim = attach(part=part)
    part.hook = Hook()

    assert (1, 1) == (shim.step, part.n)
    with pytest.raises(CannotStore):
        shim.boundary()


def test_a_function_that_is_gone_when_the_run_goes_on_is_told_with_its_path(attach):
    """
    The script was changed meanwhile: nothing is guessed, and nothing was loaded halfway.
    """
    shim = attach(part=Part(f=len, n=1))
    shim.boundary()
    shim.checkpoint()
    shim.detach()
    part = Part(f=print, n=0)

    with pytest.raises(CannotRestore, match=r"`parts\.part\.f`: `builtins\.len`"):
        attach(part=part)
    assert 0 == part.n
    assert len is attach(part=Part(f=len, n=0))._parts["part"].f


@pytest.mark.parametrize(
    "state", [{}, {"parts": 1, "position": {}, "rng": {}}, {"parts": {}, "position": {}}]
)
def test_a_checkpoint_that_no_session_wrote_is_refused_in_words(attach, tmp_path, state):
    """
    It verifies, because another program wrote it with the same library, and has nothing to go on from.
    """
    with Store(tmp_path / "c", job="other") as store:
        store.save(state, step=1, epoch=0, facts={})

    with pytest.raises(CannotRestore, match="as a training session writes it") as caught:
        attach(part=Part(n=1))
    assert "a checkpoint folder of its own" in caught.value.hint


def test_a_part_that_draws_for_its_state_disturbs_no_generator(attach):
    """
    Looked at or not, a run draws the same numbers, fresh and restored.
    """

    class Drawing(Part):
        def state_dict(self):
            return {"n": random.random(), "t": torch.rand(1)}

    def seeded():
        random.seed(1)
        torch.manual_seed(1)

    seeded()
    expected = random.random(), torch.rand(1).item()
    seeded()
    shim = attach(part=Drawing())
    shim.boundary()
    found = random.random(), torch.rand(1).item()

    assert expected == found


def test_a_loader_that_is_a_part_is_asked_only_when_the_loop_has_begun(attach):
    """
    It would make its iterator, and start its workers, to answer; what it holds then is looked at.
    """

    class Loader(Part):
        dataset = ()

        def __iter__(self):
            return iter(())

        def state_dict(self):
            asked.append(self)
            return {"hook": Hook()}

    asked = []
    shim = attach(loader=Loader())
    assert [] == asked

    with pytest.raises(CannotStore, match=r"parts\.loader\.hook"):
        shim.boundary()
