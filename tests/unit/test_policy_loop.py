"""From samples to requests: what the daemon does with what the policy wants, on a machine in memory.

Covers: when it looks, that verdicts are obeyed and stored, the queue, memory
across restarts, silences in which nobody looked.
Does not cover: which verdict is right (core/policy), real readings (contract/test_sampler.py).
"""

import itertools

import msgspec
import pytest

from supervisor.core.jobs.events import Admitted, PauseAsked, ResumeAsked
from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Condition, PolicyConfig, QueueConfig, Rule
from supervisor.core.readings.blocks import unpack
from supervisor.core.readings.sample import Gpu, GpuProcess
from supervisor.errors import Refused
from supervisor.policy_loop import PolicyLoop
from supervisor.settings.config import Config, DaemonConfig
from tests.fakes.journal import FakeDisk, FakeJournal
from tests.fakes.sampler import FakeSampler
from tests.fakes.world import SupervisedMachine

ADA = Asker("person", "ada")
BUSY = Rule(
    name="busy",
    when=(Condition(metric="cpu_foreign_pct", above=50.0, clear_below=20.0),),
    pause_after_s=10.0,
    resume_after_s=20.0,
)
POLICY = PolicyConfig(settle_s=5.0, min_run_s=0.0, easing_long_s=0.0, easing_short_s=0.0)
CONFIG = Config(daemon=DaemonConfig(sample_s=1.0), policy=POLICY, rules=(BUSY,))


class House:
    """One daemon after the other over one disk and one machine."""

    def __init__(self, config):
        disk = FakeDisk()
        self.disk = disk
        self.config = config
        self.world = SupervisedMachine(lambda: FakeJournal(disk))
        self.sampler = FakeSampler()
        #: Jobs that reach no batch boundary.
        self.stuck = set()
        self._begin()

    def _begin(self):
        engine = self.world.engine
        engine.config = self.config
        world = self.world
        self.policy_loop = PolicyLoop(engine, self.sampler, world.clock, world.journal, world.look)
        self.policy_loop.configure(self.config)

    def restart(self):
        self.world.crash(stored=1000, effects=1000)
        self._begin()

    def turn(self):
        world = self.world
        world.engine.take_launcher_news()
        world._note(world.journal.let_through(1000))
        world.engine.settle()
        looked = self.policy_loop.turn()
        world.engine.stage()
        return looked

    def turns(self):
        for _ in range(6):
            self.turn()

    def run(self, for_s, **readings):
        """Let time pass, a step and a look each second."""
        self.sampler.host = msgspec.structs.replace(self.sampler.host, **readings)
        for _ in range(int(for_s)):
            self.world.clock.advance(1.0)
            for name in list(self.world.engine.jobs):
                self.world.hello(name)
                if name not in self.stuck:
                    self.world.boundary(name, can_save=True)
                self.world.deliver(name)
            self.turns()

    def submit(self, *names, **spec):
        for name in names:
            self.world.submit(name, self.world.spec(**spec))
        self.turns()

    def job(self, name="night"):
        return self.world.engine.job(name)

    def states(self):
        return {name: str(job.state) for name, job in self.world.engine.jobs.items()}

    def events(self, kind, job="night"):
        stored = self.world.journal.history(after_seq=0, job=job, limit=1000)
        return [one.event for one in stored if isinstance(one.event, kind)]


@pytest.fixture
def house():
    house = House(CONFIG)
    yield house
    house.world.close()


def test_a_job_yields_to_others_and_comes_back_by_itself(house):
    """
    With what was seen, in the journal: rule, reading, threshold, for how long, and who was considered.
    """
    house.submit("night")
    house.run(5)
    house.run(15, cpu_foreign_pct=83.0)

    job = house.job()
    assert (JobState.PAUSED, Depth.HOLD, "rule busy") == (job.state, job.depth, str(job.asked_by))
    (asked,) = house.events(PauseAsked)
    (seen,) = asked.verdict.evidence
    assert (("cpu_foreign_pct", 83.0, "> 50"), True) == (
        (seen.what, seen.reading, seen.threshold),
        seen.for_s >= 10.0,
    )
    assert [("night", True)] == [(one.job, one.is_chosen) for one in asked.verdict.candidates]
    assert asked.verdict == job.pause.verdict

    house.run(60, cpu_foreign_pct=3.0)

    assert (JobState.RUNNING, None) == (house.job().state, house.job().pause)
    assert ["resume"] == [event.verdict.kind for event in house.events(ResumeAsked)]


