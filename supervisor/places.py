"""What a daemon needs before it can serve: folders of its own, the lock, descriptors.

Covers: making them, and what to say where that is impossible.
Does not cover: which folders these are (paths.py), the journal and the sockets in them (store/, server/).
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

from supervisor.errors import SupervisorError, UsageError
from supervisor.paths import Paths
from supervisor.set_aside import SetAside
from supervisor.system.locks import take_lock
from trainer_shim.lock_file import HeldLock
from trainer_shim.safe_files import Unsafe, check_folder, make_folder

__all__ = ["check_room", "check_user", "full_disk", "make_configuration", "make_own", "take_places"]

#: Sockets, journal, sensors and what a turn opens for a moment.
_MIN_FILES: Final = 44

#: A journal grows by pages, a log by whatever is printed.
_MIN_ROOM_BYTES: Final = 256 << 10


def make_configuration(paths: Paths) -> tuple[SetAside, ...]:
    """Make the folders that people write to; without them the daemon has its defaults, and goes on."""
    try:
        for folder in (paths.config_dir, paths.jobs_dir):
            make_folder(folder)
    except OSError as error:
        why = f"cannot use the folder `{folder}`: {error.strerror}"
        hint = "put it right and restart the daemon; what can be read of it is in force"
        return (SetAside(kind="folder", name=folder.name, where=str(folder), why=why, hint=hint),)
    return ()


def take_places(paths: Paths) -> int:
    """Make the folders and take the lock; only one daemon serves them."""
    make_own(paths.state_dir, for_sockets=False, is_open=paths.serves_all)
    make_own(paths.run_dir, for_sockets=True, is_open=paths.serves_all)
    try:
        return take_lock(paths.lock)
    except HeldLock as held:
        holder = held.holder or "unknown"
        raise SupervisorError(
            f"cannot start: another daemon (process {holder}) serves `{paths.state_dir}`",
            hint=f"use it (`supervisorctl status`), end it (`kill {holder}`), or choose another --home",
        ) from None
    except OSError as error:
        raise SupervisorError(
            f"cannot use `{paths.lock}`: {error.strerror}", hint="check the disk, or choose another --home"
        ) from error


def check_user(paths: Paths) -> None:
    """Raise UsageError where the daemon is to serve users whom it could not act as."""
    if paths.serves_all and os.geteuid() != 0:
        raise UsageError(
            "cannot serve all users: only root's daemon can",
            hint="start it as root, or leave out --system for a daemon of your own",
        )


def check_room() -> None:
    """Raise SupervisorError where the daemon may not even open what it needs for itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _MIN_FILES:
        raise SupervisorError(
            f"cannot start: at most {most} files may be open, {_MIN_FILES} are needed without a single job",
            hint="raise the hard limit (`ulimit -Hn`); each job takes up to three",
        )


def full_disk(folder: Path) -> SetAside | None:
    """Say so where nothing more fits on a folder's disk: what runs there cannot tell how it ended."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        # A folder that is gone is told by whoever needs it.
        return None
    num_free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    left = f"{num_free * disk.f_frsize >> 10} KiB"
    if disk.f_files and not disk.f_ffree:
        left = "no room for another file"
    elif num_free * disk.f_frsize >= _MIN_ROOM_BYTES:
        return None
    return SetAside(
        kind="folder",
        name=folder.name,
        where=str(folder),
        why=f"cannot store anything more in `{folder}`: its disk is full, {left} left",
        hint="make room; until then nothing new is begun there, and jobs that end cannot tell how",
    )


def make_own(folder: Path, *, for_sockets: bool, is_open: bool = False) -> None:
    """Make it; refuse that of another user, and for sockets one where others could listen in our place.

    An open one is a way for all users, who pass to logs and run folders of their own jobs and list nothing
    but sockets; still nobody else may write it.
    """
    try:
        make_folder(folder)
        if for_sockets:
            check_folder(folder)
        elif (owner := folder.stat().st_uid) != os.geteuid():
            raise Unsafe(f"it belongs to user id {owner}", hint="correct its owner")
        if is_open:
            folder.chmod(0o755 if for_sockets else 0o711)
    except OSError as error:
        first = f"{error.hint}, or " if isinstance(error, Unsafe) else ""
        raise SupervisorError(
            f"cannot use the folder `{folder}`: {error.strerror}",
            hint=f"{first}choose another place with --home",
        ) from error
