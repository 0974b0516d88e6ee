"""Engine, journal, processes and shims in any order of events, killed anywhere.

Covers: all that people, rules, shims, processes and the clock can do, over
several lives of the daemon, on the real SQLite journal and on the fake one.
Does not cover: real processes and sockets (tests/crash, tests/integration).
"""

import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import (
    CheckpointAsked,
    PauseAsked,
    PauseFailed,
    PauseReached,
    Removed,
    RestartAsked,
    ResumeAsked,
    SpecChanged,
    StopAsked,
    Submitted,
    TrainingResumed,
)
from supervisor.core.jobs.job import Asker, CheckpointRef, Job
from supervisor.core.jobs.states import Depth, JobState
from supervisor.errors import Refused, SupervisorError
from supervisor.store.journal import SqliteJournal
from tests.fakes.journal import FakeDisk, FakeJournal
from tests.fakes.world import SupervisedMachine

JOBS = st.sampled_from(["job-1", "job-1", "job-1", "job-2", "plain"])
ASKERS = st.sampled_from([Asker("person", "ada"), Asker("rule", "busy")])
DEPTHS = st.sampled_from(Depth)
ACTS = st.sampled_from(["hello", "step", "fail", "say", "turn", "live", "live"])
MISHAPS = [
    "line",
    "line",
    "alone",
    "killed",
    "finished",
    "failed",
    "tired",
    "keeper",
    "deaf",
    "slow",
    "quick",
]
STALE = st.sampled_from(["old", "r1", "r2"])