def test_a_daemon_that_is_restarted_goes_on_where_it_was(house):
    """
    The job stays paused, for the same reason; it comes back when the rule is over, and not before.
    """
    house.submit("night")
    house.run(20, cpu_foreign_pct=83.0)
    before = house.job()
    house.restart()
    house.run(30, cpu_foreign_pct=40.0)

    assert (before.pause.verdict, JobState.PAUSED) == (house.job().pause.verdict, house.job().state)

    house.run(60, cpu_foreign_pct=3.0)

    assert JobState.RUNNING is house.job().state


@pytest.mark.parametrize("text", ["no JSON", '{"at": "yesterday"}', '{"triggers": 7}'])
def test_a_memory_that_cannot_be_read_is_dropped(house, text):
    """
    It costs a wait at most; a daemon that does not start would cost the machine.
    """
    house.submit("night")
    house.run(20, cpu_foreign_pct=83.0)
    house.disk.facts["policy.memory"] = text
    house.restart()
    house.run(60, cpu_foreign_pct=3.0)

    assert JobState.RUNNING is house.job().state


def test_a_machine_that_was_suspended_has_watched_nothing_meanwhile(house):
    """
    Busy before and after an hour of sleep is not busy for an hour, and calm neither.
    """
    house.submit("night")
    house.run(5)
    house.run(5, cpu_foreign_pct=83.0)
    house.world.clock.advance(3600.0)
    house.run(3)

    assert JobState.RUNNING is house.job().state

    house.run(10)

    assert JobState.PAUSED is house.job().state

    house.run(10, cpu_foreign_pct=3.0)
    house.world.clock.advance(3600.0)
    house.run(5)

    assert JobState.PAUSED is house.job().state


def test_what_a_person_paused_is_left_alone(house):
    """
    Neither a rule that is short nor one that is over touches it.
    """
    house.submit("night")
    house.run(5)
    asked = PauseAsked(request="p", by=ADA, depth=Depth.HOLD, deadline_s=30.0)
    house.world.engine.ask("night", asked)
    house.run(30, cpu_foreign_pct=83.0)
    house.run(100, cpu_foreign_pct=3.0)

    assert (JobState.PAUSED, ADA) == (house.job().state, house.job().asked_by)
    assert 1 == len(house.events(PauseAsked))


def test_a_verdict_that_is_refused_does_not_come_every_second(house):
    """
    A script without a shim cannot be paused; the policy does not even ask while it knows that.
    """
    house.world.plain.add("night")
    house.submit("night")
    house.run(120, cpu_foreign_pct=83.0)

    assert [] == house.events(PauseAsked)
    assert JobState.RUNNING is house.job().state


def test_a_job_that_a_rule_froze_goes_on_when_the_rule_is_over():
    """
    It gave back what it could without a boundary; nobody has to think of it.
    """
    rule = msgspec.structs.replace(BUSY, deadline_s=5.0, at_deadline="freeze")
    house = House(msgspec.structs.replace(CONFIG, rules=(rule,)))
    house.submit("night")
    house.run(5)
    house.stuck.add("night")
    house.run(30, cpu_foreign_pct=83.0)

    assert (JobState.PAUSING, True) == (house.job().state, house.world.is_frozen("night"))
    explanation = house.policy_loop.explain("night")
    assert ("rule busy is on",) == explanation.waits_for[:1]

    house.run(10, cpu_foreign_pct=3.0)
    house.stuck.clear()
    house.run(60)

    assert (JobState.RUNNING, False) == (house.job().state, house.world.is_frozen("night"))
    house.world.close()


