"""Draws what happened to jobs: their states over time, the CPU they used, and the CPU that others used.

The colours are Okabe and Ito's, which people with any common kind of colour blindness tell apart;
hatching and words say the same again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

__all__ = ["draw"]

#: What is shown -> colour, hatching. The starting blue is a lighter one, to stay in the background.
LOOKS = {
    "starting": ("#A6D5F2", ""),
    "running": ("#009E73", ""),
    "pausing": ("#F0E442", ""),
    "paused (hold): keeps its memory": ("#E69F00", ""),
    "paused (exit): process ended": ("#FFFFFF", "////"),
}
AWAY = "#D9D9D9"
INK = "#333333"
LINE = "#0072B2"
OTHERS = "#D55E00"
PAUSE_AT, RETURN_AT = "#A33F00", "#007A59"


class Span(NamedTuple):
    """A job was in one state for a while; seconds since the beginning."""

    look: str
    begin: float
    end: float
    #: Who wanted a pause: a person, a rule.
    by: str = ""


def spans(events, zero: float) -> list[Span]:
    """Return the states of one job in order, from its events."""
    found = []
    look, since, depth, by = "", 0.0, "", ""
    for event in events:
        if event["kind"] == "pause-asked":
            depth, _, who = event["detail"].split()[:3]
            by = "a rule" if who == "rule" else "a person"
        now = event["wall"] - zero
        new = _look(event["state"], depth)
        if new != look:
            if look:
                found.append(Span(look, since, now, by if look.startswith("paused") else ""))
            look, since = new, now
    return found


def _look(state: str, depth: str) -> str:
    if state == "paused":
        return next(look for look in LOOKS if f"({depth})" in look)
    return {"queued": "starting", "resuming": "starting"}.get(state, state)


def draw(events, samples, outage: tuple[float, float], thresholds, path: Path) -> Path:
    """Write the picture; returns its path. Without thresholds the rule was never set."""
    zero = min(event["wall"] for event in events)
    end = max(event["wall"] for event in events) - zero
    jobs = list(dict.fromkeys(event["job"] for event in events))
    style = {
        "font.size": 10, "font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": "#BBBBBB",
        "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "hatch.linewidth": 0.8,
    }  # fmt: skip
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            2 * len(jobs) + 1, 1, sharex=True, figsize=(10, 2.4 + 1.75 * len(jobs)),
            height_ratios=[*[0.5, 1.0] * len(jobs), 1.3],
        )  # fmt: skip
        for job, band, curve in zip(jobs, axes[:-1:2], axes[1:-1:2], strict=True):
            _draw_states(band, job, spans([event for event in events if event["job"] == job], zero), end)
            _draw_cpu(curve, samples, zero, lambda usage, _, job=job: usage.get(job))
        _draw_others(axes[-1], samples, zero, thresholds, end)
        for ax in axes:
            ax.axvspan(outage[0] - zero, outage[1] - zero, color=AWAY, zorder=0.5, linewidth=0)
            ax.spines[["top", "right"]].set_visible(False)
            ax.set_xlim(0, end * 1.005)
        highest = max(curve.get_ylim()[1] for curve in axes[1:-1:2])
        for curve in axes[1:-1:2]:
            curve.set_ylim(0, highest)
            curve.set_ylabel("% of one CPU", fontsize=8.5)
        axes[-1].set_xlabel("seconds since the first job was submitted")
        _legend(figure)
        figure.subplots_adjust(left=0.085, right=0.885, top=0.925, bottom=0.085, hspace=0.24)
        figure.align_ylabels(axes[1::2])
        figure.savefig(path, dpi=150)
        plt.close(figure)
    return path


def _draw_states(ax, job: str, states: list[Span], end: float) -> None:
    for span in states:
        colour, hatch = LOOKS[span.look]
        ax.broken_barh(
            [(span.begin, span.end - span.begin)], (0.06, 0.88), facecolor=colour, hatch=hatch, edgecolor=INK,
            linewidth=0.7,
        )  # fmt: skip
        # Where the words fit.
        if span.by and span.end - span.begin > 0.066 * end:
            patch = {"facecolor": "white", "edgecolor": "none", "pad": 1.2} if hatch else None
            middle = (span.begin + span.end) / 2
            ax.text(middle, 0.5, f"by\n{span.by}", fontsize=8, ha="center", va="center", bbox=patch)
    ax.set_yticks([0.5], [job], fontsize=12, fontweight="bold")
    ax.set_ylim(0, 1)
    ax.tick_params(axis="both", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)


def _draw_cpu(ax, samples, zero: float, pick, colour: str = LINE) -> None:
    known = [(wall - zero, pick(usage, others)) for wall, usage, others in samples]
    times, values = zip(*((at, float("nan") if pct is None else pct) for at, pct in known), strict=True)
    ax.plot(times, values, color=colour, linewidth=1.5, clip_on=False, zorder=3)
    ax.fill_between(times, values, color=colour, alpha=0.12, linewidth=0)
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    ax.set_axisbelow(True)


def _draw_others(ax, samples, zero: float, thresholds, end: float) -> None:
    """The load that the rule is about, with its two thresholds from when they held."""
    _draw_cpu(ax, samples, zero, lambda _, others: others, OTHERS)
    ax.set_ylim(0, 100)
    ax.set_yticks([0, 50, 100])
    ax.set_ylabel("others,\n% of all CPUs", fontsize=8.5)
    if thresholds is None:
        return
    begin = thresholds.since - zero
    levels = (
        (thresholds.above, "pause above", PAUSE_AT, "bottom"),
        (thresholds.clear, "return below", RETURN_AT, "top"),
    )
    for level, words, colour, side in levels:
        ax.plot([begin, end], [level, level], color=colour, linewidth=1.3, linestyle=(0, (4, 2)), zorder=4)
        # Beside the data, where nothing can cross it; away from the other one.
        ax.annotate(
            f"{words} {level:g} %", (1.005, level), xycoords=("axes fraction", "data"), color=colour,
            fontsize=8.5, va=side, ha="left", annotation_clip=False,
        )  # fmt: skip


def _legend(figure) -> None:
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=INK, linewidth=0.7, label=look)
        for look, (colour, hatch) in LOOKS.items()
    ]
    handles.append(Patch(facecolor=AWAY, label="no daemon (killed)"))
    figure.legend(
        handles=handles, loc="upper center", ncol=len(handles), frameon=False, fontsize=9,
        handlelength=1.4, columnspacing=1.2, bbox_to_anchor=(0.5, 1.0),
    )  # fmt: skip
