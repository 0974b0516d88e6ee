"""A training whose CPU tensors count as a device's: `proved_offload.py [DEVICE]`.

Momentum by hand: torch's optimizers take longer to import than all of this takes. `graphs` is a device
that gives nothing back when it is asked, `full` one that has no memory at the first return, `damaged` one
that returns each piece with another bit.
"""

import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim
from trainer_shim.devices import TorchMemory


class Graphs(TorchMemory):
    """Has captured graphs."""

    def has_graphs(self):
        return True


class Full(TorchMemory):
    """Others have its memory for a moment after it was wanted for the first time."""

    free_at = None

    def take(self, storage, size_bytes):
        self.free_at = self.free_at or time.monotonic() + 0.2
        if time.monotonic() < self.free_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().take(storage, size_bytes)


class Damaged(TorchMemory):
    """Each piece that is taken has another bit when all is copied."""

    def __init__(self, torch):
        super().__init__(torch)
        self.taken = []

    def take(self, storage, size_bytes):
        super().take(storage, size_bytes)
        self.taken.append(storage)

    def settle(self):
        while self.taken:
            self.taken.pop()[0] ^= 1


class Momentum:
    """A part of the script's own, of tensors."""

    def __init__(self, model):
        self.tensors = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}

    def state_dict(self):
        return self.tensors

    def load_state_dict(self, state):
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])


torch.manual_seed(1)
torch.set_num_threads(1)
rows = torch.randn(24, 4, generator=torch.Generator().manual_seed(2))
loader = DataLoader(TensorDataset(rows), 4, shuffle=True, num_workers=1 * (sys.argv[-1] == "graphs"))
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 4))
momentum = Momentum(model)
shim = trainer_shim.attach(model=model, momentum=momentum)
device = {"graphs": Graphs, "full": Full, "damaged": Damaged}.get(sys.argv[-1], TorchMemory)
shim._offloader._memory_given = device(torch)
for _ in shim.epochs(3):
    for (batch,) in shim.batches(loader):
        model.zero_grad()
        loss = (model(batch) - batch).square().mean()
        loss.backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.sub_(momentum.tensors[name].mul_(0.9).add_(weight.grad), alpha=0.05)
        shim.report(loss=loss)
