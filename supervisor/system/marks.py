"""Which job a process belongs to by what it was started with: the folder of its start, or its control group.

Covers: reading both of any process, also long after the job's command ended; how groups are named.
Does not cover: parents and sessions, which find who has neither (launcher/, monitors/); making groups.

What an environment says is believed only of processes of the job's own user, whose the folder of its
start is: another's program could name any folder, and would be ended for it, or not be counted as
foreign. Who owns its files in /proc does not tell: those of a process that cannot be
dumped are root's, whoever runs it, as any program can ask for. Into a group of ours
nobody comes without our user's leave. Its name says nothing: the systemd of each user makes
groups of any name for that user. So it counts who owns the group.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.core.jobs import names
from supervisor.system.cgroups import group_owner
from supervisor.system.procfs import parse_stat, users_of
from supervisor.system.started_with import started_with

__all__ = [
    "GROUP",
    "JobStart",
    "Marks",
    "group_name",
    "group_prefix",
    "jobs_folder",
    "marks_of",
    "names_of_groups",
    "start_of",
]

#: What the name of each group of ours begins with, whichever daemon made it.
GROUP: Final = re.compile(r"training-supervisor-[0-9a-f]{12}-")

_UNIT: Final = ".service"
_KEEPER: Final = b"keeper.py"
_NAME: Final = b"\0TRAINING_SUPERVISOR_RUN_DIR="
#: Some twenty hierarchies, a path each.
_MOST_GROUP_BYTES: Final = 1 << 16
#: So many groups are remembered.
_MOST_GROUPS: Final = 10_000


class JobStart(NamedTuple):
    """One start of a job's command."""

    job: str
    incarnation: int


def start_of(run_dir: Path) -> JobStart | None:
    """Return the start that a run folder is of."""
    job_dir = run_dir.parent
    return _start(names.key_of_folder(job_dir.parent.name, job_dir.name), run_dir.name)


def jobs_folder(run_dir: Path) -> Path:
    """Return the folder of all jobs of a daemon, of the folder of one start."""
    above = run_dir.parent.parent
    return above.parent if names.is_user_folder(above.name) else above


def _start(job: str, folder: str) -> JobStart | None:
    number = folder.removeprefix("run-")
    return JobStart(job, int(number)) if number != folder and number.isdecimal() else None


def group_prefix(folder: Path) -> str:
    """Return what the names of the groups of one daemon's jobs begin with; JOB.INCARNATION follows."""
    return f"training-supervisor-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}-"


def group_name(folder: Path, start: JobStart) -> str:
    """Return the name of the group of a start, by the folder of all jobs."""
    return f"{group_prefix(folder)}{names.group_word(start.job)}.{start.incarnation}"


def names_of_groups(folder: Path, start: JobStart) -> tuple[str, str]:
    """Return what the group of a start can be called: one of our own, and that of a unit of systemd."""
    name = group_name(folder, start)
    return name, f"{name}{_UNIT}"


class Marks:
    """Marks of the jobs whose files lie below one folder, those of one daemon."""

    def __init__(self, folder: Path, *, proc: Path = Path("/proc")) -> None:
        self._folder = os.fsencode(folder) + b"/"
        self._proc = str(proc)
        prefix = group_prefix(folder).encode()
        #: A line as far as the group, and the start that the group is named after.
        self._group = re.compile(rb"^([^\n]*?/" + prefix + rb"([^/\n]*))", re.MULTILINE)
        #: Whether a group, by its line, is ours.
        self._is_ours: dict[bytes, bool] = {}
        #: A daemon that was started within a job: that group holds keepers of others as well.
        self._around: JobStart | None = None
        self._around = self._in_group("self")

    def of(self, pid: int) -> JobStart | None:
        """Return the start that a process comes from; None where it has no mark of ours, or is gone."""
        found = self._named(pid)
        if found is None and (found := self.group_of(pid)) is not None and self._is_keeper(pid):
            return None
        return found

    def group_of(self, pid: int) -> JobStart | None:
        """Return the start whose control group a process is in; its keeper may be, which is no part of it."""
        return self._in_group(str(pid))

    def _is_keeper(self, pid: int) -> bool:
        """Say whether this is the keeper in a unit: by its words, and by a parent that is not in there.

        Who takes its words only is still below the keeper.
        """
        try:
            stat = parse_stat(Path(f"{self._proc}/{pid}/stat").read_bytes())
        except (OSError, ValueError):
            return False
        words = started_with(pid, "cmdline", proc=self._proc).split(b"\0")
        is_named_so = any(os.path.basename(word) == _KEEPER for word in words[:5])  # noqa: PTH119
        return is_named_so and self._in_group(str(stat.parent)) != self._in_group(str(pid))

    def _in_group(self, pid: str) -> JobStart | None:
        try:
            fd = os.open(f"{self._proc}/{pid}/cgroup", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            text = os.read(fd, _MOST_GROUP_BYTES)
        except OSError:
            return None
        finally:
            os.close(fd)
        found = next((match[2] for match in self._group.finditer(text) if self._owns(match[1])), b"")
        # Of a start that is a unit of systemd, it is the unit's group.
        job, _, number = os.fsdecode(found).removesuffix(_UNIT).rpartition(".")
        start = JobStart(names.key_of_group_word(job), int(number)) if job and number.isdecimal() else None
        return None if start == self._around else start

    def _owns(self, line: bytes) -> bool:
        """Say whether root or our user owns a group, which stays so."""
        if line not in self._is_ours:
            owner = group_owner(os.fsdecode(line), proc=Path(self._proc))
            if owner is None:
                return False
            if len(self._is_ours) >= _MOST_GROUPS:
                self._is_ours.clear()
            self._is_ours[line] = owner in (0, os.geteuid())
        return self._is_ours[line]

    def _named(self, pid: int) -> JobStart | None:
        environment = b"\0" + started_with(pid, "environ", proc=self._proc)
        _, is_there, rest = environment.partition(_NAME)
        value = rest.partition(b"\0")[0]
        if not is_there or not value.startswith(self._folder):
            return None
        path, _, run = os.fsdecode(value[len(self._folder) :]).rpartition("/")
        key = names.key_of_path(path)
        start = _start(key, run) if key else None
        # Last, because it costs files for each process, and asked of few.
        return start if start is not None and self._is_of_its_user(pid, value) else None

    def _is_of_its_user(self, pid: int, run_dir: bytes) -> bool:
        """Say whether it runs as the user of the job that it names, who owns the folders of its starts.

        Nobody but us makes such a folder or gives it away (launcher/handing_out.py).
        """
        try:
            user = os.lstat(run_dir).st_uid
        except OSError:
            # It was removed: only of our own jobs it is still known whose it was.
            user = os.geteuid() if run_dir.count(b"/") == self._folder.count(b"/") + 1 else -1
        # A setuid program has the environment of whoever called it.
        return set(users_of(pid, self._proc)) == {user}

    def left_of(self, job: str) -> list[int]:
        """Return the numbers of all processes that come from any start of a job; reads all of /proc."""
        found = []
        for name in os.listdir(self._proc):  # noqa: PTH208  # A Path each costs more.
            start = self.of(int(name)) if name.isdecimal() else None
            if start is not None and start.job == job:
                found.append(int(name))
        return sorted(found)


@lru_cache(maxsize=8)
def marks_of(folder: Path) -> Marks:
    """Return the marks of the jobs below a folder; kept, as much is read to know a group as ours."""
    return Marks(folder)
