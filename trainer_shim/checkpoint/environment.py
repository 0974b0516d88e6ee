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

    texts = (one.read_text("METADATA") or one.read_text("PKG-INFO") or "" for one in metadata.distributions())
    found = set(map(_named, texts))
    # A half-removed package has metadata without a name; it is no reason to fail a save.
    return "".join(f"{name}=={version}\n" for name, version in sorted(found, key=str) if name)


def _named(text: str) -> tuple[str, str]:
    """Name and version by the lines that say them: to parse all of the text takes 20 times as long."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        if not line:  # What follows is the description.
            break
        key, _, value = line.partition(":")
        said.setdefault(key.lower(), value.strip())
    return said.get("name", ""), said.get("version", "")


def versions() -> dict[str, str | None]:
    """The versions that decide whether a run goes on bit for bit; None for what is not in use."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "torch": None if torch is None else str(torch.__version__),
        "cuda": None if torch is None else torch.version.cuda,
    }
