"""One tree of errors; each says what could not be done and what to do next.

    SupervisorError               exit code 1
    |-- UsageError                exit code 2: the request itself is wrong
    |   |-- ConfigError           a file, with the key or line that is wrong
    |   `-- UnknownJob            no job has that name
    |-- Refused                   exit code 3: right request, wrong moment or person
    |   |-- InvalidTransition     the job's state does not allow it
    |   `-- NameTaken             a job of that name is already there
    |-- NoDaemon                  exit code 4: nobody answers
    |   `-- Unanswered            exit code 5: nobody answered what may have been taken
    `-- NotStored                 exit code 5: taken, and not certain to be carried out

A new class stands here only where a caller acts differently because of it.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "InvalidTransition",
    "NameTaken",
    "NoDaemon",
    "NotStored",
    "Refused",
    "SupervisorError",
    "Unanswered",
    "UnknownJob",
    "UsageError",
]


class SupervisorError(Exception):
    """`str(e)` says what could not be done, `e.hint` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SupervisorError):
    """The request cannot be right in any state."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration or job file is wrong; the message names file and key."""


class UnknownJob(UsageError):
    """No job has that name."""

    def __init__(self, name: str, *, nearest: str = "") -> None:
        hint = f"did you mean `{nearest}`? " if nearest else ""
        super().__init__(f"cannot find job `{name}`", hint=hint + "`supervisorctl status` lists all jobs")


class Refused(SupervisorError):
    """The request is right but not now, or not by this person."""

    exit_code = 3


class InvalidTransition(Refused):
    """An event arrived that the job's present state does not allow."""

    def __init__(self, job: str, state: str, event: str, allowed: str) -> None:
        super().__init__(
            f"cannot {event} job `{job}`: it is {state}",
            hint=f"a {state} job accepts: {allowed}. See `supervisorctl show {job}`",
        )


class NameTaken(Refused):
    """A job of that name exists; names are never used twice at a time."""

    def __init__(self, name: str, state: str) -> None:
        super().__init__(
            f"cannot start a second job `{name}`: the name is taken by a {state} job",
            hint=f"choose another --name, or `supervisorctl restart {name}`; "
            f"`supervisorctl remove {name}` frees the name of a job that is over",
        )


class NoDaemon(SupervisorError):
    """Nobody listens on the control socket, or it does not answer in time."""

    exit_code = 4


class Unanswered(NoDaemon):
    """A request that changes something was sent, and whether it was taken is not known."""

    exit_code = 5


class NotStored(SupervisorError):
    """A request was taken that the journal cannot store at present."""

    exit_code = 5
