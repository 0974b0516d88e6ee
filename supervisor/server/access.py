"""Who may do what: decided by what the kernel says of a peer, never by what the peer says.

Covers: who a peer is (user, admin), what he calls jobs and which are his, what he may do and see of one.
Does not cover: which right a message needs (core/rights.py), cutting answers (views.py).

A daemon that serves its own user and root, as each does that is not the system's, has no other peers: all
of them may do everything, and a name means one job whoever says it.
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any, Final

import structlog

from supervisor.core.jobs import names
from supervisor.core.jobs.job import Job, Owner, Pid
from supervisor.core.rights import RightsConfig, See, Speaker, may, right_to, verb_of
from supervisor.errors import Refused
from supervisor.past_jobs import PastJob
from supervisor.server.router import Peer
from supervisor.system.procfs import line_of
from supervisor.system.users import user_name

__all__ = ["Access", "is_within"]

#: The first ones and then every so many: whoever asks in a loop must not fill the log.
_TOLD_ALL: Final = 20
_TOLD_EACH: Final = 100

#: Where the word for a request is none that a person uses.
_SAID: Final = {"samples": "read what was recorded"}

_KINDS: Final = {"user": "a user", "group": "a group"}


class Access:
    """What each peer is to the daemon and its jobs. Used from the loop's thread only."""

    def __init__(self, *, serves_all: bool = False, own_uid: int | None = None) -> None:
        """Serve all users of the machine, or the own user and root."""
        self.serves_all = serves_all
        self.own_uid = os.geteuid() if own_uid is None else own_uid
        #: Requests that were refused for want of a right, since the start.
        self.num_denied = 0
        self._log = structlog.get_logger("access")
        self._own_part = names.user_part(self.own_uid, user_name(self.own_uid))
        self.configure(RightsConfig())

    def configure(self, config: RightsConfig) -> None:
        """Take new settings; who is named there and is not known here is left out, and told by `alerts()`."""
        self._config = config
        self._admin_uids, self._admin_gids = {0, self.own_uid}, set[int]()
        self._unknown: list[str] = []
        for word in config.admins:
            kind, _, name = word.partition(":")
            try:
                if kind == "user":
                    self._admin_uids.add(pwd.getpwnam(name).pw_uid)
                else:
                    self._admin_gids.add(grp.getgrnam(name).gr_gid)
            except KeyError:
                self._unknown.append(f"`{word}` in `rights.admins` is not {_KINDS[kind]} of this machine")

    def alerts(self) -> list[str]:
        """Return what the settings name and is not there."""
        return self._unknown

    # --- who it is ----------------------------------------------------------------------------

    def is_admin(self, peer: Peer) -> bool:
        """Say whether he may act on the jobs of all."""
        is_one = peer.uid in self._admin_uids or not self._admin_gids.isdisjoint(peer.groups)
        return is_one or not self.serves_all

    def user(self, peer: Peer) -> str:
        """Return what the keys of his jobs begin with; "" is the daemon's own user."""
        if not self.serves_all or peer.uid == self.own_uid:
            return ""
        return names.user_part(peer.uid, user_name(peer.uid))

    def owner(self, peer: Peer) -> Owner | None:
        """Return whom a job belongs to that he starts; None is the daemon's own user."""
        return Owner(peer.uid, user_name(peer.uid)) if self.user(peer) else None

    def is_bounded(self, peer: Peer) -> bool:
        """Say whether he is held to what one user may take."""
        return self.serves_all and peer.uid not in (0, self.own_uid)

    # --- names --------------------------------------------------------------------------------

    def key(self, peer: Peer, said: str) -> str:
        """Return the key of the job that he means: a plain NAME is his own."""
        user, slash, name = said.partition("/")
        if not slash:
            return names.key_of(self.user(peer), said)
        return name if self.serves_all and user == self._own_part else said

    def shown(self, peer: Peer, key: str) -> str:
        """Return what a job is called in answers to him: his own by their plain NAME."""
        user = names.user_of(key)
        if not self.serves_all or user == self.user(peer):
            return names.plain(key) if user else key
        return key if user else f"{self._own_part}/{key}"

    def named(self, user: str) -> str:
        """Return the user whose keys begin with that, as people know him."""
        return user or self._own_part

    # --- what he may --------------------------------------------------------------------------

    def owns(self, peer: Peer, key: str, job: Job | PastJob | None) -> bool:
        """Say whether a job is his, or was; never by the name in its key, which others may have by now.

        One of which nothing is known is the daemon's own user's, or nobody's.
        """
        if not self.serves_all:
            return True
        if job is None:
            return peer.uid == self.own_uid and not names.user_of(key)
        if isinstance(job, PastJob):
            return peer.uid == job.uid
        return peer.uid == (self.own_uid if job.spec.uid is None else job.spec.uid)

    def sight(self, peer: Peer, key: str, job: Job | PastJob | None) -> See:
        """Return what he may see of a job."""
        return "all" if self.is_admin(peer) or self.owns(peer, key, job) else self._config.see

    def sees_others(self, peer: Peer) -> bool:
        """Say whether he may know of the jobs of others at all."""
        return self.is_admin(peer) or self._config.see != "none"

    def may(self, peer: Peer, message: Any, key: str = "", job: Job | PastJob | None = None) -> bool:
        """Say whether he may ask that, of a job where there is a key."""
        owns = bool(key) and self.owns(peer, key, job)
        return may(right_to(_tag(message), self._config), Speaker(owns, self.is_admin(peer)))

    def check_served(self, peer: Peer, message: Any) -> None:
        """Raise Refused unless the daemon serves him at all."""
        if not self.serves_all and peer.uid not in (0, self.own_uid):
            self._deny(peer, message)
            raise Refused(
                f"cannot let user {peer.asker()} act on these jobs: "
                f"the daemon runs for user id {self.own_uid}",
                hint="start a daemon of your own: `training-supervisord`",
            )

    def check(self, peer: Peer, message: Any, key: str = "", job: Job | PastJob | None = None) -> None:
        """Raise Refused unless he may ask that, of a job where there is a key."""
        if self.may(peer, message, key, job):
            return
        self._deny(peer, message, key)
        verb = verb_of(_tag(message))
        if not key or right_to(_tag(message), self._config) == "admin":
            what = f"{verb} job `{self.shown(peer, key)}`" if key else _SAID.get(verb, verb)
            raise Refused(
                f"cannot {what}: only admins may",
                hint="ask root, or whom `rights.admins` in the daemon's config.toml names",
            )
        owner = job.spec.owner if isinstance(job, Job) else None
        whose = owner.name if owner else names.user_of(key) or self._own_part
        raise Refused(
            f"cannot {verb} job `{self.shown(peer, key)}`: it belongs to {whose}",
            hint=f"ask {whose}, or an admin; `supervisorctl status` shows which jobs are yours",
        )

    def may_start(self, peer: Peer) -> bool:
        """Say whether he may let jobs of his own go on before their turn."""
        return self.is_admin(peer) or self._config.start == "own"

    def check_start(self, peer: Peer, message: Any, key: str) -> None:
        """Raise Refused unless he may start a queued job before its turn."""
        if not self.may_start(peer):
            shown = self.shown(peer, key)
            self._deny(peer, message, key)
            raise Refused(
                f"cannot start job `{shown}` before its turn: only admins may",
                hint=f"it starts by itself, `supervisorctl why {shown}` tells more; `rights.start` in the "
                "daemon's config.toml says who may",
            )

    def check_protect(self, peer: Peer, message: Any, key: str) -> None:
        """Raise Refused unless he may have a job of his own left alone by rules; no key: a new one."""
        if not (self.is_admin(peer) or self._config.protect == "own"):
            self._deny(peer, message, key)
            what = f"job `{self.shown(peer, key)}`" if key else "it"
            raise Refused(
                f"cannot protect {what} from the rules: only admins may",
                hint="go on without that, or ask an admin: `supervisorctl set USER/NAME --protect`; "
                "`rights.protect` in the daemon's config.toml says who may",
            )

    def check_all_users(self, peer: Peer, message: Any) -> None:
        """Raise Refused unless he may act on the jobs of all users at once."""
        if not self.is_admin(peer):
            self._deny(peer, message)
            raise Refused(
                f"cannot {verb_of(_tag(message))} the jobs of all users: only admins may",
                hint="`--all` means your own jobs",
            )

    def _deny(self, peer: Peer, message: Any, key: str = "") -> None:
        self.num_denied += 1
        if self.num_denied <= _TOLD_ALL or self.num_denied % _TOLD_EACH == 0:
            self._log.warning(
                "denied",
                uid=peer.uid,
                pid=peer.pid,
                verb=verb_of(_tag(message)),
                job=key or None,
                total=self.num_denied,
            )


def _tag(message: Any) -> str:
    return str(type(message).__struct_config__.tag)


def is_within(pid: int, root: Pid) -> bool:
    """Say whether a process descends from the job's command, or lives in its session."""
    return any(
        one == root.pid or (stat is not None and stat.session == root.pid) for one, stat in line_of(pid)
    )