def test_a_look_that_fails_is_not_tried_again_at_once(house):
    """
    Whatever is wrong with it: the daemon has other things to do.
    """
    house.submit("night")
    house.run(3)
    look, house.sampler.sample = house.sampler.sample, None
    house.world.clock.advance(1.0)
    with pytest.raises(TypeError):
        house.turn()

    assert not house.turn()
    house.sampler.sample = look
    house.world.clock.advance(1.0)
    assert house.turn()


def test_a_job_starts_in_the_turn_in_which_it_comes(house):
    """
    Nobody waits for the next look where nothing has to be measured; also after a restart by a person.
    """
    house.world.submit("night", house.world.spec())
    house.turn()

    assert JobState.STARTING is house.job().state


def test_only_so_many_jobs_run_and_the_highest_priority_goes_first():
    """
    The others wait in the queue, in the order of their priority.
    """
    config = msgspec.structs.replace(CONFIG, queue=QueueConfig(max_running=1, ageing_s=0.0), rules=())
    house = House(config)
    house.submit("first")
    house.submit("low")
    house.submit("high", priority=5)
    house.run(20)

    assert {"first": "running", "low": "queued", "high": "queued"} == house.states()

    house.world.end("first")
    house.run(20)

    assert {"first": "completed", "low": "queued", "high": "running"} == house.states()
    house.world.close()


def test_jobs_get_gpus_of_their_own(house):
    """
    By UUID; who finds none free waits, and who comes back by a person's word gets a free one.
    """
    free = {"memory_total_bytes": 80.0 * 2**30, "memory_used_bytes": 0.0, "processes": ()}
    house.sampler.host = msgspec.structs.replace(
        house.sampler.host, gpus=(Gpu(uuid="GPU-a", **free), Gpu(uuid="GPU-b", index=1, **free))
    )
    house.submit("a", "b", "c", num_gpus=1)
    house.run(40)

    assert {"a": "running", "b": "running", "c": "queued"} == house.states()
    assert {"GPU-a", "GPU-b"} == {house.job("a").gpus[0], house.job("b").gpus[0]}

    exit_ = PauseAsked(request="p", by=ADA, depth=Depth.EXIT, deadline_s=30.0)
    house.world.engine.ask("a", exit_)
    house.run(3)
    house.world.end("a", 75)
    house.run(40)
    house.world.end("b")
    house.run(3)
    house.world.engine.ask("a", ResumeAsked(request="r", by=ADA, start_grace_s=60.0))
    house.run(3)

    assert {"a": "running", "b": "completed", "c": "running"} == house.states()
    assert house.job("a").gpus != house.job("c").gpus
    assert ["start"] == [event.verdict.kind for event in house.events(Admitted, job="c")]


def test_it_looks_as_often_as_it_should(house):
    """
    Each second while somebody uses the machine, now and then while nobody does, at once when the
    kernel says so.
    """

    def looks(seconds):
        count = 0
        for _ in range(seconds):
            house.world.clock.advance(1.0)
            count += house.turn()
        return count

    assert looks(60) <= 7
    house.world.submit("night", house.world.spec())
    assert house.turn()
    house.run(2)
    assert 30 == looks(30)
    house.sampler.wake()
    house.policy_loop.wake()

    assert house.turn()
    assert house.policy_loop.sample.is_urgent


@pytest.mark.parametrize("holding_s", [2.0, 2.3])
def test_a_holding_time_ends_when_it_is_over(holding_s):
    """
    Not at the next look, up to a second later; and the looks go on each second from there.
    """
    rule = msgspec.structs.replace(BUSY, pause_after_s=holding_s, resume_after_s=60.0)
    house = House(msgspec.structs.replace(CONFIG, rules=(rule,)))
    house.submit("night")
    house.run(5)
    house.sampler.host = msgspec.structs.replace(house.sampler.host, cpu_foreign_pct=83.0)
    short_since = house.policy_loop.next_at()
    moments = []
    while house.job().state is JobState.RUNNING:
        house.world.clock.advance(house.policy_loop.next_at() - house.world.clock.now())
        assert house.turn()
        moments.append(house.world.clock.now() - short_since)

    assert pytest.approx(holding_s) == moments[-1]
    assert pytest.approx([0.0, 1.0, 2.0]) == moments[:3]
    assert pytest.approx(1.0) == house.policy_loop.next_at() - house.world.clock.now()
    house.world.close()


