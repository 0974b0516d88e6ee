"""Root becomes the user whose checkpoints it looks at, removes or exports, for the rest of the command.

Covers: whose a folder is, becoming that user for good. Does not cover: what is done then.

Root may read and remove everything, and the user of a folder chooses what is in it: links to the files of
others, names that change while one looks. As that user nobody reaches what the user could not reach alone.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from supervisor.errors import Refused
from supervisor.system.users import entry_of, user_name
from trainer_shim.late_imports import import_late

__all__ = ["act_as", "owner_of", "whom"]

_PR_SET_NO_NEW_PRIVS: Final = 38

#: What is imported when it is used, besides what the shim says of itself: the user may not be able to read it
#: where it is installed. Of torch, which takes seconds, whoever needs it tells.
_USED_LATER: Final = (
    "numpy",
    "unicodedata",
    "supervisor.cli.checkpoints.diff",
    "supervisor.cli.checkpoints.export_onnx",
    "supervisor.cli.checkpoints.exporting",
    "supervisor.cli.checkpoints.pruning",
    "supervisor.cli.output.failure",
    "trainer_shim.checkpoint.chunks",
)

_STARTED_AS: Final = os.geteuid()


def owner_of(path: Path) -> int:
    """Return whose a path is: of the first folder on the way to it, through no link, that is not root's.

    All that lies below, and where links in it lead, is as that user likes.
    """
    path = path.absolute()
    for place in (*reversed(path.parents), path):
        try:
            uid = place.lstat().st_uid
        except OSError:
            return 0
        if uid != 0:
            return uid
    return 0


def act_as(uid: int) -> None:
    """Become a user for good where this is root and the user another one; raises Refused where it cannot."""
    if os.geteuid() != 0 or uid == 0:
        return
    import_late()
    for module in _USED_LATER:
        # Some are not installed everywhere; who needs one says so.
        with suppress(ModuleNotFoundError):
            import_module(module)
    user = entry_of(uid)
    try:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise Refused(
            f"cannot act as {user_name(uid)}, whose checkpoints these are: {error.strerror}",
            hint="root without the right to become others cannot look at them; act as that user",
        ) from error
    # What another program would be started for is none of it.
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.environ["HOME"] = user.home


def whom() -> str:
    """Return as whom this command acts, "" where that is who started it."""
    return "" if os.geteuid() == _STARTED_AS else user_name(os.geteuid())
