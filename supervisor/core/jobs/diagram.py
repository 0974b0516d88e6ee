"""TRANSITIONS as a mermaid state diagram. `python -m supervisor.core.jobs.diagram` prints it."""

from __future__ import annotations

from supervisor.core.jobs.states import TRANSITIONS, JobState

__all__ = ["mermaid"]


def mermaid() -> str:
    """Return the diagram, one arrow for each pair of states, its events joined."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.QUEUED}"]
    for state, row in TRANSITIONS.items():
        arrows: dict[JobState, list[str]] = {}
        for kind, target in row.items():
            arrows.setdefault(target, []).append(kind.value)
        lines += [f"    {state} --> {target}: {', '.join(kinds)}" for target, kinds in arrows.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(mermaid(), end="")  # noqa: T201  # This module is also a command.
