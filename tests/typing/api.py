"""The public API as a user writes it; type-checked, never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type

import trainer_shim
from trainer_shim import CannotRestore, CannotSave, FolderInUse, NotSupported, Shim, ShimError, attach


class Model:
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any, strict: bool = True) -> tuple[str, ...]:  # noqa: FBT001, FBT002
        return ()


class Averaged:
    def state_dict(self) -> Mapping[str, float]:
        return {"decay": 0.9}

    def load_state_dict(self, state: Any) -> None: ...


def short(loader: list[int]) -> None:
    shim = trainer_shim.attach(model=Model())
    for epoch in shim.epochs(10):
        assert_type(epoch, int)
        for batch in shim.batches(loader):
            shim.report(loss=float(batch))


def long(loader: Iterator[int], folder: Path) -> int:
    try:
        shim = attach(
            checkpoints=folder,
            keep=trainer_shim.Keep(last=5, best=2, metric="val_loss", every_h=24),
            labels={"dataset": "digits"},
            preprocessing={"mean": [0.5]},
            model=Model(),
            ema=Averaged(),
        )
    except (CannotRestore, CannotSave, FolderInUse, NotSupported) as error:
        assert_type(error.hint, str)
        raise
    except ShimError:
        return 1
    assert_type(shim, Shim)
    shim.extra["best"] = 0.5
    state = shim.state(best=1e9, history=[])
    state.best = min(state.best, 0.5)
    for _ in shim.steps(loader, loader, max_steps=3, accumulate=2):
        state.history.append(shim.step)
    for _ in shim.batches(loader, accumulate=4):
        with shim.critical():
            pass
    shim.boundary()
    assert_type(shim.step, int)
    assert_type(shim.epoch, int)
    shim.add_parts(head=Model(), ema=Averaged())
    assert_type(shim.checkpoint(), Path)
    shim.detach()
    return 0


def in_a_thread() -> None:
    trainer_shim.handle_signals()


def by_epoch(folder: Path) -> int:
    position = trainer_shim.saved_position(folder)
    assert_type(position, trainer_shim.Position | None)
    return 0 if position is None else position.step + position.epoch


def of_a_library(loader: list[int], replay: object, folder: Path) -> trainer_shim.State:
    try:
        shim = attach(model=Model(), replay=trainer_shim.Fields(replay, "storage"), checkpoints=folder)
        for batch in shim.follow(loader):
            assert_type(batch, Any)
            shim.boundary()
        shim.checkpoint()
    except trainer_shim.CannotStore as error:
        assert_type(error.hint, str)
        raise
    except trainer_shim.Damaged:
        shim = attach(model=Model(), resume="never")
    return shim.state(best=0.0)


def wrong() -> None:
    attach(model=Model(), keep="all")  # type: ignore[arg-type]
    attach(model=Model(), resume="yes")  # type: ignore[arg-type]
    attach().steps([1], max_steps="3")  # type: ignore[arg-type]
