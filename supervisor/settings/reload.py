"""Configuration and drop-in files into the running daemon: all of a file or nothing of it.

Covers: reading at start, on change and on request; which job files are new,
changed or gone; what is wrong with them, for `status`. A file at a time: a long one takes half a second,
and whoever talks to the daemon is not to wait for all of them.
Does not cover: noticing changes (watch.py), the files' format (config.py, jobfile.py).

A bad configuration leaves the one before in force. A bad job file concerns
that job alone. A job file that goes away leaves its job as it is. What other
users could have written is a bad file: a job file is a command to be run.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from supervisor.core.jobs.events import JobEvent, SpecChanged
from supervisor.core.jobs.job import Job, JobSpec
from supervisor.core.replacing import replace
from supervisor.errors import ConfigError, SupervisorError
from supervisor.paths import Paths
from supervisor.set_aside import SetAside
from supervisor.settings.config import Config, load
from supervisor.settings.jobfile import read_job_file
from supervisor.system.users import user_name
from trainer_shim.safe_files import Unsafe, check_folder, read_checked

__all__ = ["SettingsFiles"]


#: File systems tell times to two seconds at worst.
_TICK_S = 2.5

#: Who waits for the end of a round hears from it so often.
_TELL_S = 1.0

#: Is told what is set aside.
_Then = Callable[[tuple[SetAside, ...]], None]


class _Waiting(NamedTuple):
    """Who waits for the end of a round, and is told meanwhile how many files were read."""

    then: _Then
    meanwhile: Callable[[int], None] = lambda _num_read: None


_JOB_FILE = re.compile(r"[^.].*\.toml", re.DOTALL)


class _Engine(Protocol):
    """What is needed of the engine."""

    def find(self, name: str) -> Job | None: ...
    def submit(self, name: str | None, spec: JobSpec) -> Job: ...
    def observe(self, name: str, event: JobEvent) -> None: ...


class SettingsFiles:
    """What the files say at present, and what is wrong with them."""

    def __init__(self, paths: Paths, engine: _Engine, in_force: Callable[[Config], None]) -> None:
        self._paths = paths
        self._engine = engine
        self._in_force = in_force
        #: Jobs from files belong to the daemon's own user.
        self._user = user_name(os.geteuid())
        self._log = structlog.get_logger("settings")
        #: What was read of each job file, by what told it from another one.
        self._read_specs: dict[Path, tuple[object, JobSpec]] = {}
        #: Each file and folder that could not be used.
        self.problems: tuple[SetAside, ...] = ()
        #: The round that goes on, and what is to be called at its end; then those for the next one.
        self._round: Iterator[list[SetAside]] | None = None
        self._found: list[SetAside] = []
        self._waiting: list[_Waiting] = []
        self._again: list[_Waiting] | None = None
        self._next_at = 0.0
        self._num_read = 0
        self._tell_at = 0.0

    @property
    def next_at(self) -> float | None:
        """Return when there is something to read, by the system's steady clock; None: nothing."""
        return None if self._round is None else self._next_at

    def begin(self, then: _Then | None = None, meanwhile: Callable[[int], None] = lambda _: None) -> None:
        """Read everything from now on, a file in each `turn()`; at its end call with what is set aside.

        What is asked while a round goes on is done after it: files that it has read may have changed.
        """
        more = [] if then is None else [_Waiting(then, meanwhile)]
        if self._round is None:
            self._round, self._found, self._waiting, self._next_at = self._files(), [], more, 0.0
            self._num_read = 0
        else:
            self._again = [*(self._again or ()), *more]

    def turn(self) -> None:
        """Read the next file where one is due; as long as that took, others have their turn."""
        begin = time.monotonic()
        if self._round is None or begin < self._next_at:
            return
        found = next(self._round, None)
        if found is not None:
            self._found += found
            now = time.monotonic()
            self._next_at = now + (now - begin)
            self._num_read += 1
            if now >= self._tell_at:
                self._tell_at = now + _TELL_S
                for one in (*self._waiting, *(self._again or ())):
                    one.meanwhile(self._num_read)
            return
        for problem in self._found:
            if problem not in self.problems:
                self._log.error("bad-file", problem=str(problem))
        self.problems = tuple(self._found)
        done, self._round = self._waiting, None
        if self._again is not None:
            again, self._again = self._again, None
            self.begin()
            self._waiting = again
        for one in done:
            one.then(self.problems)

    def _files(self) -> Iterator[list[SetAside]]:
        """Use one file after the other; yields what is set aside of each."""
        yield _unsafe_folder(self._paths.state_dir, "the journal and the logs are used all the same")
        unread = _unsafe_folder(self._paths.config_dir, "nothing in it is read")
        yield unread or self._read_config()
        if not unread:
            yield from self._read_jobs()

    def _read_config(self) -> list[SetAside]:
        file = self._paths.config_file
        return self._tried(file, lambda: self._in_force(load(file, read=read_checked)))

    def _read_jobs(self) -> Iterator[list[SetAside]]:
        folder = self._paths.jobs_dir
        if unread := _unsafe_folder(folder, "no job in it is read"):
            yield unread
            return
        try:
            # Editors keep hidden files beside the one that they edit (`.#train.toml`).
            files = sorted(file for file in folder.iterdir() if _JOB_FILE.fullmatch(file.name))
        except OSError as error:
            why = f"cannot list `{folder}`: {error.strerror}"
            hint = "make it a folder of your own that only you can write"
            yield [SetAside(kind="folder", name=folder.name, where=str(folder), why=why, hint=hint)]
            return
        for file in files:
            yield self._tried(file, partial(self._take, file))

    def _tried(self, file: Path, use: Callable[[], None]) -> list[SetAside]:
        """Use one file; whatever is wrong with it concerns it alone."""
        try:
            use()
        except SupervisorError as error:
            why, hint = str(error), error.hint
        except Exception as error:  # noqa: BLE001  # one of the few places that may: people write anything
            self._log.exception("file-failed", file=str(file))
            why = f"cannot use `{file}`: internal error ({type(error).__name__}: {error})"
            hint = "the daemon's log has the details"
        else:
            return []
        return [SetAside(kind="file", name=file.name, where=str(file), why=why, hint=hint)]

    def _take(self, file: Path) -> None:
        spec = self._spec(file)
        job = self._engine.find(file.stem)
        if job is None:
            self._engine.submit(file.stem, spec)
            return
        if job.spec.source != str(file):
            raise ConfigError(
                f"cannot use `{file}`: the name `{job.name}` is taken by a job that was started otherwise",
                hint="rename the file",
            )
        if job.spec.source_digest != spec.source_digest:
            # Where it did not say where checkpoints go, they stay where they are.
            kept = replace(spec, checkpoints=spec.checkpoints or job.spec.checkpoints)
            self._engine.observe(job.name, SpecChanged(spec=kept))

    def _spec(self, file: Path) -> JobSpec:
        """Return what a job file says; one that is as it was is not read again: that may take a second."""
        known_as, spec = self._read_specs.pop(file, (None, None))
        state = _state_of(file)
        if spec is None or state is None or state != known_as:
            spec = read_job_file(file, _own_environment(), user=self._user)
        if state is not None:
            self._read_specs[file] = (state, spec)
        return spec