class MachineOnFakeDisk(RuleBasedStateMachine):
    """Three jobs; `plain` has no shim."""

    def __init__(self):
        super().__init__()
        self.num_requests = 0
        self.world = SupervisedMachine(self.disk())
        self.world.frees_contexts = True
        self.world.configure()
        self.world.plain.add("plain")

    def disk(self):
        disk = FakeDisk()
        return lambda: FakeJournal(disk)

    def teardown(self):
        self.world.come_to_rest()
        self.check_replay()
        self.world.check()
        self.world.close()

    def request(self):
        self.num_requests += 1
        return f"r{self.num_requests}"

    def ask(self, job, event):
        """What is refused must change nothing."""
        before = dict(self.world.engine.jobs)
        try:
            self.world.engine.ask(job, event)
        except SupervisorError:
            assert before == dict(self.world.engine.jobs)

    # --- people and rules -----------------------------------------------------------------------

    @initialize()
    def begin(self):
        self.world.submit("job-1", self.world.spec())
        self.world.turns()
        self.world.hello("job-1")
        self.world.turns()

    @rule(job=JOBS, restart=st.sampled_from(["never", "on-failure"]))
    def submit(self, job, restart):
        try:
            self.world.submit(job, self.world.spec(restart=restart, max_restarts=2))
        except Refused:
            assert job in self.world.engine.jobs

    @rule(
        job=JOBS,
        by=ASKERS,
        depth=DEPTHS,
        for_s=st.none() | st.sampled_from([5.0, 50.0]),
        late=st.sampled_from(["wait", "freeze", "terminate"]),
    )
    def pause(self, job, by, depth, for_s, late):
        asked = {"request": self.request(), "by": by, "depth": depth, "deadline_s": 30.0, "for_s": for_s}
        self.ask(job, PauseAsked(**asked, at_deadline=late, kill_grace_s=10.0))

    @rule(job=JOBS, by=ASKERS)
    def resume(self, job, by):
        self.ask(job, ResumeAsked(request=self.request(), by=by, start_grace_s=60.0))

    @rule(job=JOBS, by=ASKERS, what=st.sampled_from(["checkpoint", "checkpoint", "restart", "stop", "kill"]))
    def other_request(self, job, by, what):
        graces = {"stop_grace_s": 20.0, "kill_grace_s": 10.0}
        match what:
            case "checkpoint":
                event = CheckpointAsked(request=self.request(), by=by)
            case "restart":
                event = RestartAsked(request=self.request(), by=by, **graces)
            case _:
                how = "kill" if what == "kill" else "checkpoint"
                event = StopAsked(request=self.request(), by=by, how=how, **graces)
        self.ask(job, event)

    @rule(job=JOBS, what=st.sampled_from(["remove", "edit"]))
    def clear_up(self, job, what):
        if what == "edit":
            self.world.engine.observe(job, SpecChanged(spec=self.world.spec(source="/jobs.d/x.toml")))
            return
        try:
            self.world.engine.remove(job, Asker("person", "ada"))
        except SupervisorError:
            return
        # Whether it is lost in a crash or not, nobody was promised either.
        self.world.told.discard(job)

    # --- shims and processes ----------------------------------------------------------------------

    @rule(job=JOBS, acts=st.lists(ACTS, min_size=1, max_size=4))
    def shim(self, job, acts):
        for act in acts:
            match act:
                case "hello":
                    self.world.hello(job)
                case "say":
                    self.world.deliver(job)
                case "turn":
                    self.world.turns()
                case "live":
                    self.world.turns()
                    self.world.boundary(job, can_save=True)
                    self.world.deliver(job)
                    self.world.turns()
                case _:
                    self.world.boundary(job, can_save=act == "step")

    @rule(job=JOBS, code=st.sampled_from([75, 0]))
    def process_leaves(self, job, code):
        """It ends as it said; a wrapper around it may hide its exit code."""
        trainer = self.world.trainer(job)
        if trainer is not None and trainer.is_leaving:
            self.world.end(job, code)

    @rule(job=JOBS, what=st.sampled_from(MISHAPS))
    def mishap(self, job, what):
        machine, trainer = self.world.machine, self.world.trainer(job)
        match what:
            case "line" if trainer is not None:
                trainer.disconnect()
            case "alone":
                self.world.go_on_alone(job)
            case "killed":
                self.world.end(job, killed_by=9)
            case "finished" | "failed" | "tired":
                self.world.end(job, {"finished": 0, "failed": 1, "tired": 75}[what])
            case "keeper" if self.world.running(job):
                machine.lose_status(job)
            case "deaf":
                machine.deaf.add(job)
            case "slow":
                machine.keepers_are_slow = True
            case "quick":
                machine.release()

    @rule(job=JOBS, what=st.sampled_from(["device", "device", "full", "room"]))
    def memory(self, job, what):
        """A model is moved to a GPU; host and GPU run out of memory, or have it again."""
        trainer = self.world.trainer(job)
        if trainer is not None and what == "device":
            trainer.move_to_device()
        elif trainer is not None:
            trainer.has_host_memory = trainer.has_device_memory = what == "room"

    @rule(job=JOBS, by=ASKERS, turns=st.booleans())
    def offload(self, job, by, turns):
        """All the way to depth offload where nothing is amiss; the driver may not have answered yet."""
        trainer = self.world.trainer(job)
        if trainer is None or not trainer.is_connected:
            return
        trainer.move_to_device()
        self.world.deliver(job)
        self.pause(job, by, Depth.OFFLOAD, None, "wait")
        self.world.turns()
        self.world.boundary(job, can_save=True)
        self.world.deliver(job)
        if turns:
            self.world.turns()

    @rule(job=JOBS, can=st.booleans())
    def driver(self, job, can):
        """It does what it is asked for, or cannot."""
        trainer = self.world.trainer(job)
        if trainer is not None and can:
            self.world.driver_problems.pop(trainer.process, None)
        elif trainer is not None:
            self.world.driver_problems[trainer.process] = "CUDA_ERROR_OUT_OF_MEMORY"

    @rule(job=JOBS, request=STALE, kind=st.sampled_from(["hold", "failed", "resumed"]))
    def stale_word(self, job, request, kind):
        """Something a job that is over, or a request that is answered, is told of once more."""
        found = self.world.engine.find(job)
        if found is not None and (not found.alive or found.request != request):
            saved = CheckpointRef(step=1, epoch=0, path="/old", digest="old")
            match kind:
                case "hold" if not found.alive:
                    event = PauseReached(request=request, depth=Depth.HOLD, checkpoint=saved)
                case "resumed" if not found.alive:
                    event = TrainingResumed(request=request)
                case _:
                    event = PauseFailed(request=request, why="disk full")
            self.world.engine.observe(job, event)

    # --- time and the daemon ----------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 11.0, 35.0, 100.0]))
    def time_passes(self, seconds):
        self.world.clock.advance(seconds)
        self.world.turn()
        due = self.world.engine.next_due()
        assert due is None or due > self.world.clock.now()

    @rule(stored=st.integers(0, 2))
    def turn(self, stored):
        self.world.turn(stored=stored)

    @rule()
    def turns(self):
        self.world.turns()

    @rule(stored=st.integers(0, 3), effects=st.integers(0, 3), staged=st.booleans())
    def crash(self, stored, effects, staged):
        if staged:
            self.world.stage()
        self.world.crash(stored=stored, effects=effects)

    @precondition(lambda self: self.num_requests % 7 == 6)
    @rule()
    def rest(self):
        self.world.come_to_rest()
        self.check_replay()

    # --- what must always hold ----------------------------------------------------------------------

    @invariant()
    def holds(self):
        self.world.check()

    def check_replay(self):
        """The events of the journal, applied again, give exactly its jobs."""
        journal, jobs = self.world.journal, {}
        seq = 0
        while page := journal.history(after_seq=seq, job=None, limit=100):
            for one in page:
                assert one.seq > seq
                seq = one.seq
                _replay(jobs, one)
        assert jobs == {job.name: job for job in journal.jobs()}


