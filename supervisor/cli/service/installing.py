"""Installing, renewing and removing the service; each says line by line what it did.

Covers: the order of the steps, what is told, what is left behind.
Does not cover: what stands in the way (obstacles.py), words on a terminal (command.py).

Every step may have been done before: doing all of it again changes nothing and says so.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from supervisor import __version__, api
from supervisor.cli.service.files import UNIT, ServiceKind, text_of
from supervisor.cli.service.systemctl import Systemctl, run_tool
from supervisor.client import Client
from supervisor.core.jobs.states import FINAL
from supervisor.errors import NoDaemon, Refused, SupervisorError, UnknownJob
from supervisor.paths import Paths

__all__ = ["install", "places", "running_version", "uninstall"]

_TOOL_S: Final = 30.0
#: Of so many jobs it is told where their checkpoints are: more than a screen is not read.
_MOST_TOLD: Final = 10


def install(kind: ServiceKind, bin_dir: Path, paths: Paths, *, is_upgrade: bool) -> Iterator[str]:
    """Yield what was done: written, made known, enabled, started; at the end the daemon answers.

    An upgrade restarts the daemon in any case, an installation only where something is another than before.
    """
    systemctl = Systemctl(kind)
    before = systemctl.state()
    if not before.is_active:
        _check_nobody_serves(paths)
    changed = list(_write(kind, bin_dir))
    yield from changed
    if changed:
        systemctl("daemon-reload")
    if not kind.is_personal:
        run_tool("systemd-sysusers", str(_written(kind, "sysusers.d")), limit_s=_TOOL_S)
    if before.UnitFileState != "enabled":
        systemctl("enable", UNIT)
        yield "enabled: it starts with the machine" if not kind.is_personal else "enabled: it starts with you"
    if kind.is_personal:
        yield from _let_linger()
    running = running_version(paths) if before.is_active else None
    if running is None:
        systemctl.start("start")
        yield "started"
    elif is_upgrade or changed or running.version != __version__:
        systemctl.start("restart")
        yield "restarted; jobs went on meanwhile"
    now = _answering(kind, paths)
    yield f"{UNIT} {now.version} answers (process {now.pid}, {_count(now.num_jobs)})"


def uninstall(kind: ServiceKind, paths: Paths) -> Iterator[str]:
    """Yield what was done: stopped, disabled, removed; then what stays, jobs and checkpoints among it."""
    systemctl = Systemctl(kind)
    before = systemctl.state()
    jobs, checkpoints = _jobs(paths)
    if before.is_active:
        systemctl("stop", UNIT)
        yield "stopped"
    if before.UnitFileState == "enabled":
        systemctl("disable", UNIT)
        yield "disabled"
    removed = [path for path in kind.files.values() if _remove(path)]
    yield from (f"removed {path}" for path in removed)
    if removed:
        systemctl("daemon-reload")
    if before.ActiveState == "failed":
        systemctl("reset-failed", UNIT)
    if not removed and not before.is_installed:
        yield "no service was installed"
    yield from _left(kind, paths, jobs)
    yield from checkpoints
    yield "left: all other checkpoints, each where its job has them"


def places(paths: Paths) -> Iterator[tuple[str, Path]]:
    """Yield what is where, for people."""
    yield "configuration", paths.config_dir
    yield "journal and logs", paths.state_dir
    yield "sockets", paths.run_dir


def running_version(paths: Paths) -> api.VersionReply | None:
    """Return what the daemon says of itself; None when nobody answers."""
    try:
        with Client(paths) as client:
            return client.version()
    except NoDaemon:
        return None


def _check_nobody_serves(paths: Paths) -> None:
    other = running_version(paths)
    if other is not None:
        raise Refused(
            f"cannot start the service: a daemon started by hand (process {other.pid}) has the same folders",
            hint=f"`kill {other.pid}`, then again; its jobs go on, and the service takes them up",
        )


def _write(kind: ServiceKind, bin_dir: Path) -> Iterator[str]:
    """Write what is not there yet or is another; each file is the old or the new one, never half of it."""
    wanted = {path: text_of(packaged, bin_dir, __version__) for packaged, path in kind.files.items()}
    for path, text in wanted.items():
        try:
            if path.exists() and path.read_text(encoding="utf-8", errors="replace") == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            new.write_text(text, encoding="utf-8")
            new.chmod(0o644)
            new.replace(path)
        except OSError as error:
            raise SupervisorError(
                f"cannot write `{path}`: {error.strerror}", hint="put that right, then again"
            ) from error
        yield f"wrote {path}"


def _written(kind: ServiceKind, folder: str) -> Path:
    return next(path for packaged, path in kind.files.items() if packaged.startswith(folder))


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SupervisorError(
            f"cannot remove `{path}`: {error.strerror}", hint="put that right, then again"
        ) from error
    return True


def _let_linger() -> Iterator[str]:
    """Have a person's systemd outlive their last login; without it all of their jobs end with that."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    if Path("/var/lib/systemd/linger", name).exists():
        return
    try:
        run_tool("loginctl", "enable-linger", limit_s=_TOOL_S)
        yield f"lingering: the systemd of {name} goes on after the last logout"
    except SupervisorError as error:
        yield f"NOT lingering, so a logout ends the daemon and its jobs: {error}"
        yield f"to mend that: `sudo loginctl enable-linger {name}`"


def _answering(kind: ServiceKind, paths: Paths) -> api.VersionReply:
    reply = running_version(paths)
    if reply is None:
        log = kind.command("journalctl", "-u", UNIT, "-n", "30", "--no-pager")
        raise NoDaemon(
            f"cannot reach the daemon at `{paths.run_dir}` although systemd has started it",
            hint=f"`{log}` tells where it listens; a drop-in may have given it other places",
        )
    return reply


def _jobs(paths: Paths) -> tuple[list[api.JobRow], list[str]]:
    """Return the jobs that are not over, and where their checkpoints are; nobody can be asked later."""
    try:
        with Client(paths) as client:
            rows = [row for row in client.status().rows if row.state not in FINAL]
            told = []
            for row in rows[:_MOST_TOLD]:
                with suppress(UnknownJob):  # Removed meanwhile.
                    told.append(client.show(row.name))
    except NoDaemon:
        return [], []
    places = [f"left: checkpoints of {one.row.name} in {one.checkpoints}" for one in told]
    more = len(rows) - len(told)
    return rows, [*places, f"left: checkpoints of {more} more jobs, below their folders"] if more else places


def _left(kind: ServiceKind, paths: Paths, jobs: list[api.JobRow]) -> Iterator[str]:
    waiting = [f"{row.name} ({row.state})" for row in jobs if row.state in ("paused", "queued")]
    if len(jobs) > len(waiting):
        yield f"{_count(len(jobs) - len(waiting))} without a daemon now; trainings go on to their end"
    if waiting:
        yield f"waiting for a daemon: {', '.join(waiting)}; `service install` brings it back"
    for what, folder in places(paths):
        if folder.exists():
            yield f"left: {what} in {folder}"
    drop_in = kind.unit_file.with_name(f"{UNIT}.service.d")
    if drop_in.is_dir():
        yield f"left: settings of your own in {drop_in}"
    if not kind.is_personal:
        yield "left: the group training-supervisor"


def _count(num_jobs: int) -> str:
    return f"{num_jobs} job{'' if num_jobs == 1 else 's'}"
