"""Draws what happened to jobs: their states over time, and the CPU they used.

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


class Span(NamedTuple):
    """A job was in one state for a while; seconds since the beginning."""

    look: str
    begin: float
    end: float


def spans(events, zero: float) -> list[Span]:
    """Return the states of one job in order, from its events."""
    found = []
    look, since, depth = "", 0.0, ""
    for event in events:
        if event["kind"] == "pause-asked":
            depth = event["detail"].split()[0]
        now = event["wall"] - zero
        new = _look(event["state"], depth)
        if new != look:
            if look:
                found.append(Span(look, since, now))
            look, since = new, now
    return found


def _look(state: str, depth: str) -> str:
    if state == "paused":
        return next(look for look in LOOKS if f"({depth})" in look)
    return {"queued": "starting", "resuming": "starting"}.get(state, state)


def draw(events, samples, outage: tuple[float, float], path: Path) -> Path:
    """Write the picture; returns its path."""
    zero = min(event["wall"] for event in events)
    end = max(event["wall"] for event in events) - zero
    jobs = list(dict.fromkeys(event["job"] for event in events))
    style = {
        "font.size": 10, "font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": "#BBBBBB",
        "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "hatch.linewidth": 0.8,
    }  # fmt: skip
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            2 * len(jobs), 1, sharex=True, figsize=(10, 0.9 + 1.9 * len(jobs)),
            height_ratios=[0.5, 1.0] * len(jobs),
        )  # fmt: skip
        for job, band, curve in zip(jobs, axes[::2], axes[1::2], strict=True):
            _draw_states(band, job, spans([event for event in events if event["job"] == job], zero))
            _draw_cpu(curve, job, samples, zero)
        for ax in axes:
            ax.axvspan(outage[0] - zero, outage[1] - zero, color=AWAY, zorder=0.5, linewidth=0)
            ax.spines[["top", "right"]].set_visible(False)
        highest = max(curve.get_ylim()[1] for curve in axes[1::2])
        for curve in axes[1::2]:
            curve.set_ylim(0, highest)
        axes[-1].set_xlim(0, end * 1.01)
        axes[-1].set_xlabel("seconds since the first job was submitted")
        _legend(figure)
        figure.subplots_adjust(left=0.085, right=0.985, top=0.91, bottom=0.115, hspace=0.2)
        figure.savefig(path, dpi=150)
        plt.close(figure)
    return path


def _draw_states(ax, job: str, states: list[Span]) -> None:
    for span in states:
        colour, hatch = LOOKS[span.look]
        ax.broken_barh(
            [(span.begin, span.end - span.begin)], (0.06, 0.88), facecolor=colour, hatch=hatch, edgecolor=INK,
            linewidth=0.7,
        )  # fmt: skip
    ax.set_yticks([0.5], [job], fontsize=12, fontweight="bold")
    ax.set_ylim(0, 1)
    ax.tick_params(axis="both", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)


def _draw_cpu(ax, job: str, samples, zero: float) -> None:
    known = ((wall - zero, usage.get(job)) for wall, usage in samples)
    times, values = zip(*((at, float("nan") if pct is None else pct) for at, pct in known), strict=True)
    ax.plot(times, values, color=LINE, linewidth=1.5, clip_on=False, zorder=3)
    ax.fill_between(times, values, color=LINE, alpha=0.12, linewidth=0)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("CPU %")
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    ax.set_axisbelow(True)


def _legend(figure) -> None:
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=INK, linewidth=0.7, label=look)
        for look, (colour, hatch) in LOOKS.items()
    ]
    handles.append(Patch(facecolor=AWAY, label="no daemon (killed)"))
    figure.legend(
        handles=handles, loc="upper center", ncol=len(handles), frameon=False, fontsize=9,
        handlelength=1.4, columnspacing=1.2, bbox_to_anchor=(0.53, 1.0),
    )  # fmt: skip