def _state_of(file: Path) -> object:
    """Return what changes with a file; None for one that could change and keep it."""
    try:
        there = file.lstat()
    except OSError:
        return None
    # A link's target and those who own the way to it are looked at anew each time; two changes within one
    # tick of the file system's clock have the same time.
    if not stat.S_ISREG(there.st_mode) or time.time() - there.st_ctime < _TICK_S:
        return None
    return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns


def _unsafe_folder(folder: Path, so: str) -> list[SetAside]:
    """Return how others could change what lies in a folder, if they could."""
    hint = "check that it is a folder of your own"
    try:
        check_folder(folder)
    except Unsafe as error:
        why, hint = f"cannot trust `{folder}`: {error.strerror}; {so}", error.hint
    except FileNotFoundError:  # Nobody can have put anything into it.
        return []
    except OSError as error:
        why = f"cannot look at `{folder}`: {error.strerror}"
    else:
        return []
    return [SetAside(kind="folder", name=folder.name, where=str(folder), why=why, hint=hint)]


def _own_environment() -> dict[str, str]:
    """Return the daemon's environment, as a base for jobs that no person's shell has started.

    Without what is ours, and without what is not UTF-8: the journal could not store it.
    """
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("TRAINING_SUPERVISOR_") and _is_utf8(key + value)
    }


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
