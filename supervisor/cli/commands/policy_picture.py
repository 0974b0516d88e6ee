"""A simulation as a picture: load with its thresholds, and below it what each job did.

Needs matplotlib, the extra `plot`. Does not cover: the simulation itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.core.policy.conditions import look, thresholds
from supervisor.core.policy.rule_states import name_of
from supervisor.core.policy.rules import Condition, Settings
from supervisor.core.policy.simulation import SimulationReport
from supervisor.core.readings.metric import places
from supervisor.core.readings.metrics import METRICS
from supervisor.core.readings.sample import Missing, Sample
from supervisor.errors import SupervisorError

__all__ = ["Panel", "draw", "panels_of"]

_SHADES = {"hold": "#f2c14e", "offload": "#f78154", "exit": "#b4436c"}
_MAX_PANELS = 6


def draw(samples: Sequence[Sample], settings: Settings, report: SimulationReport, path: Path) -> int:
    """Write the picture; return how many readings had no room in it.

    Raises SupervisorError where matplotlib is missing or the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise SupervisorError(
            "cannot draw: matplotlib is not installed", hint="`pip install matplotlib` in this environment"
        ) from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels, num_left_out = panels_of(samples, settings, report)
    heights = [*(2.0 for _ in panels), 0.4 + 0.4 * max(1, len(report.jobs))]
    figure, axes = plt.subplots(
        len(heights), 1, sharex=True, squeeze=False, figsize=(12, 1 + sum(heights)),
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, panel in zip(axes[:, 0], panels, strict=False):
        _draw_panel(axis, samples, panel)
    _draw_jobs(axes[-1, 0], report, samples[-1].at)
    figure.autofmt_xdate()
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise SupervisorError(
            f"cannot write `{path}`: {error.strerror}", hint="choose another file"
        ) from error
    finally:
        plt.close(figure)
    return num_left_out


class Panel(NamedTuple):
    """One reading at one place, with the rules that look at it."""

    what: str
    place: str
    looks: list[tuple[str, Condition]]
    #: How near it came to the threshold of one of them: 0 at the clear one, 1 and more where it was short.
    peak: float


def panels_of(
    samples: Sequence[Sample], settings: Settings, report: SimulationReport
) -> tuple[list[Panel], int]:
    """Return what rules look at and has readings, in their order, and how many had no room.

    What made a job yield is never left out; of the others those that came nearest stay.
    """
    acted = {one.rule for one in report.timeline}
    looks: dict[tuple[str, str], list[tuple[str, Condition]]] = {}
    for rule in settings.rules if settings.policy.enabled else ():
        for condition in rule.when if rule.enabled else ():
            # A window or a program has no reading that is worth a look, unless it made somebody yield.
            if condition.metric or rule.name in acted:
                for place in _places(condition, samples):
                    looks.setdefault((name_of(condition), place), []).append((rule.name, condition))
    panels = []
    for (what, place), ours in looks.items():
        if not all(isinstance(look(ours[0][1], one, place).reading, Missing) for one in samples):
            peak = max(look(condition, one, place).nearness for _, condition in ours for one in samples)
            panels.append(Panel(what, place, ours, peak))
    needed = [panel for panel in panels if _made_room(panel, panels, acted)]
    others = sorted((panel for panel in panels if panel not in needed), key=lambda panel: -panel.peak)
    shown = needed + others[: max(0, _MAX_PANELS - len(needed))]
    return [panel for panel in panels if panel in shown], len(panels) - len(shown)


def _made_room(panel: Panel, panels: Sequence[Panel], acted: set[str]) -> bool:
    """Say whether a rule that made somebody yield saw its shortage here.

    With other jobs it may have been short where the recording was not: then here it was nearest.
    """
    if not any(rule in acted for rule, _ in panel.looks):
        return False
    return panel.peak >= min(1.0, max(one.peak for one in panels if one.what == panel.what))


def _places(condition: Condition, samples: Sequence[Sample]) -> list[str]:
    """Return where it was read at any time: a job that is over by the end may be the one that mattered."""
    if not condition.metric:
        return [""]
    metric = METRICS[condition.metric]
    return list(dict.fromkeys(place for sample in samples for place in places(metric, sample)))


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at).astimezone()


def _draw_panel(axis: Any, samples: Sequence[Sample], panel: Panel) -> None:
    condition = panel.looks[0][1]
    readings = [look(condition, sample, panel.place).reading for sample in samples]
    values = [float("nan") if isinstance(reading, Missing) else reading for reading in readings]
    axis.plot([_moment(sample.at) for sample in samples], values, linewidth=0.8, color="#2b59c3")
    if not condition.metric:
        axis.set_yticks([0, 1], ["no", "yes"])
        axis.set_ylabel(f"{panel.what}\n{panel.looks[0][0]}", fontsize=8)
        return
    for number, (rule, one) in enumerate(panel.looks):
        short, clear = thresholds(one)
        style: dict[str, Any] = {"linewidth": 0.8, "alpha": 1 / (1 + number)}
        axis.axhline(short, color="#b4436c", label=f"{rule}: short", **style)
        axis.axhline(clear, color="#6a994e", linestyle="--", label="clear", **style)
    unit = METRICS[condition.metric].unit
    axis.set_ylabel(f"{panel.what}\n{panel.place[:12]} {unit}".rstrip(), fontsize=8)
    axis.legend(loc="upper right", fontsize=7)


def _draw_jobs(axis: Any, report: SimulationReport, end: float) -> None:
    """Shade the time in which each job was paused, by depth."""
    names = list(report.jobs)
    for row, name in enumerate(names):
        since, depth = None, ""
        for one in [one for one in report.timeline if one.job == name]:
            if since is not None:
                _shade(axis, row, since, one.at, depth)
            is_pause = one.kind in ("pause", "deepen")
            since, depth = (one.at, str(one.depth)) if is_pause else (None, "")
        if since is not None:
            _shade(axis, row, since, end, depth)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, max(0, len(names) - 1) + 0.6)
    axis.set_xlabel("shaded: paused (hold, offload, exit from light to dark)", fontsize=8)


def _shade(axis: Any, row: int, since: float, until: float, depth: str) -> None:
    begin, end = _moment(since), _moment(until)
    axis.barh(row, end - begin, left=begin, height=0.7, color=_SHADES.get(depth, "#999999"))
