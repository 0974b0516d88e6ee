"""A simulation as a picture: load with its thresholds, and below it what each job did.

Needs matplotlib, the extra `plot`. Does not cover: the simulation itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from supervisor.core.conditions import thresholds
from supervisor.core.metrics import METRICS, places
from supervisor.core.rules import Condition, Settings
from supervisor.core.sample import Missing, Sample
from supervisor.core.simulation import Report
from supervisor.errors import SupervisorError

__all__ = ["draw"]

_SHADES = {"hold": "#f2c14e", "offload": "#f78154", "exit": "#b4436c"}
_MAX_PANELS = 6


def draw(samples: Sequence[Sample], settings: Settings, report: Report, path: Path) -> None:
    """Write the picture; raises SupervisorError where matplotlib is missing or the file cannot be written."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise SupervisorError(
            "cannot draw: matplotlib is not installed", hint="`pip install 'training-supervisor[plot]'`"
        ) from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = _panels(samples, settings)
    heights = [*(2.0 for _ in panels), 0.4 + 0.4 * max(1, len(report.jobs))]
    figure, axes = plt.subplots(
        len(heights), 1, sharex=True, squeeze=False, figsize=(12, 1 + sum(heights)),
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, (condition, rule, place) in zip(axes[:, 0], panels, strict=False):
        _draw_metric(axis, samples, condition, rule, place)
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


def _panels(samples: Sequence[Sample], settings: Settings) -> list[tuple[Condition, str, str]]:
    """Return the metrics that rules look at and that have readings; each place once."""
    found: dict[tuple[str, str], tuple[Condition, str, str]] = {}
    for rule in settings.rules:
        for condition in rule.when if rule.enabled else ():
            if condition.metric:
                for place in places(METRICS[condition.metric], samples[-1]):
                    if not all(isinstance(_reading(one, condition, place), Missing) for one in samples[-50:]):
                        found.setdefault((condition.metric, place), (condition, rule.name, place))
    return list(found.values())[:_MAX_PANELS]


def _reading(sample: Sample, condition: Condition, place: str) -> float | Missing:
    return METRICS[condition.metric].read(sample, place)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at).astimezone()


def _draw_metric(axis: Any, samples: Sequence[Sample], condition: Condition, rule: str, place: str) -> None:
    readings = [_reading(sample, condition, place) for sample in samples]
    values = [float("nan") if isinstance(reading, Missing) else reading for reading in readings]
    axis.plot([_moment(sample.at) for sample in samples], values, linewidth=0.8, color="#2b59c3")
    short, clear = thresholds(condition)
    axis.axhline(short, color="#b4436c", linewidth=0.8, label=f"{rule}: short")
    axis.axhline(clear, color="#6a994e", linewidth=0.8, linestyle="--", label="clear")
    unit = METRICS[condition.metric].unit
    axis.set_ylabel(f"{condition.metric}\n{place[:12]} {unit}".rstrip(), fontsize=8)
    axis.legend(loc="upper right", fontsize=7)


def _draw_jobs(axis: Any, report: Report, end: float) -> None:
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
