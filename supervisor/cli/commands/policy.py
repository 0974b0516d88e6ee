"""`policy show|check|simulate|export`: what the rules see, and what other rules would do.

Covers: the commands. Does not cover: deciding and replaying (core/), layout (render_policy.py).
"""

from __future__ import annotations

import stat
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click
import msgspec

from supervisor.cli.options import DURATION, connect, json_option, paths
from supervisor.cli.output.screen import data, hint, print_json, screen, tell
from supervisor.client import Client
from supervisor.core.jobs.job import JobSpec
from supervisor.core.jobs.names import user_of
from supervisor.core.policy.rules import Settings
from supervisor.core.readings.blocks import unpack
from supervisor.core.readings.sample import Sample
from supervisor.core.replacing import replace
from supervisor.errors import ConfigError, NoDaemon, SupervisorError, UsageError

__all__ = ["policy"]


#: No block of readings that a daemon stores is longer, seconds.
_BLOCK_S = 3600.0


@click.group(short_help="Show, check and try the rules by which jobs make room.")
def policy() -> None:
    """Show, check and try the rules by which jobs make room and come back."""


@policy.command(short_help="Show every rule, what it reads now, and how near it is.")
@json_option
@click.pass_context
def show(ctx: click.Context, *, as_json: bool) -> None:
    """Show every rule with its readings now, and how near it is; of several users what each has had."""
    from supervisor.cli.output.render_policy import rule_lines, share_lines

    with connect(ctx) as client:
        found = client.policy()
    if as_json:
        print_json([*found.rules, *found.shares])
        return
    facts = screen(sys.stdout)
    for line in rule_lines(found.rules, width=facts.width, colour=facts.colour) if found.rules else ():
        data(line)
    if not found.rules:
        tell("no rules are in force; docs/CONFIGURATION.md tells how to write one")
    if found.shares:
        if found.rules:
            data("")
        for line in share_lines(found.shares, width=facts.width, colour=facts.colour):
            data(line)
    if found.settling:
        tell(f"nothing is decided just now: {found.settling}")
    for alarm in dict.fromkeys(rule.alarm for rule in found.rules if rule.alarm):
        tell(f"warning: {alarm}")


class CheckedRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says; the row of `--json`."""

    file: str
    rules: tuple[str, ...]
    #: None: no daemon answered, so there is nothing to compare with.
    changes: tuple[str, ...] | None = None


@policy.command(short_help="Check a configuration file, and tell what it would change.")
@click.argument("file", type=click.Path())
@json_option
@click.pass_context
def check(ctx: click.Context, *, file: str, as_json: bool) -> None:
    """Check a configuration file, and tell what it would change; a wrong one ends with exit code 2."""
    from supervisor.cli.output.render_policy import changes

    settings = _settings_of(file)
    if idle := _unreachable(settings, file):
        raise ExceptionGroup(f"cannot use `{file}`", idle)
    in_force = _in_force(ctx)
    found = None if in_force is None else tuple(changes(in_force, settings))
    names = tuple(rule.name for rule in settings.rules if rule.enabled and settings.policy.enabled)
    if as_json:
        print_json([CheckedRules(file=file, rules=names, changes=found)])
        return
    data(f"{file}: {len(names)} rules: {', '.join(names) or 'none'}")
    if found is None:
        tell("no daemon answers, so there is nothing to compare it with")
        return
    for line in found:
        data(line)
    if not found:
        data("it changes nothing of what is in force")


@policy.command(short_help="Write the recorded readings as CSV.")
@click.option(
    "--since", "since_s", type=DURATION, default="1d", show_default=True, metavar="TIME", help="How far back."
)
@click.argument("file", type=click.File("w"), default="-")
@click.pass_context
def export(ctx: click.Context, *, since_s: float, file: TextIO) -> None:
    """Write the recorded readings as CSV to FILE, or to stdout; `simulate --samples` takes them."""
    from supervisor.cli.commands.recording import write_csv

    with connect(ctx) as client:
        samples = _recorded(client, since_s)
    write_csv(samples, file)
    tell(f"{len(samples)} samples")


@policy.command(short_help="Replay recorded readings against rules.")
@click.option(
    "--config", "config", metavar="FILE", type=click.Path(), help="Try these rules, not those in force."
)
@click.option(
    "--since", "since_s", type=DURATION, default="1d", show_default=True, metavar="TIME", help="How far back."
)
@click.option(
    "--samples", "file", metavar="CSV", type=click.File(), help="Replay this file; needs no daemon."
)
@click.option(
    "--png", metavar="FILE", type=click.Path(dir_okay=False), help="Draw load, thresholds and jobs."
)
@json_option
@click.pass_context
def simulate(
    ctx: click.Context, /, *, config: str | None, since_s: float, file: TextIO | None,
    png: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Replay recorded readings against rules: who would have yielded, when, for how long, and the flaps."""
    from supervisor.cli.commands.recording import read_csv
    from supervisor.core.policy import simulation

    specs: dict[str, JobSpec] = {}
    settings = _settings_of(config) if config else None
    for error in _unreachable(settings, config) if settings and config else ():
        tell(f"warning: {error}")
    if file is not None:
        samples = read_csv(file, file.name)
        settings = settings or _in_force(ctx) or _settings_of(str(paths(ctx).config_file), must_exist=False)
    else:
        with connect(ctx) as client:
            samples = _recorded(client, since_s)
            settings = settings or _decoded(client.policy().settings)
            specs = _specs(client)
    if not samples:
        raise SupervisorError(
            "cannot simulate: nothing was recorded in that time",
            hint="the daemon records while it runs; `--since` goes further back, `--samples` takes a file",
        )
    jobs = simulation.recorded_jobs(samples, specs)
    if not jobs:
        tell("no job ran in that time: one that always wants to run is taken instead")
        jobs = (simulation.SimJob(name="any-job"),)
    report = simulation.simulate(samples, _with_weights(settings, [job.name for job in jobs]), jobs)
    num_left_out = 0
    if png:
        from supervisor.cli.commands.policy_picture import draw

        num_left_out = draw(samples, settings, report, Path(png))
    if as_json:
        print_json([report])
        return
    _tell_report(report, samples)
    if png:
        rest = f"; {num_left_out} readings that came less near are not in it" if num_left_out else ""
        tell(f"drawn: {png}{rest}")


