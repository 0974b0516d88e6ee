"""Who may do what: one table from message to right, and what others see of a job. Pure.

Covers: the right that each message needs, who has it, the settings that change both.
Does not cover: who is at the other end (the kernel says so, server/access.py), what a message does.

The table is total: a message that is not in it is nobody's.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple

from msgspec import Meta, Struct

__all__ = ["RIGHTS", "Right", "RightsConfig", "See", "Speaker", "UsersConfig", "may", "right_to", "verb_of"]

#: `anybody`; `own`: the job's user, and admins; `admin`; `process`: a process of the job, whoever's.
Right = Literal["anybody", "own", "admin", "process"]

#: What users see of the jobs of others: all but their environment, their lines in `status`, nothing.
See = Literal["all", "rows", "none"]

#: By the tag of the message. What only looks at jobs is cut to what its asker may see (`RightsConfig.see`).
RIGHTS: Final[MappingProxyType[str, Right]] = MappingProxyType(
    {
        # Who asks gets what is his to see.
        "status-request": "anybody",
        "watch-request": "anybody",
        "show-request": "anybody",
        "events-request": "anybody",
        "why-request": "anybody",
        "policy-request": "anybody",
        "version-request": "anybody",
        # Readings of all jobs, in blocks that are not taken apart.
        "samples-request": "admin",
        # It makes a job of his own.
        "run-request": "anybody",
        "pause-request": "own",
        "resume-request": "own",
        "stop-request": "own",
        "kill-request": "own",
        "restart-request": "own",
        "checkpoint-request": "own",
        "remove-request": "own",
        "set-request": "own",
        # It changes what all jobs are treated by.
        "reload-request": "admin",
        # A shim's words are about its process, and nobody else's, not even an admin's.
        "hello": "process",
        "heartbeat": "process",
        "stage": "process",
        "saving": "process",
        "checkpointed": "process",
        "yielded": "process",
        "cannot-yield": "process",
        "resumed": "process",
    }
)

_Verb = Literal["anybody", "own", "admin"]
_Owned = Literal["own", "admin"]
_OWNED: Final = "own (the job's user, and admins) or admin"
#: How an admin is written: a user or a group of this machine.
_Admin = Annotated[str, Meta(pattern=r"^(user|group):[^\s:]{1,64}\Z")]


def _who(what: str, *, choices: str = "anybody, own (the job's user, and admins) or admin") -> Meta:
    return Meta(description=f"Who may {what}: {choices}.")


class RightsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what, where the daemon serves all users (root's): anybody, own (the job's user) or admin."""

    admins: Annotated[
        tuple[_Admin, ...],
        Meta(
            max_length=100,
            description='Admins beside root and the daemon\'s own user: ["user:ada", "group:trainers"].',
        ),
    ] = ()
    see: Annotated[
        See,
        Meta(
            description="What users see of others' jobs: all (but their environment), rows (state, progress, "
            "use; no command, paths, reasons) or none."
        ),
    ] = "rows"
    run: Annotated[_Verb, _who("start jobs of his own", choices="anybody or admin")] = "anybody"
    pause: Annotated[_Verb, _who("pause jobs")] = "own"
    resume: Annotated[_Verb, _who("resume jobs")] = "own"
    stop: Annotated[_Verb, _who("stop jobs")] = "own"
    kill: Annotated[_Verb, _who("kill jobs")] = "own"
    restart: Annotated[_Verb, _who("restart jobs")] = "own"
    checkpoint: Annotated[_Verb, _who("have jobs save")] = "own"
    remove: Annotated[_Verb, _who("forget jobs that are over")] = "own"
    set: Annotated[_Verb, _who("change priority, protection and labels of jobs")] = "own"
    start: Annotated[
        _Owned,
        _who(
            "let go on at once what waits for its turn: a queued job, a paused one without a process",
            choices=_OWNED,
        ),
    ] = "admin"
    protect: Annotated[_Owned, _who("protect jobs from the rules", choices=_OWNED)] = "admin"
    show: Annotated[_Verb, _who("show a job, as far as `see` goes")] = "anybody"
    events: Annotated[_Verb, _who("list events of jobs, as far as `see` goes")] = "anybody"
    why: Annotated[_Verb, _who("ask why jobs are where they are, as far as `see` goes")] = "anybody"
    policy: Annotated[_Verb, _who("see rules and their readings", choices="anybody or admin")] = "anybody"
    samples: Annotated[
        _Verb, _who("see recorded readings, those of all jobs", choices="anybody or admin")
    ] = "admin"
    reload: Annotated[_Verb, _who("have the daemon read its files", choices="anybody or admin")] = "admin"


class UsersConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What one user may take of the daemon; root and the daemon's own user are not bounded by it."""

    max_connections: Annotated[
        int, Meta(ge=4, le=4096, description="Connections; at the limit a silent one makes room.")
    ] = 512
    max_held_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=32 << 20,
            description="What all of them may make the daemon hold: messages and answers not taken. Bytes.",
        ),
    ] = 8 << 20
    requests_per_s: Annotated[
        float,
        Meta(
            ge=1,
            le=10000,
            description="Requests and connections a second; more wait. Each counts once for each of its "
            "milliseconds.",
        ),
    ] = 100.0
    requests_at_once: Annotated[
        int, Meta(ge=10, le=100000, description="The same at once, after a time without any.")
    ] = 500
    max_jobs: Annotated[
        int, Meta(ge=1, le=100000, description="Jobs that are known, those that are over among them.")
    ] = 500


class Speaker(NamedTuple):
    """What whoever says something is to the job that it is about."""

    #: His process has the user that the job belongs to.
    is_owner: bool = False
    is_admin: bool = False
    #: It is a process of this very job.
    is_of_job: bool = False


def right_to(tag: str, config: RightsConfig) -> Right | None:
    """Return the right that a message needs, None for one that nobody may send."""
    usual = RIGHTS.get(tag)
    if usual is None or usual == "process":
        return usual
    said: Right = getattr(config, verb_of(tag), usual)
    return said


def may(right: Right | None, speaker: Speaker) -> bool:
    """Say whether who speaks has a right."""
    match right:
        case "anybody":
            return True
        case "own":
            return speaker.is_owner or speaker.is_admin
        case "admin":
            return speaker.is_admin
        case "process":
            return speaker.is_of_job
        case None:
            return False


def verb_of(tag: str) -> str:
    """Return what people call a request: `pause` for `pause-request`."""
    return tag.removesuffix("-request")
