"""Any events in any order: what `apply` promises of every job that can come to be.

Covers: facts never raise, refusals change nothing, timers end, time stands in
the record only where something is due.
Does not cover: a world that answers (test_journal_engine.py), single rows
(tests/unit/core/jobs/test_apply.py).
"""

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs import cuda_context
from supervisor.core.jobs.effects import (
    AskCheckpoint,
    AskPause,
    AskResume,
    AskStop,
    Effect,
    Launch,
    Signal,
    Suspend,
    Unsuspend,
)
from supervisor.core.jobs.events import (
    AbleTo,
    Admitted,
    Adopted,
    Attached,
    CheckpointAsked,
    CheckpointReported,
    ContextMoved,
    ContextUnknown,
    JobEvent,
    PauseAsked,
    PauseFailed,
    PauseReached,
    ProcessEnded,
    ProcessStarted,
    RestartAsked,
    ResumeAsked,
    SpecChanged,
    StopAsked,
    Submitted,
    SuspendAsked,
    TimerFired,
    TrainingResumed,
)
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, Job, JobSpec, Pid
from supervisor.core.jobs.states import FINAL, TRANSITIONS, Depth, JobState
from supervisor.core.jobs.verdict import Candidate, Evidence, Verdict
from supervisor.core.readings.sample import Missing
from supervisor.errors import Refused

REQUESTS = st.sampled_from(["", "r1", "r2", "r3"])
GRACE_S = st.sampled_from([0.0, 5.0, 60.0])
KILL_GRACE_S = st.sampled_from([1.0, 15.0])
INCARNATIONS = st.integers(0, 3)
EXITS = st.builds(Exit, code=st.sampled_from([0, 1, 75])) | st.builds(Exit, signal=st.sampled_from([9, 15]))
EXITS |= st.just(Exit(error="cannot start: no such file"))
SPECS = st.builds(
    JobSpec,
    argv=st.just(("train",)),
    cwd=st.just("/work"),
    restart=st.sampled_from(["never", "on-failure"]),
    max_restarts=st.integers(0, 1000),
    restart_delay_s=st.sampled_from([0.0, 10.0, 86400.0]),
    by_hand=st.sampled_from(["", "", "again", "once"]),
)


ASKERS = st.sampled_from([Asker("person", "ada"), Asker("rule", "busy")])
ASKED = {"request": REQUESTS, "by": ASKERS}
GRACES = {"stop_grace_s": GRACE_S, "kill_grace_s": KILL_GRACE_S}
PLACE = {
    "checkpoint": st.builds(
        CheckpointRef,
        step=st.integers(0, 9),
        epoch=st.just(0),
        path=st.just("/c"),
        digest=st.sampled_from("abc"),
    )
}
DEPTHS = st.sampled_from(Depth)
PLACES = st.sampled_from([Depth.HOLD, Depth.OFFLOAD])
TIMERS = st.sampled_from(["start-grace", "deadline", "wake", "insist", "restart", "context"])

GPUS = st.sampled_from([(), ("GPU-a",), ("GPU-a", "GPU-b")])
VERDICTS = st.none() | st.just(
    Verdict(
        kind="pause",
        job="job-1",
        rule="busy",
        reason="cpu 80 %",
        evidence=(Evidence(what="cpu_foreign_pct", reading=80.0), Evidence(what="x", reading=Missing("no"))),
        candidates=(Candidate(job="job-1", why="priority 0", is_chosen=True),),
    )
)

TRAINER = Pid(5, 6, "boot")

