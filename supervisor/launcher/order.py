"""What a keeper is started with: its words, and the order that it reads.

Covers: both as bytes. Does not cover: starting it (keepers.py, transient.py), what it does (keeper.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.ports import LaunchSpec

__all__ = ["keeper_words", "needed_files", "open_order"]

_KEEPER = Path(__file__).with_name("keeper.py")


def keeper_words(python: str, spec: LaunchSpec, max_files: int, control_group: str) -> list[str]:
    """Return the command line of a keeper; everybody may read it, so it says nothing of the command."""
    label = f"{spec.job}.{spec.incarnation}"
    heading = [spec.log_heading] if spec.log_heading else []
    return [python, "-I", "-S", str(_KEEPER), label, str(max_files), spec.shell, control_group, *heading]


def needed_files(python: str) -> list[Path]:
    """Return what whoever runs a keeper has to be able to read: Python with its library, and the keeper."""
    return [Path(python), Path(os.__file__), _KEEPER]


def open_order(spec: LaunchSpec) -> int:
    """Return a file without a name, which no other user can open, with what is to be run.

    Raises OSError, and ValueError for words with a zero byte.
    """
    words = [str(spec.run_dir), str(spec.log), spec.cwd, str(len(spec.argv)), *spec.argv]
    words += [f"{name}={value}" for name, value in spec.env.items()]
    if any("\0" in word for word in words):
        raise ValueError("a word of the command or its environment holds a zero byte")
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        while text:
            text = text[os.write(fd, text) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd
