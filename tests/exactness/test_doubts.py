"""What the shim says when a run cannot be, or may not be, the same bits after a pause."""

import pytest
import torch

import trainer_shim
from trainer_shim.determinism import doubts, kernel_doubts

LR = torch.optim.lr_scheduler


@pytest.fixture
def net():
    return torch.nn.Linear(2, 1)


@pytest.fixture
def switches():
    """
    torch's own switches, put back afterwards.
    """
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    yield
    torch.backends.cudnn.benchmark = before[0]
    torch.use_deterministic_algorithms(before[1])


def train(folder, net, num_batches, *, accumulate, flush, **parts):
    """
    One epoch; `flush` steps on a rest, as a script should.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    shim = trainer_shim.attach(checkpoints=folder, model=net, optimizer=optimizer, **parts)
    for _ in shim.epochs(1):
        for number, batch in enumerate(
            shim.batches([torch.ones(3, 2)] * num_batches, accumulate=accumulate), 1
        ):
            net(batch).mean().backward()
            if number % accumulate == 0 or (flush and number == num_batches):
                optimizer.step()
                optimizer.zero_grad()
    shim.checkpoint()
    shim.detach()


def test_gradients_left_over_at_the_end_of_an_epoch_are_told(tmp_path, capfd, net):
    """
    Five batches, two a step: the gradients of the fifth are in no checkpoint.
    """
    train(tmp_path, net, 5, accumulate=2, flush=False)

    said = capfd.readouterr().err
    assert 1 == said.count("`model` has gradients at the end of an epoch")


@pytest.mark.parametrize(("num_batches", "flush"), [(5, True), (4, False)])
def test_an_epoch_without_a_rest_says_nothing(tmp_path, capfd, net, num_batches, flush):
    """
    A loop that steps on its rest, or has none, is exact.
    """
    train(tmp_path, net, num_batches, accumulate=2, flush=flush)

    assert "gradients" not in capfd.readouterr().err


def test_gradients_that_a_loop_clears_before_its_next_step_are_no_matter(tmp_path, capfd, net):
    """
    zero_grad() at the head of the step is as usual: what lies there at a boundary is spent.
    """
    shim = trainer_shim.attach(checkpoints=tmp_path, model=net)
    for batch in shim.batches([torch.ones(3, 2)] * 2):
        net.zero_grad()
        net(batch).mean().backward()
    shim.checkpoint()
    shim.detach()

    assert "gradients" not in capfd.readouterr().err


def test_a_scheduler_that_was_not_handed_over_is_told(tmp_path, capfd, net):
    """
    It leaves a mark in its optimizer, and the run would go on with another learning rate.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    LR.ExponentialLR(optimizer, 0.9)
    shim = trainer_shim.attach(checkpoints=tmp_path, model=net, optimizer=optimizer)
    shim.checkpoint()
    shim.detach()

    assert "a learning rate scheduler was made for `optimizer`" in capfd.readouterr().err


def test_a_scheduler_that_was_handed_over_is_not_doubted(net):
    """
    Under whatever name.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    parts = {"o": optimizer, "rate": LR.StepLR(optimizer, 3)}

    assert [] == doubts(parts, has_rest=False)


def test_an_optimizer_without_a_scheduler_is_not_doubted(net):
    """
    Most of them.
    """
    assert [] == doubts({"o": torch.optim.Adam(net.parameters())}, has_rest=False)


@pytest.mark.parametrize(
    ("benchmark", "deterministic", "expected"),
    [(True, True, ["cudnn.benchmark"]), (False, False, ["use_deterministic"]), (False, True, [])],
)
def test_switches_that_let_kernels_differ_are_told(switches, benchmark, deterministic, expected):
    """
    With CUDA in use: timing that chooses kernels, and sums in no fixed order.
    """
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(deterministic)
    said = list(kernel_doubts(torch))

    assert len(expected) == len(said)
    assert all(words in one for words, one in zip(expected, said, strict=True))


def test_without_cuda_nothing_is_said_of_its_kernels(switches):
    """
    Nobody on a CPU needs to hear of cuDNN.
    """
    torch.backends.cudnn.benchmark = True

    assert torch.cuda.is_initialized() or [] == doubts({}, has_rest=False)