FACTS = st.one_of(
    st.builds(Admitted, start_grace_s=GRACE_S, gpus=GPUS, verdict=VERDICTS),
    st.builds(Adopted, process=st.just(TRAINER)),
    st.builds(ProcessStarted, incarnation=INCARNATIONS, process=st.just(Pid(1, 2, "boot"))),
    st.builds(ProcessEnded, incarnation=INCARNATIONS, exit=EXITS, yielded=st.booleans()),
    st.builds(
        Attached,
        incarnation=INCARNATIONS,
        depths=st.sampled_from([(Depth.HOLD, Depth.EXIT), tuple(Depth), ()]),
        holding=REQUESTS,
        holding_depth=st.none() | DEPTHS,
    ),
    st.builds(CheckpointReported, **PLACE),
    st.builds(
        AbleTo, incarnation=INCARNATIONS, depths=st.sampled_from([(Depth.HOLD, Depth.EXIT), tuple(Depth)])
    ),
    st.builds(PauseReached, request=REQUESTS, depth=DEPTHS, bytes_freed=st.sampled_from([0, 4096]), **PLACE),
    st.builds(PauseFailed, request=REQUESTS, why=st.just("disk full"), holding_depth=st.none() | DEPTHS),
    st.builds(TrainingResumed, request=REQUESTS),
    st.builds(SuspendAsked, process=st.just(TRAINER), restore_limit_s=GRACE_S),
    st.builds(
        ContextMoved,
        process=st.just(TRAINER),
        is_freed=st.sampled_from([None, False, True]),
        why=st.sampled_from(["", "no room"]),
    ),
    st.builds(ContextUnknown, incarnation=INCARNATIONS),
    st.builds(SpecChanged, spec=SPECS),
    st.builds(TimerFired, timer=TIMERS, start_grace_s=GRACE_S, gpus=GPUS, is_saving=st.booleans()),
)
REQUESTED = st.one_of(
    st.builds(
        PauseAsked,
        **ASKED,
        depth=DEPTHS,
        deadline_s=GRACE_S,
        reason=st.just("cpu 80 %"),
        for_s=st.none() | st.sampled_from([1.0, 100.0]),
        at_deadline=st.sampled_from(["wait", "freeze", "terminate"]),
        kill_grace_s=KILL_GRACE_S,
        verdict=VERDICTS,
    ),
    st.builds(ResumeAsked, **ASKED, start_grace_s=GRACE_S, gpus=GPUS, verdict=VERDICTS),
    st.builds(StopAsked, **ASKED, how=st.sampled_from(["checkpoint", "kill"]), **GRACES),
    st.builds(RestartAsked, **ASKED, **GRACES),
    st.builds(CheckpointAsked, **ASKED),
)
SAVED = CheckpointRef(step=1, epoch=0, path="/c", digest="a")
#: A job that rests without its CUDA context, which chance alone rarely comes to.
FREED = (
    Admitted(start_grace_s=5.0),
    Attached(incarnation=0, depths=tuple(Depth)),
    PauseAsked(request="r1", by=Asker("rule", "busy"), depth=Depth.OFFLOAD, deadline_s=5.0),
    PauseReached(request="r1", depth=Depth.OFFLOAD, checkpoint=SAVED),
    SuspendAsked(process=TRAINER, restore_limit_s=60.0),
    ContextMoved(process=TRAINER, is_freed=True),
)
ASKED_BY_ADA = {"request": "r1", "by": Asker("person", "ada")}
#: Others that chance rarely comes to, and from which every event is to be seen.
STOPPING = (
    *FREED[:2],
    StopAsked(**ASKED_BY_ADA, how="checkpoint", stop_grace_s=5.0, kill_grace_s=1.0),
)
FROZEN = (
    *FREED[:2],
    PauseAsked(**ASKED_BY_ADA, depth=Depth.HOLD, deadline_s=5.0, at_deadline="freeze"),
    TimerFired(timer="deadline"),
)
BY_HAND = (Adopted(process=TRAINER), FREED[1])
BEGINNINGS = st.sampled_from([(), (), BY_HAND, FREED[:2], FREED[:5], FREED, FREED, STOPPING, FROZEN])
STEPS = st.lists(st.tuples(FACTS | REQUESTED, st.booleans(), st.sampled_from([0.0, 1.0, 50.0])), max_size=25)


@st.composite
def ways(draw, beginnings=BEGINNINGS):
    """A job that can come to be, from step to step, with the moment of each."""
    now = 1000.0
    way = [(core.create("job-1", Submitted(id="j-1", spec=draw(SPECS)), now), now)]
    for event in draw(beginnings):
        job, now = way[-1]
        way.append((step(job, aimed(event, job), now)[0], now))
    for event, is_current, wait_s in draw(STEPS):
        job, now = way[-1]
        now += wait_s
        way.append((step(job, aimed(event, job) if is_current else event, now)[0], now))
    return way


def lives(beginnings=BEGINNINGS):
    """A job that can come to be, with the moment at which it is so."""
    return ways(beginnings).map(lambda way: way[-1])


def aimed(event, job):
    """The same event, about the newest launch and the newest request."""
    names = {"incarnation": job.incarnation, "request": job.request}
    asked = isinstance(event, PauseAsked | ResumeAsked | StopAsked | RestartAsked | CheckpointAsked)
    fields = {name: value for name, value in names.items() if name in event.__struct_fields__}
    return event if asked else replace(event, **fields)


def step(job, event, now):
    """Apply it; a refusal leaves the job as it was."""
    try:
        return core.apply(job, event, now)
    except Refused:
        return job, ()


