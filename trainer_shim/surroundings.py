"""Where this process runs: what the daemon put into its environment, and facts for the manifest."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from trainer_shim.adoption import ByHand, find_server
from trainer_shim.errors import NotSupported
from trainer_shim.server_check import SOCKET_FOLDER, Server

__all__ = ["Surroundings", "git_commit", "other_command"]

_PREFIX = "TRAINING_SUPERVISOR_"
#: Letters of a command that are shown.
_MAX_COMMAND = 300


class Surroundings(msgspec.Struct, frozen=True):
    """Read once, by attach()."""

    #: Where the daemon listens; None without one.
    server: Server | None
    #: Name of the job; the script's own name without a daemon.
    job: str
    incarnation: int
    #: Folder of this start, where a receipt goes; None without a daemon.
    run_dir: Path | None
    checkpoints: Path
    #: Folder of `supervisorctl prove`; None in every other run.
    prove_dir: Path | None = None
    #: How often the job is to save in the background, where the script does not say it.
    every_s: float | None = None
    #: This start takes up what an earlier one of the same job left: after a pause that ended the process,
    #: or a crash. False for the first one, and for one that a person asked for.
    goes_on: bool = False
    #: What of the environment cannot be used, for people.
    ignored: tuple[str, ...] = ()
    #: Whose memory is given back; another kind only for tests on machines without a device.
    offload_devices: tuple[str, ...] = ("cuda",)
    #: A daemon was found that did not start this process; None: it did, or there is none.
    by_hand: ByHand | None = None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Surroundings:
        """Return what the environment says; raises NotSupported for a job of several ranks."""
        world_size = env.get("WORLD_SIZE", "1")
        if world_size != "1":
            raise NotSupported(
                f"cannot attach to a training run of {world_size} ranks: this version supervises one process",
                hint="run without trainer_shim, or with one process (WORLD_SIZE unset or 1)",
            )
        script = (Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "") or "training"
        socket = env.get(_PREFIX + "SOCKET")
        run_dir = env.get(_PREFIX + "RUN_DIR")
        incarnation = env.get(_PREFIX + "INCARNATION", "")
        prove = env.get(_PREFIX + "PROVE")
        every_s, ignored = _every(env.get(_PREFIX + "EVERY_S", ""))
        own = Path(prove, "checkpoints") if prove else Path("checkpoints", script)
        return cls(
            server=Server(socket, env.get(SOCKET_FOLDER, "")) if socket else None,
            job=env.get(_PREFIX + "JOB") or script,
            incarnation=int(incarnation) if incarnation.isdecimal() else 0,
            run_dir=Path(run_dir) if run_dir else None,
            checkpoints=Path(env.get(_PREFIX + "CHECKPOINTS") or own),
            prove_dir=Path(prove) if prove else None,
            every_s=every_s,
            goes_on=env.get(_PREFIX + "GOES_ON") == "1",
            ignored=ignored,
            offload_devices=(env.get(_PREFIX + "OFFLOAD") or "cuda",),
        )

    def by_a_daemon(self, env: Mapping[str, str], restart: tuple[str, ...]) -> Surroundings:
        """Return the same with a daemon that listens, for a process that none has started."""
        if self.server is not None or self.prove_dir is not None:
            return self
        server = find_server(env)
        return self if server is None else replace(self, server=server, by_hand=ByHand(restart))

    def with_checkpoints(self, folder: str | os.PathLike[str] | None) -> Surroundings:
        """Return the same with the folder that a script names, where it names one that counts."""
        told = self.told(folder)
        return self if told is None else replace(self, checkpoints=told)

    def told(self, folder: str | os.PathLike[str] | None) -> Path | None:
        """Return the folder that a script names, None where it names none that counts."""
        # A run that is proved begins at its beginning and leaves the checkpoints of the real one alone.
        return None if folder is None or self.prove_dir is not None else Path(folder)

    def period(self, every_s: float | None, every_steps: int | None) -> tuple[float | None, tuple[str, ...]]:
        """Return after how many seconds to save, of what a script says and the job says, and words on it."""
        if every_s is None and every_steps is None:
            return self.every_s, self.ignored
        if self.every_s is None:
            return every_s, self.ignored
        own = f"every_s={every_s:g}" if every_s is not None else f"every_steps={every_steps}"
        return every_s, (f"saves as the script says ({own}), not every {self.every_s:g} s as the job says",)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest keeps of the circumstances."""
        commit = ""
        with suppress(OSError):  # The working directory may have been removed.
            commit = git_commit(Path.cwd())
        return {
            "incarnation": self.incarnation,
            "command": [sys.executable, *sys.argv],
            **({"git_commit": commit} if commit else {}),
        }


def _every(text: str) -> tuple[float | None, tuple[str, ...]]:
    """Return the seconds between two saves, or why that makes no sense."""
    if not text:
        return None, ()
    with suppress(ValueError):
        if 1 <= (seconds := float(text)) < math.inf:
            return seconds, ()
    why = f"cannot save every {text[:40]!r} seconds, as TRAINING_SUPERVISOR_EVERY_S says"
    return None, (f"{why}: a number of 1 or more is meant; it saves when it is asked",)


def other_command(before: Sequence[str], now: Sequence[str]) -> str:
    """Say that a checkpoint was made by another command, Python and the script's folder aside; "" if not."""
    one, other = ([*map(os.path.basename, words[1:2]), *words[2:]] for words in (before, now))
    if not one or one == other:
        return ""
    import shlex

    was, here = (shlex.join(words)[:_MAX_COMMAND] for words in (one, other))
    return (
        f"the checkpoint was made by `{was}`, and this is `{here}`: "
        "what the arguments decide is as they say now, what was saved as it was"
    )


def git_commit(folder: Path) -> str:
    """Return the commit that is checked out around a folder, or "". Reads a few files, starts nothing."""
    for place in (folder, *folder.parents):
        git = place / ".git"
        # In a worktree or a submodule it is a file that says where the folder is.
        found = _first_line(git)
        if found.startswith("gitdir: "):
            git = place / found.removeprefix("gitdir: ")
        head = _first_line(git / "HEAD")
        if head.startswith("ref: "):
            return _resolve(git, head.removeprefix("ref: "))
        if head:
            return head
    return ""


def _resolve(git: Path, ref: str) -> str:
    # Branches belong to all worktrees.
    shared = git / (_first_line(git / "commondir") or ".")
    if commit := _first_line(shared / ref):
        return commit
    lines = _text(shared / "packed-refs").splitlines()
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), "")


def _first_line(file: Path) -> str:
    return _text(file).partition("\n")[0].strip()


def _text(file: Path) -> str:
    """Return what a file holds, or "" where there is none to read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
