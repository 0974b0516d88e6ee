"""What systemd is asked, and what it says of our unit.

Covers: running systemctl and its neighbours, errors in words.
Does not cover: what is asked when (installing.py).
"""

from __future__ import annotations

import shlex
import subprocess
from typing import Final

import msgspec

from supervisor.cli.service.files import UNIT, ServiceKind
from supervisor.errors import SupervisorError
from supervisor.paths import Paths

__all__ = ["Systemctl", "UnitState", "run_tool"]

#: A start waits for the daemon, which may take five minutes by its unit; systemd then says so itself.
_LIMIT_S: Final = 360.0

_SHOWN: Final = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "StatusText", "StatusErrno", "Result",
    "NRestarts", "FragmentPath", "DropInPaths", "ExecMainStartTimestamp", "Environment",
)  # fmt: skip


class UnitState(msgspec.Struct, frozen=True, kw_only=True):
    """What systemd says of the unit; an empty word where it says nothing."""

    LoadState: str = ""
    ActiveState: str = ""
    SubState: str = ""
    UnitFileState: str = ""
    MainPID: str = ""
    StatusText: str = ""
    StatusErrno: str = ""
    Result: str = ""
    NRestarts: str = ""
    FragmentPath: str = ""
    DropInPaths: str = ""
    ExecMainStartTimestamp: str = ""
    Environment: str = ""

    def paths(self, kind: ServiceKind) -> Paths:
        """Return where the daemon of this unit has its things, also by a drop-in."""
        variables = dict(word.partition("=")[::2] for word in shlex.split(self.Environment))
        home = variables.get("TRAINING_SUPERVISOR_HOME")
        return Paths.find(home) if home or kind.is_personal else Paths.of_the_system()

    @property
    def problem(self) -> str:
        """Return why a daemon that does not run could not start, in its own words."""
        return self.StatusText if self.StatusErrno not in ("", "0") else ""

    @property
    def is_installed(self) -> bool:
        """Say whether systemd knows a unit of this name."""
        return self.LoadState not in ("", "not-found")

    @property
    def is_active(self) -> bool:
        """Say whether it runs, or is about to."""
        return self.ActiveState in ("active", "activating", "reloading")


def run_tool(*words: str, limit_s: float = _LIMIT_S) -> str:
    """Run a program that has to succeed; returns what it printed, raises SupervisorError in its words."""
    command = " ".join(words)
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False
        )
    except OSError as error:
        raise SupervisorError(
            f"cannot run `{command}`: {error.strerror}", hint=f"is `{words[0]}` in PATH?"
        ) from error
    except subprocess.TimeoutExpired:
        raise SupervisorError(
            f"cannot finish `{command}`: no answer in {limit_s:g} s", hint=f"`{command}` by hand tells more"
        ) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise SupervisorError(f"cannot `{command}`: {lines[0]}", hint=f"`{command}` by hand tells more")
    return done.stdout


class Systemctl:
    """One systemd: the machine's or a person's."""

    def __init__(self, kind: ServiceKind) -> None:
        self._kind = kind

    def __call__(self, *words: str) -> str:
        """Have it do something; see run_tool()."""
        return run_tool("systemctl", *self._kind.scope, *words)

    def start(self, verb: str) -> None:
        """Start or restart the daemon's unit; returns when it answers, or raises with where to look."""
        try:
            self(verb, UNIT)
        except SupervisorError as error:
            log = self._kind.command("journalctl", "-u", UNIT, "-n", "30", "--no-pager")
            state = self.state()
            why = state.problem or f"systemd says `{state.ActiveState}`, result `{state.Result}`"
            raise SupervisorError(
                f"cannot {verb} the service: {why}",
                hint=f"`{log}` tells why; what was written stays, `service uninstall` takes it away",
            ) from error

    def state(self) -> UnitState:
        """Return what it says of the unit now."""
        text = self("show", UNIT, f"--property={','.join(_SHOWN)}")
        pairs = (line.partition("=") for line in text.splitlines())
        return msgspec.convert({key: value for key, equals, value in pairs if equals}, UnitState)
