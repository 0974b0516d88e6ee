"""What keeps a service from being installed here, each in words and with the next command.

Covers: no systemd, not root, places and owners of the environment, files of other programs in the way.
Does not cover: what systemd itself refuses (systemctl.py).
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import supervisor
from supervisor.cli.service.files import UNIT, ServiceKind, is_ours
from supervisor.errors import Refused, SupervisorError, UsageError
from supervisor.system.reachable import barrier
from trainer_shim.safe_files import Unsafe, check_folder

__all__ = [
    "MAKE_ONE",
    "check_environment",
    "check_files",
    "check_home",
    "check_person",
    "check_systemd",
    "closed_to_users",
    "find_programs",
]

#: systemd says so of itself: sd_booted(3).
_BOOTED: Final = Path("/run/systemd/system")

#: Emptied at a start of the machine, or cleared of what is old.
_PASSING: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108  # named, not used

#: Where one is made that the service can use and that nobody else writes.
MAKE_ONE: Final = (
    "make one that stays and is root's: `sudo python3 -m venv /opt/training-supervisor`, "
    "install there what this environment has, "
    "`sudo /opt/training-supervisor/bin/supervisorctl service install`"
)


def check_home(home: str | None, environ: Mapping[str, str]) -> None:
    """Refuse a folder of one's own: the service would not know of it."""
    if home:
        raise UsageError(
            "cannot use --home here: a service has the places of its user",
            hint=f"`systemctl edit {UNIT}` with `[Service]`, `Environment=TRAINING_SUPERVISOR_HOME={home}`",
        )
    if environ.get("TRAINING_SUPERVISOR_HOME"):
        raise UsageError(
            "cannot look after a service while TRAINING_SUPERVISOR_HOME is set: it leads commands elsewhere",
            hint="`unset TRAINING_SUPERVISOR_HOME`, then again",
        )


def check_systemd(kind: ServiceKind, environ: Mapping[str, str], booted: Path = _BOOTED) -> None:
    """Refuse where no systemd runs, or none that listens to this person."""
    if not booted.is_dir() or shutil.which("systemctl") is None:
        raise SupervisorError(
            "cannot use a service here: systemd does not run this machine",
            hint="start the daemon by hand: `training-supervisord &`",
        )
    if kind.is_personal and not environ.get("XDG_RUNTIME_DIR"):
        name = pwd.getpwuid(os.geteuid()).pw_name
        shell = f"log in as {name} with ssh or `machinectl shell {name}@`; `su` and `sudo -u` do not set it"
        raise SupervisorError(
            f"cannot reach the systemd of {name}: XDG_RUNTIME_DIR is not set in this shell",
            hint=shell if os.geteuid() else "leave out --user: root's daemon is the system's",
        )


def check_person(kind: ServiceKind, uid: int, *, verb: str, program: str) -> None:
    """Refuse who may not change this service."""
    if kind.is_personal and uid == 0:
        raise UsageError(
            f"cannot {verb} a person's service as root: root's daemon is the system's",
            hint=f"leave out --user: `{program} service {verb}`",
        )
    if not kind.is_personal and uid != 0:
        raise Refused(
            f"cannot {verb} the system's service: that is root's to do",
            hint=f"`sudo {program} service {verb}`; for one of your own `{program} service {verb} --user`",
        )


def find_programs(argv0: str) -> Path:
    """Return the folder that has both programs, through the links that pipx and uv make."""
    places = [Path(argv0).resolve().parent, Path(sysconfig.get_path("scripts"))]
    for folder in places:
        if all(os.access(folder / name, os.X_OK) for name in (UNIT, "supervisorctl")):
            return folder
    raise SupervisorError(
        f"cannot find `{UNIT}` and `supervisorctl` in one folder: looked in {' and '.join(map(str, places))}",
        hint="install training-supervisor again in an environment of its own, and call its supervisorctl",
    )


def check_environment(kind: ServiceKind, bin_dir: Path) -> None:
    """Refuse an environment that will be gone, or in which others could change what root's daemon is."""
    package = Path(supervisor.__file__).resolve().parent
    for folder in (bin_dir, package):
        gone = next((place for place in _PASSING if folder.is_relative_to(place)), "")
        # `uvx` and `uv run` make environments there that `uv cache prune` takes away.
        if not gone and ".cache" in folder.parts:
            gone = "a cache"
        if gone:
            hint = MAKE_ONE if not kind.is_personal else "install training-supervisor in a folder that stays"
            raise SupervisorError(
                f"cannot install from `{folder}`: what lies below {gone} does not stay", hint=hint
            )
    if not kind.is_personal:
        python = Path(sys.executable).resolve().parent
        _check_owners([bin_dir, package, python, *_import_folders(sys.path)])


def closed_to_users(kind: ServiceKind, bin_dir: Path) -> str:
    """Return why other users' jobs could not be started from this environment; "" where they can."""
    if kind.is_personal:
        return ""
    for needed in (
        bin_dir / "supervisorctl",
        Path(sys.executable),
        Path(os.__file__),
        Path(supervisor.__file__),
    ):
        if (closed := barrier(needed)) is not None:
            return (
                f"users other than root may not enter or read `{closed}`, on the way to `{needed}`: "
                "none of their jobs can be started"
            )
    return ""


def _import_folders(search_path: Iterable[str]) -> list[Path]:
    return [Path(entry) for entry in search_path if os.path.isdir(entry)]  # noqa: PTH112  # "" is no folder


def _check_owners(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            check_folder(folder)
        except Unsafe as error:
            raise Refused(
                f"cannot install from `{folder}`: {error.strerror}, so others than root could change what "
                "root's daemon does",
                hint=MAKE_ONE,
            ) from error


def check_files(kind: ServiceKind) -> None:
    """Refuse to replace or remove what another program, or a person, put there."""
    for path in kind.files.values():
        if path.is_symlink():
            masked = str(path.readlink()) == os.devnull
            hint = kind.command("systemctl", "unmask", path.name) if masked else f"rm {path}"
            what = "masked" if masked else "a link to somewhere else"
            raise Refused(f"cannot use `{path}`: it is {what}", hint=f"`{hint}`, then again")
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SupervisorError(
                f"cannot read `{path}`: {error.strerror}", hint=f"`ls -ld {path}`"
            ) from error
        if not is_ours(text):
            raise Refused(
                f"cannot use `{path}`: it is there and not ours, another program may have brought it",
                hint=f"look at it (`cat {path}`); if nobody needs it, `mv {path} {path}.other`, then again",
            )
