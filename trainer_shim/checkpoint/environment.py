"""What a checkpoint says about the programs that made it.

Covers: installed packages, versions. Does not cover: the command and the
commit, which the caller knows.

Must never import torch: a checkpoint without tensors is saved without it.
"""

from __future__ import annotations

import platform
import sys
from functools import cache

__all__ = ["installed_packages", "versions"]


@cache
def installed_packages() -> str:
    """One `name==version` a line, as pip would pin them; read once per process, for it takes a while."""
    from importlib import metadata

    # A half-removed package has metadata without a name; it is no reason to fail a save.
    found = {
        (dist.metadata["Name"], dist.version) for dist in metadata.distributions() if dist.metadata["Name"]
    }
    return "".join(f"{name}=={version}\n" for name, version in sorted(found, key=str))


def versions() -> dict[str, str | None]:
    """The versions that decide whether a run goes on bit for bit; None for what is not in use."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "torch": None if torch is None else str(torch.__version__),
        "cuda": None if torch is None else torch.version.cuda,
    }