def _replay(jobs, stored):
    match stored.event:
        case Submitted():
            jobs[stored.job] = core.create(stored.job, stored.event, stored.at)
        case Removed():
            del jobs[stored.job]
        case event:
            jobs[stored.job], _ = core.apply(jobs[stored.job], event, stored.at)
    after = jobs.get(stored.job)
    assert stored.state == (after.state if isinstance(after, Job) else "removed")


class MachineOnSqlite(MachineOnFakeDisk):
    """The same on the real journal."""

    def disk(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name, "journal.sqlite")
        return lambda: SqliteJournal(path)

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


class TestOnFakeDisk(MachineOnFakeDisk.TestCase):
    """A supervisor that was killed anywhere loses no job and starts none twice; on a fast, fake disk."""


class TestOnSqlite(MachineOnSqlite.TestCase):
    """The same on SQLite."""


_NUM = hypothesis.settings().max_examples
TestOnFakeDisk.settings = hypothesis.settings(stateful_step_count=60, max_examples=3 * _NUM)
TestOnSqlite.settings = hypothesis.settings(stateful_step_count=40, max_examples=_NUM // 4)


class TestNames:
    """What a removed job leaves behind, and what it does not."""

    def test_a_removed_name_can_be_used_again(self):
        """
        The new job is launched, and is not told how the old one ended.
        2026-11: it was "completed" at once, because its run folder told of the old one's end.
        """
        disk = FakeDisk()
        world = SupervisedMachine(lambda: FakeJournal(disk))
        world.submit("job-1", world.spec())
        world.turns()
        world.end("job-1", 0)
        world.turns()
        first = world.engine.job("job-1").id
        world.engine.remove("job-1", Asker("person", "ada"))
        world.turns()
        world.crash(stored=9, effects=9)
        world.submit("job-1", world.spec())
        world.turns()
        world.hello("job-1")
        world.turns()
        again, starts = world.engine.job("job-1"), list(world.machine.starts)
        world.close()

        assert (JobState.RUNNING, [("job-1", 1), ("job-1", 2)]) == (again.state, starts)
        assert first != again.id

    def test_numbers_of_unnamed_jobs_are_not_used_again(self):
        """
        `job-2` in somebody's notes means one job for ever.
        """
        disk = FakeDisk()
        world = SupervisedMachine(lambda: FakeJournal(disk))
        names = [world.engine.submit(None, world.spec()).name for _ in range(2)]
        world.turns()
        for name in names:
            world.end(name, 0)
        world.turns()
        world.engine.remove("job-2", Asker("person", "ada"))
        world.turns()
        world.crash(stored=9, effects=9)
        names.append(world.engine.submit(None, world.spec()).name)
        world.turns()
        world.close()

        assert ["job-1", "job-2", "job-3"] == names


class TestEffects:
    """What was journaled is carried out, once."""

    def test_an_effect_that_fails_takes_no_other_with_it(self):
        """
        2026-11: no descriptor was left for a signal, and a job launched in the same batch never started.
        """
        disk = FakeDisk()
        world = SupervisedMachine(lambda: FakeJournal(disk))

        def fail():
            raise OSError(24, "Too many open files")

        world.engine.submit("job-1", world.spec())
        world.engine.then(fail)
        world.engine.submit("job-2", world.spec())
        with pytest.raises(OSError, match="Too many open files"):
            world.turns()
        world.turns()
        starts = world.machine.starts
        world.close()

        assert [("job-1", 1), ("job-2", 1)] == sorted(starts)
