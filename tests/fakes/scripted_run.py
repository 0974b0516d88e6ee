"""The trace of a run, as a test describes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from supervisor.cli.prove.traces import run_of
from trainer_shim.trace import End, Paused, Returned, Said, Step, TracedLook, TracedMetric, TracedStart

NUM_STEPS = 6
RNG = {"python": "p", "torch": "t"}


@dataclass
class Script:
    """
    A run as a test describes it: everything that is not named is as in every other run.
    """

    losses: dict[int, str] = field(default_factory=dict)
    batches: dict[int, str] = field(default_factory=dict)
    rng: dict[int, dict[str, str]] = field(default_factory=dict)
    final: dict[str, str] = field(default_factory=dict)
    pauses: dict[int, str] = field(default_factory=dict)
    looks: dict[int, dict[str, str]] = field(default_factory=dict)
    restored: dict[int, dict[str, str]] = field(default_factory=dict)
    notes: dict[int, list[str]] = field(default_factory=dict)
    #: Reported again by a process that began after this step, before its first batch.
    again: dict[int, list[TracedMetric]] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    num_steps: int = NUM_STEPS

    def records(self):
        yield TracedStart(step=0, epoch=0)
        for text in self.said:
            yield Said(text=text)
        for step in range(1, self.num_steps + 1):
            yield TracedMetric(step=step, name="loss", value=self.losses.get(step, f"{step}"))
            batch = self.batches.get(step, f"b{step}")
            yield Step(step=step, epoch=0, batch=batch, rng={**RNG, **self.rng.get(step, {})})
            state = {"w": f"{step}"}
            if step in self.pauses or step in self.looks:
                saved = self.looks.get(step, state)
                yield TracedLook(step=step, epoch=0, state=saved, notes=self.notes.get(step, []))
            if step in self.pauses:
                yield Paused(step=step, epoch=0, depth=self.pauses[step])
            if self.pauses.get(step) == "offload":
                yield Returned(step=step, epoch=0, state=self.restored.get(step, saved))
            if self.pauses.get(step) == "exit":
                yield TracedStart(step=step, epoch=0, state=self.restored.get(step, saved))
            yield from self.again.get(step, [])
        yield End(step=self.num_steps, epoch=1, state={"w": "1", "t": "float32[2] ab", **self.final})

    def run(self):
        return run_of(self.records())


PLAIN = Script().run()
