"""User ids to names.

Covers: the one look into the user database. Does not cover: who may do what (server/access.py).
"""

from __future__ import annotations

import pwd
from functools import cache

__all__ = ["user_name"]


@cache
def user_name(uid: int) -> str:
    """Return the name, or a word with the number; cached, because the database may be a slow server."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