@given(lives(), FACTS, st.booleans())
def test_a_fact_of_the_world_never_raises(life, event, is_current):
    """
    The world does not ask for permission: what comes too late or twice means nothing.
    """
    job, now = life
    after, effects = core.apply(job, aimed(event, job) if is_current else event, now)

    assert isinstance(after, Job)
    assert all(isinstance(effect, Effect) for effect in effects)


@given(lives(), REQUESTED)
def test_a_request_is_refused_with_a_hint_or_met(life, event):
    """
    A refusal says what to do instead; it is never another kind of error.
    """
    job, now = life
    before, refused = msgspec.json.encode(job), None
    try:
        core.apply(job, event, now)
    except Refused as error:
        refused = error

    assert refused is None or (refused.hint and str(refused).startswith("cannot "))
    assert before == msgspec.json.encode(job)


@given(lives(), FACTS | REQUESTED)
def test_states_follow_each_other_by_the_table(life, event):
    """
    One event moves a job along at most two arrows (ended, then queued again), and the time of
    the change is the time of the event.
    """
    job, now = life
    after, effects = step(job, event, now)
    near = set(TRANSITIONS[job.state].values()) | {job.state}
    far = {state for one in near for state in TRANSITIONS[one].values()}

    assert after.state in near | far
    assert (after.state is job.state) or now == after.since
    assert all(effect.job == after for effect in effects if isinstance(effect, Launch))


@given(lives())
def test_a_job_that_is_over_has_no_process_and_no_pause(life):
    """
    And no timer but that of a planned restart.
    """
    job, _ = life
    if job.state in FINAL:
        assert not job.alive
        assert (None, None, None) == (job.run, job.pause, job.stop)
        assert core.next_due(job) == job.restart_at
    if job.state is JobState.PAUSED and not job.alive:
        assert job.depth is Depth.EXIT


LIVES = {JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.RESUMING, JobState.STOPPING}


@settings(max_examples=5 * settings().max_examples)
@given(ways())
def test_a_state_has_one_kind_of_payload(way):
    """
    A pause is there while a job is pausing or paused, a stop while it is stopping, a run while its
    process lives; a paused job may have one.
    """
    for job, _ in way:
        assert (job.pause is not None) == (job.state in (JobState.PAUSING, JobState.PAUSED))
        assert (job.stop is not None) == (job.state is JobState.STOPPING)
        assert job.alive == (job.state in LIVES) or job.state is JobState.PAUSED
        assert job.run is None or (job.exit is None and job.restart_at is None)


@settings(max_examples=5 * settings().max_examples)
@given(ways())
def test_what_a_pause_holds_fits_its_stage(way):
    """
    What is due, late or standing still is so while it is pausing; what was reached waits for nothing.
    """
    for job, _ in way:
        pause = job.pause
        if pause is not None and job.state is JobState.PAUSED:
            assert (None, None, None) == (pause.held_depth, pause.deadline_at, pause.frozen_at)
            assert not pause.late
            assert pause.depth is Depth.EXIT or job.alive
        if pause is not None and job.state is JobState.PAUSING:
            assert pause.deadline_at is not None
            assert pause.frozen_at is None or pause.late


@given(lives(), PLACES)
def test_a_job_that_holds_does_not_train_because_it_cannot_go_deeper(life, depth):
    """
    It stays paused as deep as it was, and says what did not work; no pause is over by that.
    """
    job, now = life
    asked = PauseAsked(request="r9", by=Asker("rule", "busy"), depth=Depth.EXIT, deadline_s=5.0)
    for event in (Admitted(start_grace_s=5.0), asked):
        job, _ = step(job, event, now)
    assume(job.state is JobState.PAUSING)
    failed = PauseFailed(request=job.request, why="no room", holding_depth=depth)
    after, effects = core.apply(job, failed, now)

    assert (JobState.PAUSED, depth, None, None) == (
        after.state,
        after.depth,
        after.pause.held_depth,
        after.pause.deadline_at,
    )
    assert (job.asked_by, job.wake_at, job.request) == (after.asked_by, after.wake_at, after.request)
    assert after.problem
    assert () == effects


@given(lives())
def test_only_a_pausing_job_remembers_how_deep_it_holds_already(life):
    """
    And only while its process lives; else a job that trains could be taken for one that holds.
    """
    job, _ = life

    held_depth = None if job.pause is None else job.pause.held_depth
    assert held_depth is None or (job.state is JobState.PAUSING and job.alive)


