"""A state like that of a real training, and what makes a disk tell the truth about it.

Used here and in the environments of other frameworks; torch is imported on use, for one of them has none.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["change", "flat", "forget", "fsync_all", "parameter_shapes", "size_of", "state_of", "trained"]

_WIDTH, _INNER = 768, 3072
_LAYER_BYTES = 4 * 7_087_872


def num_layers(size_gb):
    """How many layers make model and AdamW state of about so many GB."""
    return max(1, round(size_gb * 1e9 / 3 / _LAYER_BYTES))


def parameter_shapes(size_gb):
    """The same parameters without torch."""
    one = [(3 * _WIDTH, _WIDTH), (3 * _WIDTH,), (_WIDTH, _WIDTH), (_WIDTH,), (_INNER, _WIDTH), (_INNER,)]
    one += [(_WIDTH, _INNER), (_WIDTH,), *[(_WIDTH,)] * 4]
    return [shape for _ in range(num_layers(size_gb)) for shape in one]


def trained(size_gb):
    """A model and its AdamW after one step: three equal parts, together about so many GB."""
    import torch

    layers = [torch.nn.TransformerEncoderLayer(_WIDTH, 8, _INNER) for _ in range(num_layers(size_gb))]
    model = torch.nn.ModuleList(layers)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def state_of(model, optimizer):
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def flat(state):
    """Every tensor under a name of its own, as safetensors wants them."""
    tensors = {f"model.{name}": tensor for name, tensor in state["model"].items()}
    for index, entries in state["optimizer"]["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
    return tensors


def size_of(state):
    return sum(tensor.nbytes for tensor in flat(state).values())


def change(state):
    """What a step does to every tensor, as far as a checkpoint is concerned."""
    for tensor in flat(state).values():
        tensor.view(-1)[:1].add_(1e-3)


def _all_below(path: Path):
    return [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]


def fsync_all(path: Path):
    """Return when a file, or a folder with all that is in it, survives a power cut."""
    for file in _all_below(path):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def forget(path: Path):
    """Out of the kernel's cache."""
    for file in _all_below(path):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
