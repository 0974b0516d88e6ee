"""What `why` and `status` say is so: who let a job go on, what a pause still waits for, what is short."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import (
    Attached,
    PauseAsked,
    PauseReached,
    ProcessEnded,
    RestartAsked,
    TimerFired,
)
from supervisor.core.jobs.job import Asker, Exit
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy import explain as explaining
from supervisor.core.policy.rules import Condition, QueueConfig, Rule
from supervisor.core.readings.sample import Gpu, Missing
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, Machine, gpu

ADA = Asker("person", "ada")
GRACES = {"stop_grace_s": 10.0, "kill_grace_s": 10.0}
EIGHT = tuple(gpu(f"GPU-{number}") for number in range(8))
SILENT = Missing("the GPU is lost")


def went_on(machine, name="a"):
    told = machine.why(name).went_on
    return told.by, told.by_kind, told.did


def failed(machine, name="a"):
    machine.happen(name, ProcessEnded(incarnation=machine.jobs[name].incarnation, exit=Exit(code=1)))


def states(machine):
    jobs = tuple(machine.jobs.values())
    return explaining.rule_states(jobs, machine.sample(), machine.settings, machine.memory, machine.now)


def alarms(machine):
    jobs = tuple(machine.jobs.values())
    return explaining.alarms(jobs, machine.sample(), machine.settings, machine.memory, machine.now)


class TestWhoLetItGoOn:
    def test_the_queue_a_rule_or_a_person(self):
        """
        The newest of them; a rule that paused and resumed it long ago has nothing to do with it.
        """
        machine = Machine(CPU).submit("a").run(100)
        started = went_on(machine)
        machine.run(40, cpu_foreign_pct=90.0).run(190, cpu_foreign_pct=5.0)
        by_rule = went_on(machine)
        by_verdict = machine.why("a").verdict.kind
        machine.pause("a", ADA)
        paused = machine.why("a")
        machine.resume("a", ADA)

        assert ("queue", "rule", "started it") == started
        assert (("cpu", "rule", "let it go on"), "resume") == (by_rule, by_verdict)
        assert (None, None) == (paused.verdict, paused.went_on)
        assert ("ada", "person", "let it go on") == went_on(machine)
        assert machine.why("a").verdict is None

    def test_a_person_who_takes_a_rules_pause_over(self):
        """
        What the rule saw does not explain what a person wants.
        """
        machine = Machine(CPU).submit("a").run(100).run(40, cpu_foreign_pct=90.0)
        of_the_rule = machine.why("a").verdict
        machine.pause("a", ADA)

        assert "cpu" == of_the_rule.rule
        assert ("ada", None) == (machine.why("a").by, machine.why("a").verdict)

    def test_a_person_who_starts_a_queued_job_or_starts_it_anew(self):
        """
        Also where the queue lets it in afterwards: it was wanted by a person.
        """
        machine = Machine(CPU).run(40, cpu_foreign_pct=90.0).submit("a").run(5)
        machine.resume("a", ADA)
        started = went_on(machine)
        machine.run(200, cpu_foreign_pct=5.0)
        machine.happen("a", RestartAsked(request="r", by=ADA, **GRACES))
        stopping = machine.why("a").by
        failed(machine)
        machine.run(30)

        assert ("ada", "person", "started it") == started
        assert "ada" == stopping
        assert JobState.RUNNING is machine.state("a")
        assert ("ada", "person", "restarted it") == went_on(machine)

    def test_nobody_where_it_happened_by_itself(self):
        """
        A pause whose time is over, a restart after a failure, a shim that went on alone.
        """
        machine = Machine(CPU).submit("a", restart="on-failure").run(100)
        machine.pause("a", ADA, for_s=50.0)
        machine.happen("a", TimerFired(timer="wake"))
        woken = went_on(machine)
        failed(machine)
        waits = machine.why("a").next
        machine.happen("a", TimerFired(timer="restart"))
        machine.run(30)
        again = went_on(machine)
        machine.run(60).run(40, cpu_foreign_pct=90.0)
        machine.happen("a", Attached(incarnation=machine.jobs["a"].incarnation, depths=(Depth.HOLD,)))

        assert ("", "", "the time that it was paused for is over") == woken
        assert "it is started again in 10 s, restart 1 of 3" == waits
        assert ("", "", "it had failed and was started again, 1 of 3 times") == again
        assert ("", "", "its training shim let it go on while no daemon was there") == went_on(machine)

    def test_a_pause_for_the_queue_is_not_called_a_rule(self):
        """
        Neither where it is asked for nor where there is room again.
        """
        machine = Machine(CPU, queue=QueueConfig(preempt=True, max_running=1)).submit("low").run(100)
        machine.submit("high", priority=1).run(40)
        asked_by, chosen = machine.jobs["low"].asked_by, machine.why("low").verdict.candidates
        machine.happen("high", ProcessEnded(incarnation=1, exit=Exit(code=0)))
        machine.run(40)

        assert "the queue" == str(asked_by)
        assert [("low", True)] == [(one.job, one.is_chosen) for one in chosen]
        assert "there is room for it again" == machine.verdicts[-1][1].reason
        assert ("queue", "rule", "let it go on") == went_on(machine, "low")

    def test_a_rule_that_is_no_longer_in_force_is_not_said_to_be_over(self):
        """
        It was switched off; nobody knows whether its shortage is over.
        """
        machine = Machine(CPU).submit("a").run(100).run(40, cpu_foreign_pct=90.0)
        machine.settings = replace(machine.settings, rules=(replace(CPU, enabled=False),))
        machine.run(20)

        assert "rule cpu is no longer in force, and it fits" == machine.verdicts[-1][1].reason

    def test_a_pause_that_failed_is_no_go_ahead(self):
        """
        Its problem says why it runs; who let it go on before has nothing to do with that.
        """
        machine = Machine(CPU).submit("a").run(100)
        machine.failing = {"a"}
        machine.pause("a", ADA)

        assert (JobState.RUNNING, None) == (machine.state("a"), machine.why("a").went_on)


class TestWhatAPauseWaitsFor:
    @pytest.fixture
    def machine(self):
        machine = Machine(CPU).submit("a").run(100)
        machine.slow = {"a"}
        return machine

    def late(self, machine, at_deadline, by=ADA):
        machine.happen(
            "a", PauseAsked(request="r", by=by, depth=Depth.EXIT, deadline_s=9.0, at_deadline=at_deadline)
        )
        machine.happen("a", TimerFired(timer="deadline"))
        return machine.why("a")

    def test_a_frozen_job_reaches_no_boundary(self, machine):
        """
        It stands still until somebody lets it go on; the ranking of a rule says so as well.
        """
        told = self.late(machine, "freeze")
        frozen, _ = machine.jobs["a"], machine.submit("b").run(70).run(40, cpu_foreign_pct=90.0)
        ranking = {one.job: one.why for one in machine.why("b").verdict.candidates}

        assert frozen.frozen_at is not None
        assert "boundary" not in told.next
        assert "`supervisorctl resume a`; until then it stands still" in told.next
        assert "it is pausing already, and late, and frozen" == ranking["a"]

    def test_a_frozen_job_of_a_rule_waits_for_that_rule(self, machine):
        """
        As a paused one does: it is let go when the rule is over.
        """
        machine.run(40, cpu_foreign_pct=90.0)
        machine.happen("a", TimerFired(timer="deadline"))
        job = machine.jobs["a"]
        machine.jobs["a"] = replace(job, pause=replace(job.pause, frozen_at=machine.now))

        assert "cpu_foreign_pct < 20 for 180 s" == machine.why("a").next

    def test_one_that_is_being_ended_for_it_ends(self, machine):
        """
        It was late, and was to be terminated then.
        """
        assert (
            "its process ends; it reached no batch boundary in time" == self.late(machine, "terminate").next
        )

    def test_a_checkpoint_that_is_durable_is_not_waited_for(self, machine):
        """
        Only the process has still to end; or a deeper pause begins from one that has its checkpoint.
        """
        machine.happen("a", PauseAsked(request="r", by=ADA, depth=Depth.EXIT, deadline_s=9.0))
        before = machine.why("a").next
        saved = machine.checkpoint()
        machine.happen("a", PauseReached(request="r", depth=Depth.EXIT, checkpoint=saved))
        ending = machine.why("a").next
        other = Machine(CPU).submit("a").run(100)
        other.pause("a", ADA)
        other.happen("a", PauseAsked(request="s", by=ADA, depth=Depth.EXIT, deadline_s=9.0))

        assert "it reaches its next batch boundary and saves" == before
        assert "its process ends; its checkpoint is durable" == ending
        assert "it goes from hold to exit; its checkpoint is durable" == other.why("a").next

    def test_what_comes_after_a_start_a_stop_and_the_last_restart(self):
        """
        Every state has a next, as long as there is one.
        """
        machine = Machine(CPU).submit("a", restart="on-failure").run(1)
        job = machine.jobs["a"]
        shimless = replace(job.run, depths=(), start_grace_at=machine.now + 9.0)
        starting = replace(job, state=JobState.STARTING, run=shimless)
        nexts = []
        for one in (
            starting,
            replace(job, state=JobState.RESUMING),
            replace(job, state=JobState.STOPPING),
            replace(job, state=JobState.STOPPING, run=replace(job.run, insisted="TERM")),
            replace(job, state=JobState.COMPLETED, run=None),
        ):
            machine.jobs["a"] = one
            nexts.append(machine.why("a").next)

        assert [
            "its training shim connects; without one it counts as running in 9 s",
            "its training shim tells that it goes on",
            "it reaches its next batch boundary, saves and ends",
            "its process ends",
            "",
        ] == nexts

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ({"restart": "on-failure"}, "exit code 1; gave up after 3 restarts"),
            ({"restart": "on-failure", "max_restarts": 1}, "exit code 1; gave up after 1 restart"),
            ({"restart": "on-failure", "max_restarts": 0}, "exit code 1"),
            ({}, "exit code 1"),
        ],
    )
    def test_who_gave_up_is_said(self, spec, says):
        """
        After as many restarts as there may be; who never tries again gives nothing up.
        """
        machine = Machine(CPU).submit("a", **spec).run(30)
        for _ in range(4):
            failed(machine)
            if (due := core.next_due(machine.jobs["a"])) is None:
                break
            machine.now = due
            machine.happen("a", TimerFired(timer="restart"))
            machine.run(20)

        assert (says, says in machine.why("a").summary) == (machine.jobs["a"].problem, True)


class TestHowNear:
    def test_a_rule_that_is_short_is_not_part_of_the_way(self):
        """
        It has crossed its threshold; what is missing is time.
        """
        machine = Machine(CPU).submit("a").run(100).run(13, cpu_foreign_pct=90.0)

        assert "nothing asks it to yield yet; rule cpu is short, for 12 s of 30 s" == machine.why("a").next

    def test_the_nearest_rule_is_told_by_its_reading(self):
        """
        A share would have to say of what: 35 % is half of the way from 20 to 50, and 70 % of 50.
        """
        machine = Machine(CPU).submit("a").run(100, cpu_foreign_pct=35.0)

        assert (
            "nothing asks it to yield; nearest is rule cpu: cpu_foreign_pct is 35 %, short is > 50"
            == machine.why("a").next
        )

    def test_a_rule_without_a_reading_is_not_called_far(self):
        """
        Nobody knows how near it is.
        """
        machine = Machine(CPU, MEMORY).submit("a").run(100).run(5, cpu_foreign_pct=Missing("no /proc"))

        assert machine.why("a").next.endswith("no rule is near; without a reading: cpu")


class TestWhatIsWaitedFor:
    def waiting(self, machine):
        jobs = tuple(machine.jobs.values())
        return explaining.waiting(jobs, machine.sample(), machine.settings, machine.memory, machine.now)

    def test_a_queued_job_tells_what_why_tells(self):
        """
        The rule that is on, the GPU that is missing, what this machine never has.
        """
        machine = Machine(CPU, GPU).submit("has", num_gpus=2).run(20, gpus=EIGHT[:2])
        machine.submit("gpu", num_gpus=1).submit("five", num_gpus=5).run(2)
        without = self.waiting(machine)
        machine.run(100).run(40, cpu_foreign_pct=90.0).submit("late").run(2)
        with_rule = self.waiting(machine)

        assert "needs 5 GPUs, this machine has 2" == without["five"]
        assert without["gpu"].startswith("needs 1 GPU, 0 of 2 are free")
        assert "has" not in without
        assert "rule cpu is on" == with_rule["late"]
        assert machine.why("late").waits_for[0] == with_rule["late"]

    def test_a_paused_job_tells_what_it_waits_for_when_its_rule_is_over(self):
        """
        While the rule is on its reason stands there anyhow.
        """
        machine = Machine(MEMORY).submit("a", rss_gib=10.0).run(100).run(8, memory_available_bytes=GIB)
        during = self.waiting(machine)
        machine.run(200, memory_available_bytes=8.0 * GIB)

        assert {} == during
        assert {"a": "needs 10.0 GiB of memory, 8.0 GiB are available"} == self.waiting(machine)

    def test_what_it_never_gets_comes_before_what_it_waits_for(self):
        """
        Memory that is short just now hid that there will never be five GPUs.
        """
        machine = Machine(CPU).run(1, gpus=EIGHT[:2], memory_available_bytes=GIB)
        machine.submit("five", num_gpus=5, memory_bytes=int(4 * GIB)).run(2)

        assert "needs 5 GPUs, this machine has 2" == machine.why("five").waits_for[0]
        assert not machine.why("five").can_be_started

    def test_a_queued_job_may_be_started_where_there_is_a_gpu_for_it(self):
        """
        Even if another one has it: then `why` may say how.
        """
        machine = Machine(CPU).submit("has", num_gpus=1).run(20, gpus=EIGHT[:1]).submit("next", num_gpus=1)

        assert machine.run(1).why("next").can_be_started


class TestALostGpu:
    @pytest.fixture
    def machine(self):
        hot = Rule(
            name="hot",
            when=(Condition(metric="gpu_temperature_c", above=80.0, clear_below=70.0),),
            pause_after_s=1.0,
            resume_after_s=1.0,
        )
        busy = replace(
            hot,
            name="busy",
            when=(Condition(metric="gpu_foreign_processes", above=0.9, clear_below=0.1),),
        )
        cards = tuple(replace(one, temperature_c=50.0) for one in EIGHT)
        return Machine(GPU, busy, hot).submit("a").run(100, gpus=cards)

    def test_it_is_told_at_once_and_once(self, machine):
        """
        2026-11-28: first nothing, and after a minute a line for each rule.
        """
        lost = Gpu(uuid="GPU-3", utilization_pct=SILENT, memory_used_bytes=SILENT, processes=SILENT)
        lost = replace(lost, temperature_c=SILENT)
        machine.run(2, gpus=(*machine.readings["gpus"][:3], lost, *machine.readings["gpus"][4:]))

        assert (
            "rules gpu, busy and hot of GPU-3 have no reading: the GPU is lost; they stay off",
        ) == alarms(machine)

    def test_one_that_the_driver_lists_no_more_is_not_forgotten(self, machine):
        """
        It did not become another machine: its rules keep their places, for a day.
        """
        machine.run(2, gpus=machine.readings["gpus"][:7])
        (told,) = alarms(machine)
        machine.now += 86500.0
        machine.run(2)

        assert told.startswith("rules gpu, busy and hot of GPU-7 have no reading: the GPU is gone")
        assert () == alarms(machine)

    def test_a_driver_that_is_lost_is_one_line_after_a_minute(self, machine):
        """
        Eight GPUs and three rules were 24 lines, or none where no rule was on.
        """
        machine.run(50, gpus=Missing("the driver does not answer"))
        early = alarms(machine)
        machine.run(20)

        assert () == early
        assert (
            "rules gpu, busy and hot of 8 GPUs have no reading: the driver does not answer; they stay off",
        ) == alarms(machine)

    def test_some_on_and_some_off(self, machine):
        """
        Each stays what it was; one rule alone is spoken of as one.
        """
        cards = (gpu("GPU-0", foreign_gib=3.0), *EIGHT[1:])
        machine.settings = replace(machine.settings, rules=(GPU,))
        machine.run(20, gpus=cards).run(70, gpus=Missing("gone"))

        assert ("rule gpu of 8 GPUs has no reading: gone; it stays what it was at each place",) == alarms(
            machine
        )

    def test_why_of_a_running_job_names_the_rules_that_see_nothing(self, machine):
        """
        At once, not after a minute.
        """
        machine.uses["a"] = replace(machine.uses["a"], gpu_bytes={"GPU-7": 1})
        machine.run(2).run(2, gpus=Missing("gone"))

        assert machine.why("a").next.endswith("without a reading: gpu, busy, hot")