def test_readings_are_recorded_in_blocks(house):
    """
    A minute at a time, so that an idle disk may sleep; the last ones at the end.
    """
    house.submit("night")
    house.run(130)

    blocks = [unpack(one.block) for one in house.disk.blocks]
    assert [60, 60] == [len(samples) for samples in blocks]
    # Shown, and no reading that a rule could ask for.
    assert not any(sample.totals for samples in blocks for sample in samples)

    house.policy_loop.close()

    assert 3 == len(house.disk.blocks)


def test_no_readings_are_recorded_where_nobody_wants_them():
    """
    `sample_history_mib = 0` records nothing.
    """
    policy = msgspec.structs.replace(POLICY, sample_history_mib=0.0)
    house = House(msgspec.structs.replace(CONFIG, policy=policy))
    house.submit("night")
    house.run(70)

    assert [] == house.disk.blocks
    house.world.close()


def test_a_job_that_a_person_starts_gets_the_gpu_with_the_most_room(house):
    """
    Where all are in use, rather one that no job of ours is on; where there are none, it is refused in words.
    """
    gpu = {"memory_total_bytes": 80.0 * 2**30, "processes": ()}
    taken = tuple(
        Gpu(uuid=f"GPU-{name}", index=index, memory_used_bytes=used * 2.0**30, **gpu)
        for index, (name, used) in enumerate([("a", 1), ("b", 30), ("c", 20)])
    )
    foreign = tuple(msgspec.structs.replace(one, processes=(GpuProcess(9, 1 << 30),)) for one in taken[1:])
    house.sampler.host = msgspec.structs.replace(house.sampler.host, gpus=(taken[0], *foreign))
    house.submit("first", num_gpus=1)
    house.run(5)
    house.submit("night", num_gpus=1)
    house.run(5)

    assert {"first": "running", "night": "queued"} == house.states()
    house.world.engine.ask("night", ResumeAsked(request="r", by=ADA, start_grace_s=60.0))
    assert ("GPU-c",) == house.job().gpus
    assert JobState.STARTING is house.job().state

    house.submit("other", num_gpus=1)
    house.run(1, gpus=())
    with pytest.raises(Refused, match="cannot start job `other`: it asks for a GPU"):
        house.world.engine.ask("other", ResumeAsked(request="r", by=ADA, start_grace_s=60.0))


def test_an_emergency_fills_no_history_but_what_led_to_a_verdict_is_kept(house):
    """
    While memory is scarce there are ten looks a second; one a second is recorded, and the one that mattered.
    """
    house.submit("night")
    house.run(5)
    before = len(house.policy_loop.fresh(after_wall=0.0, before_wall=1e12))
    house.sampler.is_hurried = True
    house.sampler.host = msgspec.structs.replace(house.sampler.host, cpu_foreign_pct=90.0)
    looks = 0
    for _ in range(200):
        house.world.clock.advance(0.1)
        looks += house.turn()
    recorded = house.policy_loop.fresh(after_wall=0.0, before_wall=1e12)
    (asked,) = house.events(PauseAsked)

    assert looks > 180
    assert len(recorded) - before in range(19, 24)
    assert asked.verdict.kind == "pause"
    assert house.job().state in (JobState.PAUSING, JobState.PAUSED)
    gaps = [later.at - one.at for one, later in itertools.pairwise(recorded)]
    assert min(gaps) < 0.85, "the look that led to the verdict"


def test_jobs_that_are_over_are_no_part_of_what_is_decided_and_stored(house):
    """
    A server has thousands of them after a year: not even the memory that is written each minute may grow.
    """
    names = [f"done-{number}" for number in range(20)]
    house.submit("night", *names)
    house.run(5)
    for name in names:
        house.world.end(name)
    house.run(90)

    assert {"night"} == set(house.world.engine.present)
    assert {"night"} == set(msgspec.json.decode(house.disk.facts["policy.memory"])["jobs"])
    assert {*names, "night"} == {one.job for one in house.policy_loop.explain_all()}
