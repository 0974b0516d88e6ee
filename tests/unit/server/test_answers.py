"""What the daemon answers about jobs and rules: counts are true, and `status` knows what `why` knows.

Covers: the answers as messages, from a real engine and a real policy on a machine in memory.
Does not cover: sockets, what is printed (tests/unit/cli/output/test_render_why.py).
"""

from __future__ import annotations

import os
import time

import pytest
from msgspec.structs import asdict, fields, replace

from supervisor import api
from supervisor.core.jobs.events import PauseAsked
from supervisor.core.jobs.job import Asker, Pid
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Candidate, Verdict
from supervisor.core.policy.explanation import Explanation, RuleState, Share, WentOn
from supervisor.core.readings.sample import Gpu
from supervisor.paths import Paths
from supervisor.server import requests
from supervisor.server.access import Access
from supervisor.server.request_context import RequestContext
from supervisor.server.router import Delivery, Peer
from supervisor.server.shims import ShimTable
from supervisor.system.marks import Marks
from tests.unit.test_policy_loop import CONFIG, House
from trainer_shim import protocol as wire


class Post:
    """A router that keeps what it was to send."""

    def __init__(self):
        self.sent = []
        self.peers = {}

    def peer(self, identity):
        return self.peers[identity]

    def send(self, _identity, message):
        self.sent.append(api.decode(wire.encode(message)))
        return True


class Explained:
    """A policy loop that explains each job in the same way."""

    def __init__(self, explanation):
        self._explanation = explanation

    def explain(self, _name):
        return self._explanation


class OneJob:
    """All that a table of shims asks for; nothing happens to the job."""

    def __init__(self, job):
        self.job = job

    def find(self, _name):
        return self.job

    def observe(self, name, event):
        pass


ME = Peer(os.geteuid(), os.getpid())


@pytest.fixture
def house():
    house = House(CONFIG)
    yield house
    house.world.close()


@pytest.fixture
def context(house, tmp_path):
    post, clock = Post(), house.world.clock
    return RequestContext(
        engine=house.world.engine,
        router=post,
        shims=ShimTable(post.send, clock, Marks(tmp_path)),
        journal=house.world.journal,
        policy_loop=house.policy_loop,
        clock=clock,
        paths=Paths.find(str(tmp_path)),
        readings={},
        gone=frozenset(),
        aside=lambda: (),
        alerts=lambda: tuple(f"file {number} is bad" for number in range(30)),
        reload=lambda then, _meanwhile: then(()),
        started_wall=time.time(),
        pid=1,
    )


@pytest.fixture
def ask(house, context):
    """Ask as the command line does; returns what was answered."""

    def ask(kind, **fields):
        context.router.sent.clear()
        requests.take(context, Delivery(b"x", ME, kind(id="r", **fields)))
        house.turn()
        return list(context.router.sent)

    return ask


def test_many_jobs_of_a_rule_are_counted_though_not_all_are_named(house, context, ask):
    """
    2026-11-28: 130 jobs were said to be 100.
    """
    house.submit(*(f"job-{number}" for number in range(130)))
    house.run(2)
    (rule,) = [one for sent in ask(api.PolicyRequest) for one in sent.rules]
    (told,) = ask(api.WhyRequest, job="job-7")

    assert (100, 130) == (len(rule.jobs), rule.num_jobs)
    assert [(100, 130)] == [(len(one.jobs), one.num_jobs) for one in told.rules]


def test_many_candidates_are_counted_though_not_all_are_sent(house, context, ask):
    """
    Of 60 that were considered 40 come, and the number.
    """
    house.submit(*(f"job-{number}" for number in range(60)))
    house.run(5)
    house.run(12, cpu_foreign_pct=90.0)
    paused = next(name for name, state in house.states().items() if state.startswith("paus"))
    (told,) = ask(api.WhyRequest, job=paused)

    assert (40, 60) == (len(told.verdict.candidates), told.verdict.num_candidates)


def test_alerts_that_are_not_sent_are_counted(context):
    """
    The last one says how many more there are.
    """
    context.send_rows(b"x", "id", [])
    (sent,) = context.router.sent

    assert 21 == len(sent.alerts)
    assert "and 10 more like these; the daemon's log has them all" == sent.alerts[-1]


def test_status_tells_a_queued_job_what_why_tells(house, context, ask):
    """
    A rule that is on, a GPU that is missing, a request that never fits.
    """
    house.sampler.host = replace(house.sampler.host, gpus=(Gpu(uuid="G1", processes=()),))
    house.submit("one", num_gpus=1)
    house.run(2)
    house.submit("two", num_gpus=1)
    house.submit("five", num_gpus=5)
    house.run(1)
    rows = {row.name: row.stage for row in context.rows(house.world.engine.jobs.values())}
    (told,) = ask(api.WhyRequest, job="two")

    assert "waiting: needs 1 GPU, 0 of 1 are free: G1 has one" == rows["two"]
    assert "waiting: needs 5 GPUs, this machine has 1" == rows["five"]
    assert rows["two"] == f"waiting: {told.waits_for[0]}"


