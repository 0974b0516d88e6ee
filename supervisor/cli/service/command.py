"""The commands `service install|status|upgrade|uninstall`.

Covers: what is checked before anything is changed, what is printed.
Does not cover: the steps (installing.py), the checks (obstacles.py), the units (files.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from supervisor import __version__
from supervisor.cli.options import json_option
from supervisor.cli.output.screen import data, hint, print_json, tell
from supervisor.cli.output.text import clean
from supervisor.cli.service import installing, obstacles
from supervisor.cli.service.files import SYSTEM, UNIT, ServiceKind, personal, program_of
from supervisor.cli.service.systemctl import Systemctl, UnitState, run_tool
from supervisor.errors import NoDaemon, SupervisorError

__all__ = ["service"]

_VERSION_S = 30.0

_user = click.option("--user", "is_personal", is_flag=True, help="A service of your own, without root.")


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `service status` tells; an empty word where it is not known."""

    unit: str
    #: As systemd says it: active, inactive, failed, ...; "not installed".
    state: str
    is_enabled: bool
    since: str
    #: Of the daemon that answers.
    version_running: str
    pid: int
    #: Of the environment that the unit starts.
    version_installed: str
    program: str
    #: What the daemon says of its jobs.
    jobs: str
    configuration: str
    state_folder: str
    sockets: str
    log: str
    #: Why the daemon could not be asked, or started.
    problem: str


@click.group(short_help="Install, renew, look at or remove the service of systemd.")
def service() -> None:
    """Install the daemon as a service of systemd, renew it, look at it, remove it."""


@service.command(short_help="Write the units and start the daemon.")
@_user
@click.pass_context
def install(ctx: click.Context, *, is_personal: bool) -> None:
    """Write the units, start the daemon now and with the machine, and wait until it answers."""
    _bring_up(ctx, "install", is_personal=is_personal)


@service.command(short_help="Write the units anew and restart the daemon; jobs go on.")
@_user
@click.pass_context
def upgrade(ctx: click.Context, *, is_personal: bool) -> None:
    """Write the units of this version and restart the daemon with it; jobs go on meanwhile."""
    _bring_up(ctx, "upgrade", is_personal=is_personal)


@service.command(short_help="Stop the daemon and remove its units; jobs go on.")
@_user
@click.pass_context
def uninstall(ctx: click.Context, *, is_personal: bool) -> None:
    """Stop the daemon and remove its units; jobs and checkpoints are not touched, and what stays is told."""
    kind = _kind(ctx, is_personal=is_personal)
    obstacles.check_person(kind, os.geteuid(), verb="uninstall", program=_program())
    obstacles.check_files(kind)
    for line in installing.uninstall(kind, Systemctl(kind).state().paths(kind)):
        data(clean(line))


@service.command(short_help="Tell the state of the service and its versions.")
@_user
@json_option
@click.pass_context
def status(ctx: click.Context, *, is_personal: bool, as_json: bool) -> int:
    """Tell what systemd says of the service, its versions, what runs, what is installed, its places."""
    kind = _kind(ctx, is_personal=is_personal)
    report = _report(kind, Systemctl(kind).state())
    if as_json:
        print_json([report])
    else:
        for name, text in _lines(report):
            data(clean(f"{name:<14} {text}"))
        for line in _hints(report, kind):
            hint(clean(line))
    return 0 if report.state == "active" else NoDaemon.exit_code


def _bring_up(ctx: click.Context, verb: str, *, is_personal: bool) -> None:
    kind = _kind(ctx, is_personal=is_personal)
    obstacles.check_person(kind, os.geteuid(), verb=verb, program=_program())
    bin_dir = obstacles.find_programs(sys.argv[0])
    obstacles.check_environment(kind, bin_dir)
    obstacles.check_files(kind)
    state = Systemctl(kind).state()
    if verb == "upgrade" and not state.is_installed:
        raise SupervisorError(
            "cannot upgrade the service: none is installed",
            hint=f"`{_typed(kind, 'install')}`",
        )
    paths = state.paths(kind)
    for line in installing.install(kind, bin_dir, paths, is_upgrade=verb == "upgrade"):
        data(clean(line))
    for what, folder in installing.places(paths):
        data(clean(f"{what}: {folder}"))
    data(f"log: {kind.command('journalctl', '-u', UNIT)}")
    if closed := obstacles.closed_to_users(kind, bin_dir):
        tell(clean(f"warning: {closed}"))
        hint(obstacles.MAKE_ONE)


