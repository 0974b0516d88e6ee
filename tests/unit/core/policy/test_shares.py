"""Whose turn it is among users: shares by weights, priority as far as an admin gave it, nobody starves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.jobs.job import JobSpec
from supervisor.core.jobs.states import JobState
from supervisor.core.policy.admission import line
from supervisor.core.policy.explain import explain, shares
from supervisor.core.policy.memory import Memory
from supervisor.core.policy.preemption import make_room
from supervisor.core.policy.rules import PolicyConfig, QueueConfig, SharesConfig
from supervisor.core.policy.shares import granted, weighs
from supervisor.core.policy.simulation import SimJob, simulate
from supervisor.core.policy.usage import Account
from supervisor.core.policy.victims import options
from supervisor.core.readings.sample import Sample
from tests.fakes.moment import NOW, QUIET, a_job, a_rule, moment, on, paused
from tests.fakes.steered_machine import Settings, gpu

HOUR = 3600.0


def queued(name, *, waited_s=10.0, **of):
    return a_job(name, JobState.QUEUED, since=NOW - waited_s, **of)


def scene(*jobs, usage=None, config=None, queue=None, memory=None, **of):
    """A moment at which users have had so many slot hours."""
    memory = memory or Memory(at=NOW)
    memory.usage.update({user: Account(hours * HOUR, NOW) for user, hours in (usage or {}).items()})
    seen = moment(*jobs, memory=memory, queue=queue, **of)
    return (
        seen
        if config is None
        else type(seen)(
            seen.jobs,
            seen.sample,
            Settings(rules=seen.settings.rules, queue=seen.settings.queue, shares=config),
            seen.memory,
            seen.instances,
            NOW,
        )
    )


def order(*args, **of):
    return [standing.job.name for standing in line(scene(*args, **of))]


class TestTheLine:
    def test_who_had_least_comes_first_and_then_they_alternate(self):
        """
        Each job that goes on counts at once, so the next turn is another user's, however many one has.
        """
        jobs = [queued(f"{user}/{n}", waited_s=20 - n) for user in ("ada", "bob", "") for n in (1, 2)]
        jobs = [*jobs[:4], queued("1", waited_s=19), queued("2", waited_s=18)]

        assert ["bob/1", "1", "ada/1", "bob/2", "2", "ada/2"] == order(*jobs, usage={"ada": 2, "": 1})

    def test_the_weight_says_how_much_is_whose(self):
        """
        With twice the weight two turns for one.
        """
        jobs = [queued(f"{user}/{n}", waited_s=20 - n) for user in ("ada", "bob") for n in range(4)]
        config = SharesConfig(weights={"bob": 2.0})

        assert ["ada/0", "bob/0", "bob/1", "ada/1"] == order(*jobs, config=config)[:4]

    def test_what_runs_counts_and_what_cannot_go_takes_no_turn(self):
        """
        Who runs more waits longer; ten jobs that fit nowhere do not cost a user his place for one that does.
        """
        hopeless = [queued(f"ada/{n}", num_gpus=9, waited_s=99) for n in range(10)]
        jobs = [*hopeless, queued("ada/fits"), queued("bob/1", waited_s=50), queued("bob/2"), a_job("bob/0")]
        gone = [one.job.name for one in line(scene(*jobs)) if one.may_go]
        begun = [a_job("bob/0", since=NOW), queued("bob/1", waited_s=50), queued("ada/1")]

        assert ["ada/fits", "bob/1", "bob/2"] == gone
        # What was had counts as a mean: two hours of a day are less than the slot that somebody has now.
        assert ["ada/1", "bob/1"] == order(*begun, usage={"ada": 2})

    def test_ones_own_jobs_stand_by_priority(self):
        """
        As high as he likes: between users it counts as zero.
        """
        jobs = [queued("ada/low"), queued("ada/high", priority=10_000), queued("bob/a", waited_s=20)]

        assert ["bob/a", "ada/high", "ada/low"] == order(*jobs)

    def test_what_an_admin_gave_comes_before_shares(self):
        """
        And so does what the daemon's own user says of his own; an admin may also put a job behind all others.
        """
        jobs = [
            queued("ada/gift", priority=7, granted=7),
            queued("bob/a"),
            queued("eve/behind", priority=9, granted=-1),
            queued("own", priority=8),
        ]

        assert ["own", "ada/gift", "bob/a", "eve/behind"] == order(*jobs, usage={"ada": 50, "": 50})

    def test_waiting_lifts_to_the_highest_level_and_not_above(self):
        """
        After an hour a point a job is beside those with more; a thousand old ones do not pass a new one.
        """
        gift = queued("ada/gift", priority=2, granted=2)
        old = queued("bob/old", waited_s=2 * HOUR)
        young = queued("bob/old", waited_s=1.9 * HOUR)
        flood = [queued(f"bob/{n}", waited_s=9 * HOUR) for n in range(20)]

        assert ["bob/old", "ada/gift"] == order(gift, old, usage={"ada": 1})
        assert ["ada/gift", "bob/old"] == order(gift, young, usage={"ada": 1})
        assert "ada/new" == order(*flood, queued("ada/new"), usage={"bob": 1})[0]

    @given(
        st.lists(
            st.tuples(st.integers(-20, 20), st.floats(0, 9 * HOUR), st.booleans()), min_size=1, max_size=8
        )
    )
    def test_one_user_alone_stands_as_without_shares(self, said):
        """
        Whoever he is: priority with a point for each hour, paused before queued, then who came first.
        """

        def rank(job):
            aged = (NOW - job.since) / HOUR
            return (-(job.spec.priority + aged), job.state is JobState.QUEUED, job.since, job.name)

        for user in ("", "ada/"):
            jobs = [
                paused(f"{user}{n}", rule="x", priority=priority, since=NOW - waited_s)
                if is_paused
                else queued(f"{user}{n}", priority=priority, waited_s=waited_s)
                for n, (priority, waited_s, is_paused) in enumerate(said)
            ]
            assert [job.name for job in sorted(jobs, key=rank)] == order(*jobs, usage={"bob": 5})


class TestGivingWay:
    def test_who_has_most_for_his_weight_is_asked_first(self):
        """
        By his own lowest priority; what a user says of his own job saves it from no rule.
        """
        rule = a_rule(name="cpu")
        jobs = [a_job("ada/a"), a_job("bob/high", priority=99), a_job("bob/low"), a_job("own", priority=-3)]

        def asked(**of):
            seen = scene(*jobs, rules=(rule,), memory=Memory(at=NOW, triggers=on("cpu")), **of)
            return [one.job.name for one in options(seen.instances["cpu"], seen)]

        assert ["own", "bob/low", "bob/high", "ada/a"] == asked()
        assert ["own", "ada/a", "bob/low", "bob/high"] == asked(usage={"ada": 100})

    def test_no_user_pauses_others_by_a_priority_of_his_own(self):
        """
        His own jobs he may, and others where an admin gave it.
        """
        gpus = {"gpus": (gpu("G"),)}
        runs = a_job("ada/a", gpus=("G",), num_gpus=1)

        def makes_room(job, *others):
            seen = scene(job, *others, queue=QueueConfig(preempt=True), **gpus)
            (standing,) = line(seen)
            verdict = make_room(standing, seen)
            return None if verdict is None else verdict.job

        said = {"num_gpus": 1, "priority": 5}
        assert makes_room(queued("bob/b", **said), runs) is None
        assert "ada/a" == makes_room(queued("ada/b", **said), runs)
        assert "ada/a" == makes_room(queued("bob/b", granted=5, **said), runs)
        assert "ada/a" == makes_room(queued("own", **said), runs)

    def test_a_gpu_is_kept_for_a_paused_job_of_the_same_level(self):
        """
        Another user's high number does not take it away.
        """
        waits = paused("ada/a", rule="gpu", since=NOW - 5, alive=False, gpus=("G",), num_gpus=1, depth="exit")
        high = queued("bob/b", num_gpus=1, priority=500)
        given_ = queued("bob/b", num_gpus=1, priority=500, granted=500)

        def why_not(job):
            seen = scene(waits, job, gpus=(gpu("G"),), usage={"ada": 9})
            return next(one.why_not for one in line(seen) if one.job is job)

        assert "is kept for ada/a" in why_not(high)
        assert "" == why_not(given_)


def test_what_counts_between_users():
    """
    The least of what is said and what was given; of the daemon's own user all of it.
    """
    config = SharesConfig(max_priority=3)

    assert [9, 3, -2, 9, 5] == [
        granted(job, config)
        for job in (
            a_job("own", priority=9),
            a_job("bob/a", priority=9),
            a_job("bob/a", priority=-2),
            a_job("bob/a", priority=9, granted=10),
            a_job("bob/a", priority=9, granted=5),
        )
    ]
    high, other = a_job("bob/a", priority=9), a_job("bob/b")
    assert ((3, 9), (3, 0)) == (weighs(high, other, config), weighs(high, a_job("ada/a"), config))


def test_no_three_jobs_each_come_before_the_next():
    """
    Where the queue may pause jobs, they would pause each other for ever.
    """
    high, gift, other = (
        a_job("bob/high", priority=10),
        a_job("bob/gift", priority=5, granted=5),
        a_job("ada/a", priority=3, granted=3),
    )

    def comes_before(job, than):
        return weighs(job, than, SharesConfig()) > weighs(than, job, SharesConfig())

    assert [True, True, True] == [
        comes_before(gift, high),
        comes_before(gift, other),
        comes_before(other, high),
    ]


class TestOverTime:
    """Two users who always want something, by the simulation, in which jobs take their time."""

    STEP_S, NUM = 50.0, 400

    def had(self, *jobs, queue=None, weights=None, gpus=()):
        samples = [Sample(at=1e6 + n * self.STEP_S, **QUIET | {"gpus": gpus}) for n in range(self.NUM)]
        settings = Settings(
            policy=PolicyConfig(settle_s=0.0),
            queue=queue or QueueConfig(max_running=1),
            shares=SharesConfig(weights=weights or {}, half_life_s=50_000.0),
        )
        report = simulate(samples, settings, jobs)
        ran = Counter()
        for job in jobs:
            ran[job.name[:3]] += report.jobs[job.name].ran_s * max(1, job.spec.num_gpus)
        starts = [one.job[:3] for one in report.timeline if one.kind == "start"]
        return ran["ada"] / ran["bob"], starts

    def jobs(self, user, num, work_s, **of):
        spec = JobSpec(argv=("t",), cwd="/", **of)
        return [
            SimJob(name=f"{user}/{n}", work_s=work_s, start_s=0.0, spec=spec, depths=()) for n in range(num)
        ]

    def test_shares_go_to_the_weights_and_nobody_starves(self):
        """
        One after the other where they are alike, and three to one where the weights are so.
        """
        both = (*self.jobs("ada", 60, 300.0), *self.jobs("bob", 30, 300.0))
        even, _ = self.had(*both)
        uneven, starts = self.had(*both, weights={"ada": 3.0})
        gaps = [len(part) for part in "".join(one[0] for one in starts).split("b")]

        assert even == pytest.approx(1.0, abs=0.1)
        assert uneven == pytest.approx(3.0, abs=0.5)
        assert max(gaps) <= 5

    def test_many_jobs_of_one_get_no_more_than_few_of_another(self):
        """
        In short ones, in old ones, in those that ask for less at once.
        """
        few = self.jobs("ada", 9, 3000.0)
        by_time, _ = self.had(*self.jobs("bob", 120, 150.0), *few)
        by_width, _ = self.had(
            *self.jobs("bob", 60, 600.0, num_gpus=1),
            *self.jobs("ada", 40, 600.0, num_gpus=2),
            queue=QueueConfig(ageing_s=600.0),
            gpus=(gpu("A"), gpu("B")),
        )

        assert by_time > 0.9
        assert by_width > 0.8


class TestToldWhy:
    def test_what_each_had_and_who_is_next(self):
        """
        The least for his weight first, and marked whose job was asked about.
        """
        jobs = [
            queued("bob/a", num_gpus=1),
            queued("ada/a", num_gpus=1),
            a_job("bob/b", gpus=("G",), num_gpus=1),
        ]
        memory = Memory(at=NOW, usage={"bob": Account(3 * HOUR, NOW), "ada": Account(HOUR, NOW)})
        sample = Sample(at=NOW, **QUIET | {"gpus": (gpu("G"),)})
        settings = Settings(shares=SharesConfig(weights={"ada": 2.0}))
        told = explain(jobs[0], jobs, sample, settings, memory, NOW).shares
        ada, bob = told

        assert [("ada", 2.0, 1, True, False), ("bob", 1.0, 1, False, True)] == [
            (one.user, one.weight, one.num_waiting, one.is_next, one.is_jobs) for one in told
        ]
        assert (1.0, 0.0, 1.0) == (ada.slot_h, ada.num_slots, bob.num_slots)
        # What runs has had something as well.
        assert 3.0 < bob.slot_h < 3.0 + 9000 / HOUR

    def test_one_user_alone_is_told_of_no_shares(self):
        """
        A daemon of one's own has no others.
        """
        assert () == shares(scene(queued("a"), a_job("b"), usage={"": 3}))
