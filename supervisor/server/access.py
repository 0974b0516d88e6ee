"""Who may do what: decided by what the kernel says of a peer, never by what the peer says."""

from __future__ import annotations

import os

from supervisor.core.jobs.job import Pid
from supervisor.errors import Refused
from supervisor.server.router import Peer
from supervisor.system.procfs import read_stat

__all__ = ["check_may_act", "is_within"]

#: A process tree is never that deep; a loop in what we read must end.
_MAX_DEPTH = 100


def check_may_act(peer: Peer) -> None:
    """Raise Refused unless the peer is the daemon's own user or root."""
    if peer.uid not in (0, os.geteuid()):
        raise Refused(
            f"cannot let user {peer.asker()} act on these jobs: the daemon runs for user id {os.geteuid()}",
            hint="start a daemon of your own: `training-supervisord`",
        )


def is_within(pid: int, root: Pid) -> bool:
    """Say whether a process descends from the job's command, or lives in its session."""
    seen = pid
    for _ in range(_MAX_DEPTH):
        if seen == root.pid:
            return True
        stat = read_stat(seen)
        if stat is None:
            return False
        if stat.session == root.pid:
            return True
        if stat.parent <= 1:
            return False
        seen = stat.parent
    return False