def _kind(ctx: click.Context, *, is_personal: bool) -> ServiceKind:
    obstacles.check_home(ctx.find_root().params.get("home"), os.environ)
    kind = personal(os.environ) if is_personal else SYSTEM
    obstacles.check_systemd(kind, os.environ)
    return kind


def _program() -> str:
    """Return this command by its path: `sudo` looks for programs in places of its own."""
    return str(Path(sys.argv[0]).absolute())


def _typed(kind: ServiceKind, verb: str) -> str:
    """Return a command of this module as a person types it for that service."""
    sudo = "" if kind.is_personal or os.geteuid() == 0 else "sudo "
    return f"{sudo}{_program()} service {verb}{' --user' if kind.is_personal else ''}"


def _report(kind: ServiceKind, state: UnitState) -> ServiceReport:
    program = ""
    if state.FragmentPath:
        try:
            program = program_of(Path(state.FragmentPath).read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise SupervisorError(
                f"cannot read `{state.FragmentPath}`: {error.strerror}", hint=f"`systemctl cat {UNIT}`"
            ) from error
    paths = state.paths(kind)
    running, problem = None, state.problem
    try:
        if kind.is_personal or os.geteuid() == 0:
            running = installing.running_version(paths)
            if running is None and not problem and state.is_active:
                problem = "nobody answers at its socket"
        elif state.is_active and not problem:
            problem = "root alone may ask it"
    except SupervisorError as error:
        problem = str(error)
    return ServiceReport(
        unit=state.FragmentPath,
        state=state.ActiveState if state.is_installed else "not installed",
        is_enabled=state.UnitFileState == "enabled",
        since=state.ExecMainStartTimestamp if state.is_active else "",
        version_running=running.version if running is not None else "",
        pid=int(state.MainPID or 0),
        version_installed=_version_of(program),
        program=program,
        jobs="" if state.problem else state.StatusText,
        configuration=str(paths.config_dir),
        state_folder=str(paths.state_dir),
        sockets=str(paths.run_dir),
        log=kind.command("journalctl", "-u", UNIT),
        problem=problem,
    )


def _version_of(program: str) -> str:
    """Return the version of the environment that a unit names, "" where that is gone or broken."""
    if not program:
        return ""
    try:
        return run_tool(program, "--version", limit_s=_VERSION_S).split()[-1]
    except (SupervisorError, IndexError):
        # That it cannot be asked is what the empty word says; `_hints` tells what to do.
        return ""


def _lines(report: ServiceReport) -> Iterator[tuple[str, str]]:
    yield "service", report.state + (", starts by itself" if report.is_enabled else "")
    if report.unit:
        yield "unit", report.unit
    if report.since:
        yield "since", f"{report.since} (process {report.pid})"
    if report.version_running or report.problem:
        yield "running", report.version_running or f"not known: {report.problem}"
    if report.program:
        yield "installed", f"{report.version_installed or 'cannot be started'} ({report.program})"
    if report.jobs:
        yield "jobs", report.jobs.removeprefix("jobs: ")
    yield "configuration", report.configuration
    yield "journal, logs", report.state_folder
    yield "sockets", report.sockets
    yield "log", report.log


def _hints(report: ServiceReport, kind: ServiceKind) -> Iterator[str]:
    if report.state == "not installed":
        yield f"`{_typed(kind, 'install')}`"
    elif report.program and not report.version_installed:
        yield f"the environment of the unit is gone or broken; `{_typed(kind, 'upgrade')}` names this one"
    elif report.version_running and report.version_running != report.version_installed:
        yield f"another version is installed than runs: `{_typed(kind, 'upgrade')}`"
    elif report.version_running and report.version_running != __version__:
        yield f"this command is version {__version__}: `{_typed(kind, 'upgrade')}` takes the service there"
    elif report.state != "active":
        yield f"`{kind.command('systemctl', 'start', UNIT)}`; `{report.log} -n 30` tells why it is not"
