"""Records of the core as code of ours changes them; type-checked, never run."""

from __future__ import annotations

from typing import assert_type

from supervisor.api import JobRow
from supervisor.core.jobs.job import Job, JobPause, JobRun, JobStop
from supervisor.core.jobs.states import Depth
from supervisor.core.policy.explanation import RuleState
from supervisor.core.policy.memory import JobMemory
from supervisor.core.replacing import replace


def right(job: Job, run: JobRun, pause: JobPause) -> Job:
    assert_type(replace(job, pause=None), Job)
    deeper = replace(pause, depth=Depth.EXIT, held_depth=pause.depth)
    return replace(job, run=replace(run, insisted="TERM"), pause=deeper, stop=JobStop(is_restart=True))


def wrong_elsewhere(row: JobRow, memory: JobMemory, state: RuleState) -> None:
    replace(row, num_stepz=3)  # type: ignore[call-arg]
    replace(memory, paused_bye=())  # type: ignore[call-arg]
    replace(state, side="clear")  # type: ignore[arg-type]


def wrong(job: Job, run: JobRun, pause: JobPause) -> None:
    replace(job, pauze=None)  # type: ignore[call-arg]
    replace(job, depth=Depth.EXIT)  # type: ignore[call-arg]
    replace(job, pause=run)  # type: ignore[arg-type]
    replace(run, insisted="STOP")  # type: ignore[arg-type]
    replace(pause, deadline="soon")  # type: ignore[call-arg]
    JobPause(by=None)  # type: ignore[call-arg]
    JobStop(restart_after=True)  # type: ignore[call-arg]