def test_an_answer_to_why_has_all_that_the_policy_explains(house, context, ask):
    """
    A field that the answer forgot would be told as its default; so each one here has another value.
    """
    house.submit("night")
    rule = RuleState(rule="busy", jobs=("night",), num_jobs=1)
    mine = Candidate(job="night", why="priority 0", is_chosen=True)
    explained = Explanation(
        job="night",
        state=JobState.QUEUED,
        summary="queued",
        for_s=1.0,
        by="ada",
        by_kind="person",
        reason="games night",
        went_on=WentOn("ada", "person", "resumed it"),
        verdict=Verdict(
            kind="pause", job="night", rule="busy", reason="r", deadline_s=7.0, candidates=(mine,)
        ),
        rules=(rule,),
        waits_for=("a GPU",),
        next="a GPU is free",
        deadline_in_s=2.0,
        wakes_in_s=3.0,
        position=1,
        line_length=2,
        shares=(Share(user="ada"),),
        can_be_started=False,
        num_flaps=1,
        wait_factor=2.0,
        candidates=(mine,),
    )
    context.policy_loop = Explained(explained)

    (told,) = ask(api.WhyRequest, job="night")

    unsaid = [one.name for one in fields(Explanation) if getattr(explained, one.name) == one.default]
    assert [] == unsaid
    # Only the message counts the candidates.
    expected = asdict(explained) | {"verdict": replace(explained.verdict, num_candidates=1)}
    assert expected == {name: getattr(told, name) for name in expected}


def test_a_request_that_never_fits_is_refused_and_makes_no_job(house, context, ask):
    """
    Before anything was measured nobody can tell, and it is queued.
    """
    early = house.policy_loop.never_fits(house.world.spec(num_gpus=5))
    house.sampler.host = replace(house.sampler.host, gpus=(Gpu(uuid="G1"), Gpu(uuid="G2")))
    house.run(1)

    (told,) = ask(api.RunRequest, name="five", argv=("true",), cwd="/", env={}, num_gpus=5)

    assert "" == early
    assert (2, {}) == (told.exit_code, house.states())
    assert "it needs 5 GPUs, this machine has 2" in told.error


def test_events_of_a_job_that_never_was_are_refused_and_of_one_that_was_are_told(house, context, ask):
    """
    2026-11-28: `events nope` said nothing, with exit code 0. A removed job has a past, also page by page.
    """
    house.submit("was")
    house.run(1)
    (page,) = ask(api.EventsRequest, job="was")
    newest = page.events[-1].seq
    (rest,) = ask(api.EventsRequest, job="was", after_seq=newest)

    (none,) = ask(api.EventsRequest, job="nope")

    assert (True, ()) == (bool(page.events), rest.events)
    assert (2, "cannot find job `nope`") == (none.exit_code, none.error)


def test_why_of_a_job_that_saves_waits_for_the_checkpoint_not_for_the_boundary(house, context, ask):
    """
    What its shim says counts: it has reached its boundary.
    """
    house.submit("night")
    house.run(3)
    house.stuck.add("night")
    pause = PauseAsked(request="r", by=Asker("person", "ada"), depth=Depth.HOLD, deadline_s=99.0)
    house.world.engine.ask("night", pause)
    (before,) = ask(api.WhyRequest, job="night")
    job = house.job()
    job = replace(job, run=replace(job.run, process=Pid(os.getpid(), 1, "boot")))
    words = (wire.Hello(job="night", incarnation=job.incarnation), wire.Saving(request="r", step=1))
    for word in words:
        context.shims.take(Delivery(b"s", ME, word), OneJob(job))
    (saving,) = ask(api.WhyRequest, job="night")

    assert ("pausing", "it reaches its next batch boundary and saves") == (before.state, before.next)
    assert ("saving", "its checkpoint becomes durable") == (saving.stage, saving.next)


def test_nobody_is_refused_because_others_wait_for_the_journal(house, context, monkeypatch):
    """
    2026-11-29: a thousand answers that waited for a full disk were those of all together, and one had them.
    """
    monkeypatch.setattr(context, "access", Access(serves_all=True, own_uid=0))
    context.__post_init__()
    house.disk.failure = "no space left on device"
    house.world.journal.inner.write()
    ada, bob, root = Peer(4_000_321, 1), Peer(4_000_322, 2), Peer(0, 3)

    def refusal(peer):
        context.router.sent.clear()
        context.router.peers[b"x"] = peer
        run = api.RunRequest(id="r", argv=("true",), cwd="/", env={}, name=None)
        requests.take(context, Delivery(b"x", peer, run))
        house.world.engine.stage()
        return [one.error for one in context.router.sent if isinstance(one, wire.Refusal)]

    taken = 0
    while not (told := refusal(ada)):
        taken += 1

    assert 200 == taken
    assert ["cannot take more requests: too many wait for the journal, which cannot be written"] == told
    assert [] == refusal(bob) == refusal(root)
