"""Wrote the golden journal of schema 3: `python tests/golden/journal_v3/make.py FOLDER` at commit 69da610.

Covers: jobs in every state and with every kind of payload, as the flat records of that version.
Does not cover: running it today, the records have another form since.
"""

import json
import sys
from pathlib import Path

import msgspec

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import *
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, JobSpec, Pid
from supervisor.core.jobs.states import Depth
from supervisor.core.jobs.verdict import Candidate, Evidence, Verdict
from supervisor.ports import Batch, JournalRow
from supervisor.store.journal import SqliteJournal

ADA, RULE = Asker("person", "ada"), Asker("rule", "busy")
VERDICT = Verdict(
    kind="pause",
    job="held",
    rule="busy",
    reason="cpu_foreign_pct 83 % > 50 %",
    depth=Depth.HOLD,
    evidence=(Evidence(what="cpu_foreign_pct", reading=250 / 3, unit="%", threshold="> 50", for_s=31.1),),
    candidates=(Candidate(job="held", why="priority 0", is_chosen=True),),
)
ALL = tuple(Depth)
TRAINS = Pid(77, 7, "boot-1")
folder = Path(sys.argv[1])
journal = SqliteJournal(folder / "journal.sqlite")
jobs, rows, now = {}, [], 1_000_000.0


def at(name, *events):
    global now
    for event in events:
        now += 10 / 3
        match event:
            case Submitted():
                jobs[name] = core.create(name, event, now)
            case Removed():
                del jobs[name]
            case _:
                jobs[name], _ = core.apply(jobs[name], event, now)
        after = jobs.get(name)
        rows.append(
            JournalRow(seq=len(rows) + 1, job=name, at=now, wall=1.7e9 + now, event=event, after=after)
        )


def submitted(name, **spec):
    at(
        name,
        Submitted(spec=JobSpec(argv=("train", name), cwd="/work", env={"LANG": "de_DE"}, user="ada", **spec)),
    )


def starting(name, **spec):
    submitted(name, **spec)
    at(name, Admitted(start_grace_s=60.0, gpus=("GPU-1",)))


def running(name, depths=ALL, **spec):
    starting(name, **spec)
    number = 100 + len(rows)
    at(
        name,
        ProcessStarted(incarnation=1, process=Pid(number, 10 * number, "boot-1")),
        Attached(incarnation=1, depths=depths),
    )


def asked(request="p1", by=RULE, depth=Depth.HOLD, **more):
    more = {"deadline_s": 100 / 3, "reason": "busy", "verdict": VERDICT if by is RULE else None} | more
    return PauseAsked(request=request, by=by, depth=depth, **more)


def saved(step):
    return CheckpointRef(
        step=step, epoch=1, path=f"/ckpt/{step}", digest=f"d{step}", size_bytes=5, took_s=1 / 3
    )


def paused(name, depth=Depth.HOLD, request="p1", step=7, **more):
    at(name, asked(request, depth=depth, **more))
    at(
        name,
        PauseReached(
            request=request,
            depth=depth,
            checkpoint=saved(step),
            bytes_freed=3 << 30 if depth == "offload" else 0,
        ),
    )


GRACES = {"stop_grace_s": 20.0, "kill_grace_s": 100 / 7}
submitted("queued", num_gpus=1)
submitted("held-back")
at("held-back", asked(by=ADA, depth=Depth.EXIT, for_s=1000 / 3))
starting("starting")
running("running")
at("running", CheckpointReported(checkpoint=saved(3)))
running("refused")
at("refused", asked(), PauseFailed(request="p1", why="no room"))
running("pausing")
at("pausing", asked(by=ADA, for_s=50.0, kill_grace_s=7.5))
starting("pausing-early")
at("pausing-early", asked())
running("late")
at("late", asked(at_deadline="terminate"), TimerFired(timer="deadline"))
running("frozen")
at("frozen", asked(at_deadline="freeze"), TimerFired(timer="deadline"))
running("leaving")
at("leaving", asked(depth=Depth.EXIT), PauseReached(request="p1", depth=Depth.EXIT, checkpoint=saved(4)))
running("held")
paused("held")
running("deeper")
paused("deeper", Depth.OFFLOAD)
at("deeper", asked("p2", depth=Depth.EXIT))
running("still-held")
paused("still-held", Depth.OFFLOAD)
at(
    "still-held",
    asked("p2", depth=Depth.EXIT),
    PauseFailed(request="p2", why="disk full", holding_depth=Depth.OFFLOAD),
)
for name, how in {
    "freeing": "",
    "freed": "freed",
    "kept": "kept",
    "taking": "taking",
    "lost": "lost",
}.items():
    running(name)
    paused(name, Depth.OFFLOAD)
    at(name, SuspendAsked(process=TRAINS, restore_limit_s=1000 / 3))
    if how == "kept":
        at(name, ContextMoved(process=TRAINS, is_freed=False, why="no such call"))
    elif how:
        at(name, ContextMoved(process=TRAINS, is_freed=True))
    if how in ("taking", "lost"):
        at(name, ResumeAsked(request="r", by=ADA, start_grace_s=60.0))
        at(name, ContextMoved(process=TRAINS, is_freed=None, why="out of memory"))
    if how == "lost":
        now += 1000.0
        at(name, TimerFired(timer="context"))
running("gone")
paused("gone", Depth.EXIT)
at("gone", ProcessEnded(incarnation=1, exit=Exit(code=75)))
running("killed-held")
paused("killed-held")
at("killed-held", ProcessEnded(incarnation=1, exit=Exit(signal=9)))
running("resuming")
paused("resuming")
at("resuming", ResumeAsked(request="r1", by=ADA, start_grace_s=60.0))
running("relaunched")
paused("relaunched", Depth.EXIT)
at(
    "relaunched",
    ProcessEnded(incarnation=1, exit=Exit(code=75)),
    ResumeAsked(request="r1", by=ADA, start_grace_s=200 / 3),
)
running("stopping")
at("stopping", StopAsked(request="s1", by=ADA, how="checkpoint", **GRACES))
running("killing")
at("killing", StopAsked(request="s1", by=ADA, how="kill", **GRACES))
running("restarting")
at("restarting", RestartAsked(request="s1", by=ADA, **GRACES))
running("completed")
at("completed", ProcessEnded(incarnation=1, exit=Exit(code=0)))
running("failed", restart="on-failure")
at("failed", ProcessEnded(incarnation=1, exit=Exit(code=3)))
running("stopped")
at(
    "stopped",
    StopAsked(request="s1", by=ADA, how="kill", **GRACES),
    ProcessEnded(incarnation=1, exit=Exit(signal=9)),
    SpecChanged(spec=jobs["stopped"].spec, by=ADA),
)
running("removed")
at("removed", ProcessEnded(incarnation=1, exit=Exit(code=0)), Removed(by=ADA))
submitted("anew")
at("anew", StopAsked(request="s", by=ADA, how="checkpoint", **GRACES), Removed(by=ADA))
submitted("anew")

journal.append(Batch(number=1, rows=tuple(rows), facts={"next_job_number": "4", "starts.removed": "1"}))
while journal.committed() < 1:
    pass
journal.close()
(folder / "jobs.json").write_text(
    json.dumps({name: msgspec.to_builtins(job) for name, job in sorted(jobs.items())}, indent=1, default=str)
    + "\n"
)