def _with_weights(settings: Settings, names: Iterable[str]) -> Settings:
    """Return the settings with a weight for each user, as far as this machine knows their groups."""
    from supervisor.core.policy.shares import OWN_USER
    from supervisor.system.users import weights_of

    users = {user_of(name) or OWN_USER for name in names}
    weights = weights_of(users, settings.shares.weights)
    return replace(settings, shares=replace(settings.shares, weights=weights))


def _tell_report(report: object, samples: Sequence[Sample]) -> None:
    from supervisor.cli.output.render_policy import report_lines, timeline_lines
    from supervisor.cli.output.text import duration
    from supervisor.core.policy.simulation import SimulationReport

    assert isinstance(report, SimulationReport)
    facts = screen(sys.stdout)
    begin = time.strftime("%Y-%m-%d %H:%M", time.localtime(samples[0].wall))
    tell(f"{report.num_samples} samples of {duration(report.duration_s)} from {begin} on")
    if report.timeline:
        for line in timeline_lines(report.timeline, width=facts.width, colour=facts.colour):
            data(line)
        data("")
    for line in report_lines(report, width=facts.width, colour=facts.colour):
        data(line)
    if not any(job.num_pauses for job in report.jobs.values()):
        hint("no job would have yielded; `policy show` tells how near each rule is now")


def _settings_of(file: str, *, must_exist: bool = True) -> Settings:
    """Return what a configuration file says; raises ConfigError."""
    from supervisor.settings.config import load

    path = Path(file)
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise UsageError(f"cannot read `{file}`: there is no such file", hint="check the path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read `{file}`: {why}", hint="check the path") from None
    else:
        if not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "not a file that can be read as a whole"
            raise UsageError(f"cannot read `{file}`: it is {what}", hint="give a regular file")
    return load(path).settings


def _unreachable(settings: Settings, file: str) -> list[ConfigError]:
    """Return what can never be met in the rules that would be in force."""
    from supervisor.core.policy.rule_check import unreachable

    rules = [rule for rule in settings.rules if rule.enabled and settings.policy.enabled]
    return [ConfigError(f"cannot use `{file}`: {error}", hint=error.hint) for error in unreachable(rules)]


def _in_force(ctx: click.Context) -> Settings | None:
    """Return the running daemon's settings; None where none answers."""
    with suppress(NoDaemon), connect(ctx) as client:
        return _decoded(client.policy().settings)
    return None


def _decoded(text: str) -> Settings:
    try:
        return msgspec.json.decode(text, type=Settings)
    except msgspec.MsgspecError as error:
        raise SupervisorError(
            f"cannot read the daemon's rules: {error}",
            hint="`supervisorctl version` tells whether both are of the same version; --config takes a file",
        ) from None


def _recorded(client: Client, since_s: float) -> list[Sample]:
    """Return what the daemon recorded, by the wall clock."""
    now = time.time()
    begin = max(0.0, now - since_s)
    # A block is found by its first reading, which may be older than what is asked for.
    blocks = client.samples(after_wall=max(0.0, begin - _BLOCK_S), before_wall=now + 1)
    samples = [
        replace(sample, at=sample.wall)
        for block in blocks
        for sample in unpack(block)
        if sample.wall >= begin
    ]
    return sorted(samples, key=lambda sample: sample.at)


def _specs(client: Client) -> dict[str, JobSpec]:
    """Return what the rules go by, of the jobs that are there still."""
    specs = {}
    for row in client.status().rows:
        reply = client.show(row.name)
        specs[row.name] = JobSpec(
            argv=reply.argv,
            cwd=reply.cwd,
            user=row.user,
            priority=row.priority,
            granted=reply.counted_priority,
            protected=row.protected,
            labels=reply.labels,
            num_gpus=reply.num_gpus,
            gpu_memory_bytes=reply.gpu_memory_bytes,
            memory_bytes=reply.memory_bytes,
            num_cpus=reply.num_cpus,
        )
    return specs
