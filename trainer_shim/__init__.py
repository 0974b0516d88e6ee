"""The guest in a training process: two lines in a script make its run pausable.

::

    import trainer_shim

    shim = trainer_shim.attach(model=model, optimizer=optimizer)
    for epoch in shim.epochs(10):
        for batch in shim.batches(loader):
            train_step(batch)

The names are loaded on use: a daemon that takes the wire (`trainer_shim.protocol`) and
whom to trust (`server_check`, `safe_files`, `lock_file`) from here loads nothing else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trainer_shim.attaching import attach
    from trainer_shim.checkpoint.retention import Keep
    from trainer_shim.errors import (
        CannotRestore,
        CannotSave,
        CannotStore,
        Damaged,
        FolderInUse,
        NotSupported,
        ShimError,
    )
    from trainer_shim.handing_over import Fields
    from trainer_shim.session import Shim
    from trainer_shim.signals import handle_signals
    from trainer_shim.variables import State
    from trainer_shim.whereabouts import Position, saved_position

__all__ = [
    "CannotRestore",
    "CannotSave",
    "CannotStore",
    "Damaged",
    "Fields",
    "FolderInUse",
    "Keep",
    "NotSupported",
    "Position",
    "Shim",
    "ShimError",
    "State",
    "attach",
    "handle_signals",
    "saved_position",
]

_HOMES = {
    "Fields": "handing_over",
    "Keep": "checkpoint.retention",
    "Position": "whereabouts",
    "Shim": "session",
    "State": "variables",
    "attach": "attaching",
    "handle_signals": "signals",
    "saved_position": "whereabouts",
}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module `trainer_shim` has no attribute `{name}`")
    from importlib import import_module

    home = _HOMES.get(name, "errors")
    return getattr(import_module(f"trainer_shim.{home}"), name)
