"""How long it takes from asking for a pause until the loop holds, beyond what cannot be avoided.

Covers: the way of the request through client, daemon, journal, shim and gate,
with real processes. The rest of the step during which it was asked and the
write of the checkpoint are deducted; whole steps that pass because the request
was still under way are not.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.common import goal, main, print_table, range_of, scratch, wait_for
from benchmarks.scene import Scene
from supervisor import api
from supervisor.client import new_id

GOAL_MS = 5.0

KINDS = {
    "torch": "torch, matrix products",
    "python": "pure Python",
    "python-1ms": "pure Python, `sys.setswitchinterval(0.001)`",
}


class Pause(NamedTuple):
    """One pause, in ms."""

    step: float
    #: Asked -> stored in the journal and accepted.
    accepted: float
    write: float
    #: Asked -> held, without the rest of the step and the write. The figure of the goal.
    held: float
    #: Held -> the client sees `paused`.
    seen: float
    #: Asked -> the client sees `paused`, with everything.
    whole: float


def run(*, quick: bool) -> None:
    num_pauses = 5 if quick else 100
    kinds = [kind for kind in KINDS if kind != "torch" or find_spec("torch")]
    if len(kinds) < len(KINDS):
        print("\nwithout the steps of torch: it is not installed")
    with scratch() as folder, Scene(folder / "h") as scene:
        loops = []
        for kind in kinds:
            scene.run_toys([kind], kind)
            loops.append(_Loop(scene, kind))
            # Only one trains at a time; the others hold.
            loops[-1].pause()
        for _ in range(num_pauses):
            for loop in loops:
                loop.go_on()
                # Somewhere in a step, after the echo of the resume.
                time.sleep(random.uniform(0.02, 0.06))
                loop.pause()
        # The first pause of each was for warming up.
        pauses = {kind: loop.measured()[1:] for kind, loop in zip(kinds, loops, strict=True)}
    rows = [_table_row(KINDS[kind], measured) for kind, measured in pauses.items()]
    header = ["step", "its length", "accepted after", "write (deducted)", "asked to held", "10 - 90 %"]
    header += ["held to `paused` seen", "all of it", "goal for asked to held"]
    print_table(f"Pause asked until the loop holds, ms, medians of {num_pauses}", header, rows)


def _table_row(name: str, pauses: Sequence[Pause]) -> list[str]:
    medians = Pause(*(statistics.median(column) for column in zip(*pauses, strict=True)))
    return [
        name,
        f"{medians.step:.2f}",
        f"{medians.accepted:.2f}",
        f"{medians.write:.2f}",
        f"{medians.held:.2f}",
        range_of([pause.held for pause in pauses], 2),
        f"{medians.seen:.2f}",
        f"{medians.whole:.2f}",
        goal(f"median below {GOAL_MS:g}", met=medians.held < GOAL_MS),
    ]


class _Ask(NamedTuple):
    """What the client's side knows of a pause, in monotonic ns."""

    asked: int
    accepted: int
    seen: int


class _Loop:
    """One job, and every pause that was asked of it."""

    def __init__(self, scene: Scene, job: str) -> None:
        self._jobs = (job,)
        self._stamps = scene.stamps(job)
        self._client = scene.client
        self._watch = scene.connect().watch(self._jobs)
        self._asks: list[_Ask] = []
        self._await("running")

    def pause(self) -> None:
        """Ask for a hold; return when the client sees it."""
        request = api.PauseRequest(id=new_id(), jobs=self._jobs, depth="hold")
        asked = time.monotonic_ns()
        self._client.ask_jobs(request)
        accepted = time.monotonic_ns()
        self._await("paused")
        self._asks.append(_Ask(asked, accepted, time.monotonic_ns()))

    def go_on(self) -> None:
        """End the hold; return when the loop runs."""
        self._client.ask_jobs(api.ResumeRequest(id=new_id(), jobs=self._jobs))
        self._await("running")

    def measured(self) -> list[Pause]:
        """Return what was measured; the last hold ends with this, because the loop tells of it then."""
        self.go_on()
        wait_for(lambda: len(self._lines()) == len(self._asks), "the stamps of the loop")
        return [_pause(ask, json.loads(line)) for ask, line in zip(self._asks, self._lines(), strict=True)]

    def _lines(self) -> list[str]:
        text = self._stamps.read_text(encoding="ascii")
        return text[: text.rfind("\n") + 1].splitlines()

    def _await(self, state: str) -> None:
        while not any(row.state == state for row in self._watch.poll(60.0)):
            if self._watch.silent_s > 60.0:
                raise TimeoutError(f"no word from the daemon, waiting for `{self._jobs[0]}` to be {state}")


def _pause(ask: _Ask, loop: Mapping[str, Any]) -> Pause:
    boundaries = loop["boundaries"]
    # The step during which it was asked ends here; a pause without any delay is reached here.
    due = next(at for at in boundaries if at >= ask.asked)
    write = loop["write"][1] - loop["write"][0]
    steps = [after - before for before, after in pairwise(boundaries)]
    ns = (
        statistics.median(steps) if steps else 0,
        ask.accepted - ask.asked,
        write,
        loop["held"] - due - write,
        ask.seen - loop["held"],
        ask.seen - ask.asked,
    )
    return Pause(*(value / 1e6 for value in ns))


if __name__ == "__main__":
    main(run)