@given(lives(), FACTS | REQUESTED)
def test_only_a_pausing_job_stands_still(life, event):
    """
    Whatever ends the pause lets its processes go; nothing else stops or lets go of them.
    """
    job, now = life
    after, effects = step(job, event, now)
    words = [effect.signal for effect in effects if isinstance(effect, Signal)]

    assert after.frozen_at is None or (after.state is JobState.PAUSING and after.run.was_frozen)
    assert ("STOP" in words) == (job.frozen_at is None and after.frozen_at is not None)
    let_go = job.frozen_at is not None and after.frozen_at is None and after.alive
    assert ("CONT" in words) == (let_go and after.incarnation == job.incarnation)
    assert "CONT" not in words or "CONT" == words[0]


@given(lives(), FACTS | REQUESTED)
def test_nothing_is_asked_of_a_process_without_its_context(life, event):
    """
    It could not answer. What ends the pause takes the context back first, and says the rest then.
    """
    job, now = life
    after, effects = step(job, event, now)
    rests = after.state is JobState.PAUSED and after.depth is Depth.OFFLOAD
    asks = [one for one in effects if isinstance(one, AskResume | AskStop | AskCheckpoint)]
    asks += [one for one in effects if isinstance(one, Signal) and one.signal in ("TERM", "STOP")]
    # One that rests may be told once more to wait where it waits: that takes no device.
    asks += [one for one in effects if isinstance(one, AskPause) and not rests]

    context = after.run.context if after.run else None
    assert not (context is not None and cuda_context.is_away(after.run) and asks)
    assert context is None or context.at is None or context.where in ("taking", "lost")
    assert cuda_context.where(after) not in ("freed", "unsure", "kept") or rests
    assert rests or not any(isinstance(effect, Suspend) for effect in effects)
    begins = cuda_context.where(after) == "taking" and cuda_context.where(job) in ("freed", "unsure")
    assert not begins or any(isinstance(effect, Unsuspend) for effect in effects)


@given(lives(st.just(FREED)))
def test_a_context_comes_back_or_its_process_is_ended(life):
    """
    Whatever the driver says: in the end the job listens again, or starts from its checkpoint.
    """
    job, now = life
    assume(job.run is not None and cuda_context.is_away(job.run))
    asked = ResumeAsked(request="r9", by=Asker("person", "ada"), start_grace_s=5.0)
    job, _ = step(job, asked, now)
    while cuda_context.where(job) == "taking":
        now = job.run.context.at
        job, _ = core.apply(job, TimerFired(timer="context"), now)
        news = ContextMoved(process=job.run.context.process, is_freed=True, why="no room")
        job = core.apply(job, news, now)[0]
    if cuda_context.where(job) == "lost":
        end = ProcessEnded(incarnation=job.incarnation, exit=Exit(signal=9))
        job = core.apply(job, end, now)[0]
        assert job.state in (JobState.RESUMING, JobState.PAUSED, JobState.STOPPED, JobState.QUEUED)


@given(lives(), st.booleans())
def test_a_pause_outlives_a_crash_after_which_the_job_would_be_started_again(life, is_killed):
    """
    Whoever asked for it: a restart would take back at once what was to be given.
    """
    job, now = life
    end = Exit(signal=9) if is_killed else Exit(code=1)
    after = step(job, ProcessEnded(incarnation=job.incarnation, exit=end), now)[0]
    if job.state is JobState.PAUSING and job.alive:
        assert (after.state is JobState.PAUSED and after.asked_by == job.asked_by) or after.restart_at is None


@given(lives(), st.sampled_from([0.0, 1.0, 60.0, 1e6]))
def test_due_timers_end(life, wait_s):
    """
    However long the machine slept, a few steps bring a job up to date; nothing that is due is left.
    """
    job, now = life
    now += wait_s
    for _ in range(12):
        event = core.due(job, now, start_grace_s=60.0)
        moment = core.next_due(job)

        assert (event is not None) == (moment is not None and moment <= now)
        if event is None:
            return
        job = core.apply(job, event, now)[0]
    raise AssertionError("timers fire for ever")


@given(lives())
def test_a_record_is_stored_and_read_back(life):
    """
    What the journal holds is the job, to the bit.
    """
    job, _ = life

    assert job == msgspec.json.decode(msgspec.json.encode(job), type=Job)


@given(FACTS | REQUESTED)
def test_an_event_is_stored_and_read_back(event):
    """
    Replaying a journal applies what was applied.
    """
    assert event == msgspec.json.decode(msgspec.json.encode(event), type=JobEvent)
