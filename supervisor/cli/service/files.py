"""What an installed service consists of: which file of systemd/ goes where, and what is written into it.

Covers: the two kinds of service, their files, telling our files from those of other programs.
Does not cover: whether they may be written (obstacles.py), writing them (installing.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

import supervisor
from supervisor.errors import SupervisorError

__all__ = ["SYSTEM", "UNIT", "ServiceKind", "is_ours", "personal", "program_of", "text_of"]

UNIT: Final = "training-supervisord"
_NAME: Final = "training-supervisor"

#: In the package; the same files as in systemd/ of the checkout.
_PACKAGED: Final = Path(supervisor.__file__).parent / "units"

_WRITTEN_BY: Final = "# Written by `supervisorctl service install`, version "
#: What a unit that was written by hand from ours has as well.
_OUR_PROGRAM: Final = re.compile(r'^ExecStart="?(/.*/training-supervisord)"?$', re.MULTILINE)

#: Everything else has a meaning of its own in units, or in PATH.
_PLAIN: Final = re.compile(r"/[\w./+@,=~ -]*")


class ServiceKind(msgspec.Struct, frozen=True):
    """One of the two: the system's, or a person's own."""

    #: Packaged file -> where systemd looks for it.
    files: Mapping[str, Path]
    is_personal: bool

    @property
    def scope(self) -> tuple[str, ...]:
        """Return what tells systemctl and journalctl which systemd is meant."""
        return ("--user",) if self.is_personal else ()

    @property
    def unit_file(self) -> Path:
        """Return where the unit of the daemon is."""
        return next(path for path in self.files.values() if path.name == f"{UNIT}.service")

    def command(self, *words: str) -> str:
        """Return a command about this service, as a person types it."""
        return " ".join([*words[:1], *self.scope, *words[1:]])


SYSTEM: Final = ServiceKind(
    {
        f"sysusers.d/{_NAME}.conf": Path(f"/etc/sysusers.d/{_NAME}.conf"),
        f"tmpfiles.d/{_NAME}.conf": Path(f"/etc/tmpfiles.d/{_NAME}.conf"),
        "system/training-jobs.slice": Path("/etc/systemd/system/training-jobs.slice"),
        f"system/{UNIT}.service": Path(f"/etc/systemd/system/{UNIT}.service"),
    },
    is_personal=False,
)


def personal(environ: Mapping[str, str]) -> ServiceKind:
    """Return the service of whoever runs this command."""
    config = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    names = ("training-jobs.slice", f"{UNIT}.service")
    return ServiceKind({f"user/{name}": config / "systemd/user" / name for name in names}, is_personal=True)


def text_of(packaged: str, bin_dir: Path, version: str) -> str:
    """Return what is to be in an installed file; raises SupervisorError where no unit can name the folder."""
    if not _PLAIN.fullmatch(str(bin_dir)):
        raise SupervisorError(
            f"cannot install from `{bin_dir}`: a unit cannot name a folder with such characters",
            hint="install training-supervisor in an environment whose path has letters, digits and ./+@,=~-",
        )
    try:
        text = (_PACKAGED / packaged).read_text(encoding="utf-8")
    except OSError as error:
        raise SupervisorError(
            f"cannot read `{_PACKAGED / packaged}`: {error.strerror}",
            hint="install training-supervisor again in this environment",
        ) from error
    heading = f"{_WRITTEN_BY}{version}; it is written anew by each `service upgrade`.\n"
    return heading + text.replace("@BIN@", os.fspath(bin_dir))


def is_ours(text: str) -> bool:
    """Say whether a file is one that we may replace or remove."""
    return text.startswith(_WRITTEN_BY) or _OUR_PROGRAM.search(text) is not None


def program_of(text: str) -> str:
    """Return the program that a unit of ours starts, "" if it starts none."""
    found = _OUR_PROGRAM.search(text)
    return found[1] if found is not None else ""
