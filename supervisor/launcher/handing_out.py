"""The folder of a start, and what in it and beside it is its user's.

Covers: making it, and handing run folder and log to another user before anything runs as that one.
Does not cover: reading what that one writes there (records.py).

The folders above a run folder and the log stay the daemon's: other users pass through them to what is theirs,
list nothing and change no name. So no user can put anything in the place of a run folder or a log, or reach
those of another.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from supervisor.core.jobs.job import Owner
from supervisor.launcher import records
from supervisor.ports import LaunchSpec
from supervisor.system.marks import jobs_folder
from trainer_shim.safe_files import Unsafe, make_folder, open_regular

__all__ = ["prepare"]

#: Others pass, and see no names.
_PASSAGE = 0o711


def prepare(spec: LaunchSpec) -> None:
    """Make what a keeper needs; raises OSError."""
    records.write_owner(spec.run_dir, spec.journal)
    if spec.owner is None:
        return
    _open_passage(spec.run_dir.parent, jobs_folder(spec.run_dir))
    make_folder(spec.log.parent)
    group = _primary_group(spec.owner)
    log = open_regular(spec.log, os.O_WRONLY | os.O_CREAT)
    run_dir = -1
    try:
        run_dir = os.open(spec.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        for fd, path in ((log, spec.log), (run_dir, spec.run_dir)):
            _hand_over(fd, path, spec.owner, group)
    finally:
        for fd in (log, run_dir):
            if fd >= 0:
                os.close(fd)


def _open_passage(folder: Path, top: Path) -> None:
    for place in (folder, *folder.parents):
        if place != top and top not in place.parents:
            return
        place.chmod(_PASSAGE)


def _hand_over(fd: int, path: Path, owner: Owner, group: int) -> None:
    """Give what is ours to the user; what is another's already is an error."""
    uid = os.fstat(fd).st_uid
    if uid == owner.uid:
        return
    if uid != os.geteuid():
        raise Unsafe(f"`{path}` belongs to user id {uid}", hint="move it away")
    os.fchown(fd, owner.uid, group)


def _primary_group(owner: Owner) -> int:
    try:
        return pwd.getpwuid(owner.uid).pw_gid
    except KeyError:
        raise Unsafe(f"there is no user `{owner.name}` any more", hint="remove the job") from None
