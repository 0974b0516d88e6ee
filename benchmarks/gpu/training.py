"""Small trainings on a device, one for each way in which a pause could change bits.

Covers: models, optimizers, scalers and captured graphs; a digest of all that a run is made of.
Does not cover: pausing them (exactness.py).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.device import Device
from trainer_shim.devices import TorchMemory

__all__ = ["KINDS", "Training", "seed"]

NUM_ITEMS, BATCH = 24, 4


def seed() -> None:
    """Begin with the same random numbers in every library and on every device."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # the global generator is what the shim keeps
    torch.manual_seed(1)


class Training:
    """A model with dropout, and AdamW; each kind changes one thing."""

    def __init__(self, device: Device) -> None:
        seed()
        self.device = device
        self.model = self.make_model().to(device.kind)
        self.optimizer = self.make_optimizer()
        self.scaler: torch.amp.GradScaler | None = None
        rows = torch.randn(NUM_ITEMS, *self.shape, generator=torch.Generator().manual_seed(2))
        self.loader = torch.utils.data.DataLoader(rows, BATCH, shuffle=True)
        self.loss = torch.zeros(())

    shape: tuple[int, ...] = (64,)

    def make_model(self) -> nn.Module:
        """Return it with its first weights."""
        return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Dropout(0.2), nn.Linear(128, 64))

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return it; its state comes with the first step."""
        return torch.optim.AdamW(self.model.parameters(), lr=0.01)

    def ready(self) -> None:
        """Do what has to be done before the first step; random numbers are set again after it."""

    def parts(self) -> dict:
        """What is attached."""
        parts = {"model": self.model, "optimizer": self.optimizer}
        return parts if self.scaler is None else {**parts, "scaler": self.scaler}

    def memory(self) -> TorchMemory | None:
        """What the shim is to ask about devices; None: what it asks anyway."""
        return None

    def step(self, batch: torch.Tensor) -> None:
        """Train on a batch, with noise out of every generator."""
        batch = batch.to(self.device.kind) + self.noise(batch)
        self.optimizer.zero_grad()
        self.loss = self.forward(batch).square().mean()
        self.loss.backward()
        self.optimizer.step()

    def noise(self, batch: torch.Tensor) -> torch.Tensor:
        """Numbers of the host's generators and of every device's."""
        noise = torch.full((), random.random() + np.random.rand())  # noqa: NPY002
        for index in range(torch.cuda.device_count() if self.device.is_real else 0):
            noise = noise + torch.rand((), device=f"cuda:{index}").cpu()
        return noise.to(self.device.kind).expand(batch.shape)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what the model makes of it."""
        return self.model(batch)

    def digest(self) -> str:
        """Return a digest of weights, optimizer, scaler, the last loss and every generator."""
        found = hashlib.sha256()
        _add(found, self.model.state_dict())
        _add(found, self.optimizer.state_dict())
        _add(found, None if self.scaler is None else self.scaler.state_dict())
        _add(found, [self.loss.detach(), torch.get_rng_state(), random.getstate()])
        _add(found, np.random.get_state()[1].tolist())  # noqa: NPY002
        _add(found, torch.cuda.get_rng_state_all() if self.device.is_real else [])
        return found.hexdigest()


def _add(found, value) -> None:
    """Containers by their order, tensors by type, shape and bits; layout is no part of what they say."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1)
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        found.update(plain.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for name, one in value.items():
            found.update(str(name).encode())
            _add(found, one)
    elif isinstance(value, list | tuple):
        for one in value:
            _add(found, one)
    else:
        found.update(repr(value).encode())


class Scaled(Training):
    """GradScaler and autocast; half precision, on the CPU bfloat16."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        # Grows every other step, so that its counters matter.
        self.scaler = torch.amp.GradScaler(device.kind, init_scale=256.0, growth_interval=2)

    def step(self, batch: torch.Tensor) -> None:
        """See Training."""
        batch = batch.to(self.device.kind) + self.noise(batch)
        self.optimizer.zero_grad()
        dtype = torch.float16 if self.device.is_real else torch.bfloat16
        with torch.autocast(self.device.kind, dtype=dtype):
            self.loss = self.model(batch).float().square().mean()
        self.scaler.scale(self.loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Compiled(Training):
    """torch.compile with inductor; on the CPU without a compiler of C++."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.compiled = torch.compile(self.model, backend="inductor" if device.is_real else "aot_eager")

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """See Training."""
        return self.compiled(batch)


class Captured(Training):
    """Forward and backward in a captured CUDA graph; the optimizer outside of it."""

    def ready(self) -> None:
        """Warm up on a stream of its own, as torch asks for, and capture."""
        if not self.device.is_real:
            return
        self.static = torch.zeros(BATCH, *self.shape, device="cuda")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.model(self.static).square().mean().backward()
        torch.cuda.current_stream().wait_stream(side)
        # Gradients keep their places: the graph writes there.
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.static_loss = self.model(self.static).square().mean()
            self.static_loss.backward()

    def step(self, batch: torch.Tensor) -> None:
        """See Training."""
        batch = batch.to(self.device.kind) + self.noise(batch)
        if self.device.is_real:
            self.static.copy_(batch)
            self.graph.replay()
            self.loss = self.static_loss.detach().clone()
        else:
            self.optimizer.zero_grad()
            self.loss = self.model(batch).square().mean()
            self.loss.backward()
        self.optimizer.step()

    def memory(self) -> TorchMemory | None:
        """See Training."""
        return None if self.device.is_real else _WithGraphs(torch)


class _WithGraphs(TorchMemory):
    """Host tensors cannot be captured; what they stand for was."""

    def has_graphs(self) -> bool:
        """Say that there are some."""
        return True


class Fused(Training):
    """One kernel for all parameters."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        """See Training."""
        return torch.optim.AdamW(self.model.parameters(), lr=0.01, fused=True)


class ChannelsLast(Fused):
    """Kernels that walk raw memory, over weights that are not contiguous."""

    shape = (3, 16, 16)

    def make_model(self) -> nn.Module:
        """See Training."""
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Dropout(0.2), nn.Conv2d(8, 4, 3))
        return model.to(memory_format=torch.channels_last)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """See Training."""
        return self.model(batch.to(memory_format=torch.channels_last))


class Deterministic(Training):
    """Deterministic algorithms only; CUBLAS_WORKSPACE_CONFIG is set for the process (rows.py)."""

    def __init__(self, device: Device) -> None:
        torch.use_deterministic_algorithms(True)
        super().__init__(device)

    def make_model(self) -> nn.Module:
        """See Training."""
        return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.Dropout(0.2), nn.Flatten())


KINDS: dict[str, Callable[[Device], Training]] = {
    "plain": Training,
    "scaler": Scaled,
    "compile": Compiled,
    "graph": Captured,
    "fused": Fused,
    "channels_last": ChannelsLast,
    "deterministic": Deterministic,
}
