"""What is known to keep a run from being the same bits after a pause, beside its data.

Covers: kernels chosen or added up in another order each time, a scheduler that was not handed over,
gradients left over at the end of an epoch.
Does not cover: the data loader, which tells for itself (loader.py).

Everything here is a look at attributes: no device is asked and nothing is changed. What cannot be seen
from a part stands in docs/EXACTNESS.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["doubts", "is_scheduler", "kernel_doubts"]


def doubts(parts: Mapping[str, Any], *, has_rest: bool) -> list[str]:
    """Say what may not come out the same, one sentence each.

    `has_rest`: the loop is at the end of a pass whose last batches were fewer than it accumulates.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    found = list(kernel_doubts(torch)) if torch.cuda.is_initialized() else []
    optimizers = {name: part for name, part in parts.items() if isinstance(part, torch.optim.Optimizer)}
    if not any(is_scheduler(part) for part in parts.values()):
        found += [_NO_SCHEDULER.format(name) for name, one in optimizers.items() if _is_scheduled(one)]
    if has_rest:
        modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        found += [_REST.format(name) for name, one in modules.items() if _has_gradients(one)]
    return found


def kernel_doubts(torch: Any) -> Iterator[str]:
    """Say which switches of torch let CUDA kernels come out differently from run to run, paused or not."""
    if torch.backends.cudnn.benchmark:
        yield (
            "torch.backends.cudnn.benchmark is on: timing chooses the kernels, and a restart may choose "
            "others; switch it off where every bit counts [kernels]"
        )
    if not torch.are_deterministic_algorithms_enabled():
        yield (
            "torch.use_deterministic_algorithms() is off: some CUDA kernels add in another order each time, "
            "paused or not [kernels]"
        )


_NO_SCHEDULER = (
    "a learning rate scheduler was made for `{}`, but attach() got none: it would begin anew after a "
    "restart; hand it over, or go on from `shim.step` [scheduler]"
)
_REST = (
    "`{}` has gradients at the end of an epoch whose last batches are fewer than are accumulated: no "
    "checkpoint holds them; step on them there, and call zero_grad() behind the step "
    "[gradients]"
)


def is_scheduler(part: Any) -> bool:
    """Whether it is a scheduler; torch's have no common class in all versions, and users write others."""
    return hasattr(part, "last_epoch") or hasattr(part, "get_last_lr")


def _is_scheduled(optimizer: Any) -> bool:
    # Every scheduler of torch but ReduceLROnPlateau leaves this mark.
    return any("initial_lr" in group for group in optimizer.param_groups)


def _has_gradients(module: Any) -> bool:
    return any(parameter.grad is not None for parameter in module.parameters())
