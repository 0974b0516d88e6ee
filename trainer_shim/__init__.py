"""The guest in a training process: two lines in a script make its run pausable.

import trainer_shim

shim = trainer_shim.attach(model=model, optimizer=optimizer)
for epoch in shim.epochs(10):
    for batch in shim.batches(loader):
        train_step(batch)
"""

from trainer_shim.errors import (
    CannotRestore,
    CannotSave,
    CannotStore,
    Damaged,
    FolderInUse,
    NotSupported,
    ShimError,
)
from trainer_shim.session import Shim, attach

__all__ = [
    "CannotRestore",
    "CannotSave",
    "CannotStore",
    "Damaged",
    "FolderInUse",
    "NotSupported",
    "Shim",
    "ShimError",
    "attach",
]
