"""What each event does to a job, row by surprising row.

Covers: the rows of core/jobs/apply.py that a reader would not guess from the table
of states, and every refusal.
Does not cover: orders of events that nobody thought of (tests/property).
"""

import pytest

from supervisor.core.jobs import apply as core
from supervisor.core.jobs.effects import AskCheckpoint, AskPause, AskResume, AskStop, EndGroup, Launch, Signal
from supervisor.core.jobs.events import (
    AbleTo,
    Admitted,
    Attached,
    CheckpointAsked,
    CheckpointReported,
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
    TimerFired,
    TrainingResumed,
)
from supervisor.core.jobs.job import Asker, CheckpointRef, Exit, JobSpec, Pid
from supervisor.core.jobs.states import Depth, JobState
from supervisor.errors import InvalidTransition, Refused

ADA, BOB, RULE = Asker("person", "ada"), Asker("person", "bob"), Asker("rule", "busy")
HOLD, OFFLOAD, EXIT = Depth
PLACE = {"checkpoint": CheckpointRef(step=7, epoch=1, path="/ckpt/7", digest="d7")}


class Life:
    """A job and the events that happen to it. `effects` are those of the last event."""

    def __init__(self, name="job-1", **spec):
        spec = JobSpec(argv=("train",), cwd="/work", **spec)
        self.now = 1000.0
        self.job = core.create(name, Submitted(id="j-1", spec=spec), self.now)
        self.effects = ()

    def __call__(self, event):
        self.job, self.effects = core.apply(self.job, event, self.now)
        return self

    @property
    def state(self):
        return self.job.state

    def admitted(self):
        self(Admitted(start_grace_s=60.0))
        return self(ProcessStarted(incarnation=self.job.incarnation, process=Pid(10, 20, "boot")))

    def running(self):
        self.admitted()
        return self.hello()

    def hello(self, holding="", depths=(HOLD, EXIT)):
        return self(Attached(incarnation=self.job.incarnation, depths=depths, holding=holding))

    def pause(self, request="p", by=ADA, depth=HOLD, for_s=None, late="wait"):
        asked = PauseAsked(
            request=request, by=by, depth=depth, deadline_s=30.0, for_s=for_s, at_deadline=late,
            kill_grace_s=5.0,
        )  # fmt: skip
        return self(asked)

    def late(self, *, is_saving=False):
        """The deadline of the pause is over."""
        self.now += 30
        return self(TimerFired(timer="deadline", is_saving=is_saving))

    def resume(self, request="r", by=ADA):
        return self(ResumeAsked(request=request, by=by, start_grace_s=60.0))

    def stop(self, how="checkpoint", by=ADA):
        return self(StopAsked(request="s", by=by, how=how, stop_grace_s=20.0, kill_grace_s=5.0))

    def restart(self, by=ADA):
        return self(RestartAsked(request="again", by=by, stop_grace_s=20.0, kill_grace_s=5.0))

    def yields(self, request="p", depth=HOLD):
        return self(PauseReached(request=request, depth=depth, **PLACE))

    def paused(self, depth=HOLD, by=ADA, **more):
        self.running().pause(by=by, depth=depth, **more).yields(depth=depth)
        return self.ends(75) if depth is EXIT else self

    def ends(self, code=None, *, killed_by=None, error="", yielded=False):
        end = Exit(code=code, signal=killed_by, error=error)
        return self(ProcessEnded(incarnation=self.job.incarnation, exit=end, yielded=yielded))

    def after(self, seconds):
        """Let time pass, and all timers that are due by then fire."""
        self.now += seconds
        effects = []
        while event := core.due(self.job, self.now, start_grace_s=60.0):
            self(event)
            effects += self.effects
        self.effects = tuple(effects)
        return self


def refusal(act):
    with pytest.raises(Refused) as caught:
        act()
    assert caught.value.hint
    return str(caught.value)


class TestDeeper:
    """hold -> offload -> exit while it waits."""

    def deeper(self, **failed):
        life = Life().running().hello(depths=tuple(Depth)).pause().yields()
        life.pause(request="p2", depth=OFFLOAD)
        return life(PauseFailed(request="p2", why="no host memory", **failed)) if failed else life

    def test_what_was_given_back_is_remembered_until_it_is_taken_again(self):
        """
        `show` tells it, and a rule can reckon with it.
        """
        life = self.deeper()
        life(PauseReached(request="p2", depth=OFFLOAD, bytes_freed=4096, **PLACE))
        away = (life.state, life.job.depth, life.job.pause.bytes_freed)
        life.resume()

        assert (JobState.PAUSED, OFFLOAD, 4096) == away
        assert (JobState.RESUMING, None) == (life.state, life.job.pause)

    def test_a_job_that_cannot_go_deeper_stays_paused(self):
        """
        2026-11: the daemon took it for one that trains, and it trained.
        """
        life = self.deeper(holding_depth=HOLD)

        assert (JobState.PAUSED, HOLD, None) == (life.state, life.job.depth, life.job.pause.deadline_at)
        assert (ADA, "cannot pause at depth offload: no host memory") == (life.job.asked_by, life.job.problem)

    def test_the_problem_is_forgotten_when_it_is_tried_again(self):
        """
        By a rule as well as by a person.
        """
        life = self.deeper(holding_depth=HOLD).pause(request="p3", depth=OFFLOAD, by=RULE)

        assert (JobState.PAUSING, "", ADA) == (life.state, life.job.problem, life.job.asked_by)

    def test_a_held_process_that_dies_on_its_way_deeper_leaves_a_paused_job(self):
        """
        The copy to host memory was too much for the machine; the checkpoint was durable before.
        """
        life = self.deeper().ends(killed_by=9)
        gone = (life.state, life.job.depth, life.job.problem)

        assert (JobState.PAUSED, EXIT) == gone[:2]
        assert "the held process ended (killed by signal 9)" in gone[2]

    def test_one_that_trained_meanwhile_and_dies_has_failed(self):
        """
        A rule had paused it and it went on alone: steps are lost, which nobody may hide.
        """
        by_hello = self.deeper().hello(depths=tuple(Depth)).ends(killed_by=9)
        by_word = self.deeper()(TrainingResumed(request="p")).ends(killed_by=9)

        assert [JobState.FAILED] * 2 == [by_hello.state, by_word.state]

    def test_what_a_shim_can_do_is_learned_while_it_runs(self):
        """
        Its model was moved to a GPU after attach(). What an older start says counts no more.
        """
        life = Life().running()
        life(AbleTo(incarnation=0, depths=(HOLD,)))
        before = life.job.depths
        life(AbleTo(incarnation=1, depths=tuple(Depth)))

        assert ((HOLD, EXIT), tuple(Depth)) == (before, life.job.depths)

    def test_nobody_is_able_to_anything_without_a_shim(self):
        """
        A word that was still on its way when the process ended changes nothing.
        """
        life = Life().admitted()(AbleTo(incarnation=1, depths=tuple(Depth)))

        assert () == life.job.depths


class TestStarting:
    def test_an_admitted_job_is_launched_once(self):
        """
        The launch is asked for with the record as it will be stored; being
        admitted again while it starts means nothing.
        """
        life = Life()(Admitted(start_grace_s=60.0))

        assert (Launch(life.job),) == life.effects
        assert (JobState.STARTING, 1, True) == (life.state, life.job.incarnation, life.job.alive)
        assert () == life(Admitted(start_grace_s=60.0)).effects

    def test_a_name_that_was_used_before_counts_its_launches_on(self):
        """
        A new job under the name of a removed one does not read how the old one ended.
        """
        spec = JobSpec(argv=("train",), cwd="/work")
        life = Life()
        life.job = core.create("job-1", Submitted(id="j-1", spec=spec, incarnation=4), 1.0)

        assert 5 == life.admitted().job.incarnation

    def test_a_script_without_a_shim_runs_after_the_grace(self):
        """
        Such a job runs, and says that it cannot be paused when somebody tries.
        """
        life = Life().admitted().after(60)

        assert JobState.RUNNING is life.state
        assert "not pausable" in refusal(life.pause)
        assert "no training shim" in refusal(lambda: life(CheckpointAsked(request="c", by=ADA)))

    def test_news_of_an_older_launch_mean_nothing(self):
        """
        A late word about a process that is gone does not touch the one that runs.
        """
        life = Life().running()
        before = life.job
        old = {"incarnation": 0}
        life(ProcessEnded(**old, exit=Exit(code=1)))
        life(ProcessStarted(**old, process=Pid(1, 1, "boot")))
        life(Attached(**old, depths=()))

        assert before == life.job

    def test_a_command_that_cannot_start_has_failed(self):
        """
        The reason of the operating system is what people read.
        """
        life = Life()(Admitted(start_grace_s=60.0)).ends(error="cannot start: no such file")

        assert (JobState.FAILED, "cannot start: no such file") == (life.state, life.job.problem)


class TestPausing:
    def test_a_pause_is_asked_of_the_shim_and_reached_with_its_word(self):
        """
        Pausing until the checkpoint is durable, then paused with its place.
        """
        life = Life().running().pause(by=RULE)
        asked, state = life.effects, life.state
        life.yields()

        assert (AskPause("job-1", "p", HOLD, True),) == asked
        assert (JobState.PAUSING, JobState.PAUSED) == (state, life.state)
        assert ("/ckpt/7", HOLD, True) == (life.job.checkpoint.path, life.job.depth, life.job.alive)

    def test_an_exit_pause_is_reached_when_the_process_is_gone(self):
        """
        Memory that is still taken is not given back, whatever the shim says.
        """
        life = Life().running().pause(depth=EXIT).yields(depth=EXIT)
        said = life.state
        life.ends(0)

        assert (JobState.PAUSING, JobState.PAUSED) == (said, life.state)
        assert (EXIT, False, None) == (life.job.depth, life.job.alive, life.job.pause.deadline_at)

    @pytest.mark.parametrize(
        "how", [{"code": 75}, {"code": 0, "yielded": True}, {"killed_by": 9, "yielded": True}]
    )
    def test_a_receipt_or_the_exit_code_is_the_shims_word(self, how):
        """
        A daemon that was away while the process left learns of the pause from what it left.
        """
        life = Life().running().pause(depth=EXIT).ends(**how)

        assert JobState.PAUSED is life.state

    def test_a_pause_that_loses_the_race_with_the_end_is_completed(self):
        """
        The run finished while it was asked to pause: that is success, and nothing of the pause is left.
        """
        life = Life().running().pause().ends(0)

        assert (JobState.COMPLETED, None, None) == (life.state, life.job.depth, life.job.asked_by)
        assert life.job.is_over

    def test_a_process_that_breaks_while_pausing_has_failed(self):
        """
        A crash is a crash, also on the way to a pause.
        """
        life = Life().running().pause().ends(1)

        assert (JobState.FAILED, "exit code 1") == (life.state, life.job.problem)

    def test_a_queued_job_is_paused_without_ever_running(self):
        """
        Nothing to give back, so it is paused at once, and resume launches it.
        """
        life = Life().pause()
        paused = life.state, life.effects, life.job.depth
        life.resume()

        assert (JobState.PAUSED, (), EXIT) == paused
        assert (JobState.RESUMING, (Launch(life.job),)) == (life.state, life.effects)

    def test_a_pause_before_the_shim_came_is_told_at_its_hello(self):
        """
        Pausing a job that starts waits for its shim, with the time that is left.
        """
        life = Life().admitted().pause()
        life.now += 10
        life.hello()

        assert (JobState.PAUSING, (AskPause("job-1", "p", HOLD, False),)) == (life.state, life.effects)

    def test_a_pause_without_a_shim_ends_with_the_start_grace(self):
        """
        The script has no shim after all: it runs on, and says why it is not paused.
        """
        life = Life().admitted().pause().after(60)

        assert (JobState.RUNNING, None) == (life.state, life.job.depth)
        assert "cannot pause: no training shim has connected" == life.job.problem

    def test_a_save_that_fails_leaves_the_job_running_with_the_reason(self):
        """
        Nothing is given back without a durable checkpoint.
        """
        life = Life().running().pause()(PauseFailed(request="p", why="disk full"))

        assert (JobState.RUNNING, "cannot pause: disk full") == (life.state, life.job.problem)
        assert None is core.next_due(life.job)

    def test_the_answer_to_an_older_request_is_no_answer(self):
        """
        Only the newest pause counts; what the shim said to the one before is late.
        """
        life = Life().running().pause("p1").pause("p2").yields("p1")
        life(PauseFailed(request="p1", why="disk full"))
        still = life.state

        assert (JobState.PAUSING, JobState.PAUSED) == (still, life.yields("p2").state)

    def test_a_pause_past_its_deadline_is_late_and_goes_on_waiting(self):
        """
        It is said once; nothing is killed for it.
        """
        life = Life().running().pause().after(31)

        assert (True, JobState.PAUSING, ()) == (life.job.late, life.state, life.effects)
        assert None is core.next_due(life.job)
        assert life.yields().job.late is False

    def test_a_depth_that_the_shim_cannot_do_is_refused(self):
        """
        The refusal names what it can do.
        """
        life = Life().running()

        assert "its shim can do hold, exit" in refusal(lambda: life.pause(depth=OFFLOAD))

    def test_a_job_that_is_over_is_not_paused(self):
        """
        The refusal names the state and what is possible in it.
        """
        life = Life().running().ends(0)

        with pytest.raises(InvalidTransition, match="cannot pause job `job-1`: it is completed"):
            life.pause()


class TestPaused:
    def test_deepening_asks_the_shim_again(self):
        """
        A held job is moved to exit in place; it listens while it waits.
        """
        life = Life().paused().pause("deep", depth=EXIT)

        assert (JobState.PAUSING, (AskPause("job-1", "deep", EXIT, False),)) == (
            life.state,
            life.effects,
        )

    def test_the_same_depth_again_only_changes_who_asks(self):
        """
        Pausing what is paused takes no effect on the process; its shim hears that a person took over the
        pause of a rule, which without a daemon it would end by itself.
        """
        life = Life().paused(by=RULE).pause(by=BOB, for_s=9.0)

        assert (JobState.PAUSED, BOB) == (life.state, life.job.asked_by)
        assert (AskPause("job-1", "p", HOLD, False),) == life.effects
        assert life.now + 9.0 == life.job.wake_at
        assert () == life.pause("p3", by=ADA).effects

    def test_a_pause_of_what_has_exited_changes_only_who_asks(self):
        """
        There is nothing deeper than gone.
        """
        life = Life().paused(EXIT).pause(by=BOB, depth=EXIT)

        assert (JobState.PAUSED, (), BOB) == (life.state, life.effects, life.job.asked_by)

    def test_a_rule_makes_a_persons_pause_deeper_but_does_not_own_it(self):
        """
        Afterwards it is still the person's, so only a person ends it.
        """
        life = Life().paused(by=ADA).pause("deep", by=RULE, depth=EXIT).yields("deep", EXIT).ends(75)

        assert (JobState.PAUSED, ADA) == (life.state, life.job.asked_by)
        assert "ada paused it" in refusal(lambda: life.resume(by=RULE))

    @pytest.mark.parametrize("is_reached", [False, True])
    def test_a_rule_never_makes_a_persons_pause_shallower(self, is_reached):
        """
        A person who wants the process gone gets that, whatever a rule would be content with.
        """
        life = Life().running().pause(by=ADA, depth=EXIT)
        if is_reached:
            life.yields(depth=EXIT).ends(75)
        before = life.job

        assert (before, ()) == (life.pause("rule", by=RULE, depth=HOLD).job, life.effects)

    @pytest.mark.parametrize("verb", ["resume", "restart"])
    def test_a_rule_neither_resumes_nor_restarts_what_a_person_paused(self, verb):
        """
        Must: a job that a person paused goes on when a person says so.
        """
        life = Life().paused(by=ADA)
        before = life.job

        assert f"cannot {verb} job `job-1` by rule busy" in refusal(lambda: getattr(life, verb)(by=RULE))
        assert before == life.job

    def test_a_person_overrules_a_rule(self):
        """
        A person resumes what a rule paused.
        """
        life = Life().paused(by=RULE).resume(by=BOB)

        assert (JobState.RESUMING, (AskResume("job-1", "r"),)) == (life.state, life.effects)

    def test_a_held_process_that_dies_leaves_a_paused_job(self):
        """
        Its checkpoint is durable, so the job is paused one depth further down and says what happened.
        """
        life = Life().paused().ends(killed_by=9)

        assert (JobState.PAUSED, EXIT, False) == (life.state, life.job.depth, life.job.alive)
        assert "killed by signal 9" in life.job.problem
        assert JobState.RESUMING is life.resume().state

    def test_a_run_that_a_rule_paused_and_that_finished_alone_is_completed(self):
        """
        Without a daemon it went on by itself, as promised, and to its end: nothing is left to resume.
        2026-11: such a job stayed paused and a resume trained its last part again.
        """
        life = Life().paused(by=RULE).ends(0)

        assert (JobState.COMPLETED, None) == (life.state, life.job.depth)

    def test_a_persons_held_process_that_ends_well_stays_paused(self):
        """
        It cannot have gone on alone, so its exit code is a wrapper's.
        """
        life = Life().paused(by=ADA).ends(0)

        assert (JobState.PAUSED, EXIT) == (life.state, life.job.depth)

    def test_a_rules_pause_is_over_when_the_shim_went_on_alone(self):
        """
        The daemon was away for longer than orphan_resume_s.
        """
        life = Life().paused(by=RULE).hello()

        assert (JobState.RUNNING, None, ()) == (life.state, life.job.asked_by, life.effects)

    @pytest.mark.parametrize(
        "how", [lambda life: life.hello(), lambda life: life(TrainingResumed(request="x"))]
    )
    def test_a_persons_pause_is_asked_again_when_the_shim_went_on(self, how):
        """
        Whatever made it go on, the person still wants it paused; it can be late again.
        """
        life = how(Life().paused(by=ADA))

        assert (JobState.PAUSING, ADA) == (life.state, life.job.asked_by)
        assert (AskPause("job-1", "p", HOLD, False),) == life.effects
        assert life.now + 30.0 == life.job.pause.deadline_at

    def test_a_shim_that_holds_and_comes_back_holds_on(self):
        """
        A restart of the daemon changes nothing of a paused job; its shim is told again whose pause it is.
        """
        life = Life().paused()
        before = life.job

        assert before == life.hello(holding="p").job
        assert (AskPause("job-1", "p", HOLD, False),) == life.effects

    def test_a_pause_for_a_time_ends_by_itself(self):
        """
        Its asker asked for the end as well.
        """
        held = Life().paused(for_s=100.0).after(100.0)
        gone = Life().paused(EXIT, for_s=100.0).after(100.0)

        assert (JobState.RESUMING, (AskResume("job-1", "p-wake"),)) == (held.state, held.effects)
        assert (JobState.RESUMING, (Launch(gone.job),)) == (gone.state, gone.effects)

    def test_a_wake_up_that_is_too_late_means_nothing(self):
        """
        The job was started, or is over, by other means.
        """
        life = Life().running()
        before = life.job

        assert before == life(TimerFired(timer="wake")).job


class TestResuming:
    def test_a_held_shim_confirms(self):
        """
        Running again when it says so, to this request.
        """
        life = Life().paused().resume()
        early = life(TrainingResumed(request="old")).state

        assert (JobState.RESUMING, JobState.RUNNING) == (early, life(TrainingResumed(request="r")).state)

    def test_a_resume_that_overtakes_an_exit_launches_again(self):
        """
        The process was on its way out already; its work goes on in the next one, with the
        grace that was asked for. 2026-11: the grace was as long as the run before.
        """
        life = Life().running()
        life.now += 86400
        life.pause(depth=EXIT).yields(depth=EXIT).resume().ends(75)

        end = EndGroup("job-1", 1, life.job.kill_grace_s)
        assert (JobState.RESUMING, 2) == (life.state, life.job.incarnation)
        assert (end, Launch(life.job)) == life.effects
        assert life.now + 60.0 == life.job.start_grace_at

    def test_a_hello_on_the_way_out_loses_nothing(self):
        """
        2026-11: a shim that was leaving said hello to a restarted daemon after the resume;
        its exit was then taken for a failure.
        """
        life = Life().running().pause(depth=EXIT).yields(depth=EXIT).resume().hello().ends(75)

        assert (JobState.RESUMING, 2) == (life.state, life.job.incarnation)

    def test_a_called_off_pause_is_called_off_again_at_hello(self):
        """
        2026-11: the line broke before the resume was heard; the shim held at its next
        boundary for ever, while the job was shown as running.
        """
        life = Life().running().pause().resume().hello()

        assert (JobState.RUNNING, (AskResume("job-1", "r"),)) == (life.state, life.effects)

    @pytest.mark.parametrize("state", [JobState.RESUMING, JobState.RUNNING])
    def test_a_shim_that_holds_for_a_called_off_pause_is_told_to_go_on(self, state):
        """
        Nobody wants it to hold.
        """
        life = Life().running().pause().resume()
        if state is JobState.RUNNING:
            life(TrainingResumed(request="r"))
        life.yields()

        assert (state, (AskResume("job-1", "r"),)) == (life.state, life.effects)

    @pytest.mark.parametrize("state", [JobState.RESUMING, JobState.RUNNING])
    def test_a_shim_that_comes_back_holding_is_told_to_go_on(self, state):
        """
        The word was lost with the line.
        """
        life = Life().paused().resume()
        if state is JobState.RUNNING:
            life(TrainingResumed(request="r"))
        life.hello(holding="p")

        assert (state, (AskResume("job-1", "r"),)) == (life.state, life.effects)

    def test_a_script_that_exits_75_by_itself_is_not_launched_for_ever(self):
        """
        2026-11: without a shim, code 75 of a resumed job launched it again at once, and again.
        """
        life = Life().pause().resume()
        life(ProcessStarted(incarnation=1, process=Pid(1, 1, "boot"))).ends(75)

        assert (JobState.FAILED, ()) == (life.state, life.effects)

    def test_a_process_that_breaks_while_it_resumes_has_failed(self):
        """
        Its held state is gone with it; a restart begins from the checkpoint.
        """
        life = Life().paused().resume().ends(1)

        assert JobState.FAILED is life.state

    def test_what_never_started_is_not_launched_again_unasked(self):
        """
        A keeper that cannot start the command will not do better a moment later.
        """
        life = Life().paused(EXIT).resume().ends(error="cannot start: no such file", yielded=True)

        assert JobState.FAILED is life.state

    def test_running_jobs_are_not_resumed(self):
        """
        The refusal says what is possible.
        """
        life = Life().running()

        assert "it is running" in refusal(life.resume)


class TestGoingOn:
    @pytest.mark.parametrize(
        "live",
        [
            lambda life: life.paused(EXIT).resume(),
            lambda life: life.paused(EXIT, for_s=60.0).after(60),
            lambda life: life.paused().ends(killed_by=9).resume(),
            lambda life: life.running().pause(depth=EXIT).yields(depth=EXIT).resume().ends(75),
            lambda life: life.running().ends(1).after(10).admitted(),
            lambda life: life.running().ends(1).after(10).resume(),
            lambda life: life.running().ends(1).restart().admitted().hello().pause().ends(1).resume(),
            lambda life: life.running().ends(1).restart().running().ends(1).after(10).admitted(),
        ],
    )
    def test_a_start_after_a_pause_or_a_crash_goes_on(self, live):
        """
        Whoever let it go on: it takes up what the start before it left.
        """
        life = live(Life(restart="on-failure", restart_delay_s=10.0))

        assert life.job.incarnation > 1
        assert life.job.goes_on

    @pytest.mark.parametrize(
        "live",
        [
            lambda life: life.admitted(),
            lambda life: life.resume(),
            lambda life: life.pause().resume(),
            lambda life: life(Admitted(start_grace_s=60.0)).ends(error="no such file").after(10).admitted(),
            lambda life: life.running().ends(0).restart().admitted(),
            lambda life: life.running().ends(1).restart().admitted(),
            lambda life: life.running().ends(1).restart().pause().resume(),
            lambda life: life.paused(EXIT).restart().admitted(),
            lambda life: life.running().restart().ends(75).admitted(),
            lambda life: life.paused(EXIT).resume().hello().restart().ends(75).admitted(),
        ],
    )
    def test_the_first_start_and_one_that_a_person_wants_anew_do_not(self, live):
        """
        However long they waited for it. A command that could not be started left nothing.
        """
        life = live(Life(restart="on-failure", restart_delay_s=10.0))

        assert life.job.alive
        assert not life.job.goes_on


class TestStopping:
    def test_first_asked_then_term_then_kill_until_it_is_gone(self):
        """
        Each only after its time, and KILL again and again.
        """
        life = Life().running().stop()
        seen = [life.effects]
        seen += [life.after(seconds).effects for seconds in (20, 5, 5)]

        term, kill = (Signal("job-1", 1, name) for name in ("TERM", "KILL"))
        assert [(AskStop("job-1", "s"),), (term,), (kill,), (kill,)] == seen
        assert (JobState.STOPPED, None) == (life.ends(killed_by=9).state, core.next_due(life.job))

    def test_without_a_shim_it_begins_with_term(self):
        """
        Nobody is there to be asked.
        """
        life = Life().admitted().stop()
        first = life.effects

        assert (Signal("job-1", 1, "TERM"),) == first
        assert (Signal("job-1", 1, "KILL"),) == life.after(5).effects

    def test_a_refused_kill_is_called_a_kill(self):
        """
        An error speaks of what was typed.
        """
        life = Life().running().ends(0)

        assert "cannot kill job `job-1`" in str(refusal(lambda: life.stop(how="kill")))

    def test_kill_kills(self):
        """
        At once and without asking; the exit status does not matter.
        """
        life = Life().running().stop("kill")

        assert (Signal("job-1", 1, "KILL"),) == life.effects
        assert JobState.STOPPED is life.ends(0).state

    def test_a_kill_stays_a_kill_when_the_shim_comes_back_first(self):
        """
        2026-11: the daemon was killed before it could send the signal; the shim said hello,
        was asked for a checkpoint, could not write it, and the job ran on.
        """
        life = Life().running().stop("kill").hello()
        asked = life.effects
        life(PauseFailed(request="s", why="disk full"))

        assert ((), JobState.STOPPING) == (asked, life.state)
        assert (Signal("job-1", 1, "KILL"),) == life.after(5).effects

    def test_a_process_that_hangs_on_its_way_out_is_killed(self):
        """
        It has saved and said goodbye, so TERM would ask for nothing new.
        """
        life = Life().running().stop().yields("s", EXIT).after(20)

        assert (Signal("job-1", 1, "KILL"),) == life.effects

    def test_a_stop_whose_checkpoint_fails_lets_training_go_on(self):
        """
        Without a checkpoint a stop would lose work; `kill` insists. The shim is still there,
        so the job is still pausable. 2026-11: it was not, once TERM had been sent.
        """
        life = Life().running().stop().after(20)(PauseFailed(request="s", why="disk full"))

        assert (JobState.RUNNING, "cannot stop: disk full") == (life.state, life.job.problem)
        assert None is core.next_due(life.job)
        assert JobState.PAUSING is life.pause().state

    def test_a_shim_that_reconnects_while_stopping_is_asked_again(self):
        """
        It may not have heard.
        """
        assert (AskStop("job-1", "s"),) == Life().running().stop().hello().effects

    @pytest.mark.parametrize("code", [0, 1, 75])
    def test_whatever_the_exit_code_a_stopped_job_is_stopped(self, code):
        """
        It was asked to end, and ended.
        """
        assert JobState.STOPPED is Life().running().stop().ends(code).state

    @pytest.mark.parametrize(
        "make", [lambda life: life, lambda life: life.pause(), lambda life: life.paused(EXIT)]
    )
    def test_what_has_no_process_is_stopped_at_once(self, make):
        """
        Nothing to wait for.
        """
        life = make(Life()).stop()

        assert (JobState.STOPPED, (), True) == (life.state, life.effects, life.job.is_over)

    def test_a_held_job_is_stopped_through_its_shim(self):
        """
        It listens while it holds.
        """
        assert (AskStop("job-1", "s"),) == Life().paused().stop().effects

    def test_what_is_over_cannot_be_stopped(self):
        """
        And says that it is over.
        """
        life = Life().running().ends(0)

        assert "it is completed" in refusal(life.stop)

    def test_an_insistence_that_comes_too_late_means_nothing(self):
        """
        The stop was given up in between.
        """
        life = Life().running()

        assert () == life(TimerFired(timer="insist")).effects


class TestRestarting:
    def test_a_running_job_is_stopped_first(self):
        """
        With a checkpoint; afterwards it is queued again.
        """
        life = Life().running().restart()
        asked = life.effects
        life.ends(75)

        assert (AskStop("job-1", "again"),) == asked
        assert JobState.QUEUED is life.state
        assert (2, None) == (life.admitted().job.incarnation, life.job.stop)

    def test_a_stop_after_a_restart_counts(self):
        """
        The later word.
        """
        assert JobState.STOPPED is Life().running().restart().stop().ends(75).state

    def test_a_restart_whose_checkpoint_fails_is_forgotten(self):
        """
        The job runs on; a stop much later is a stop.
        """
        life = Life().running().restart()(PauseFailed(request="again", why="disk full"))

        assert JobState.STOPPED is life.stop().ends(0).state

    @pytest.mark.parametrize(
        "make",
        [lambda life: life, lambda life: life.paused(EXIT), lambda life: life.running().ends(1)],
        ids=["queued", "paused", "failed"],
    )
    def test_what_has_no_process_is_queued_at_once(self, make):
        """
        With a clean slate.
        """
        life = make(Life()).restart()

        assert (JobState.QUEUED, "", None) == (life.state, life.job.problem, life.job.exit)

    def test_failures_are_tried_again_with_growing_delays_up_to_the_limit(self):
        """
        10 s, 20 s, then it stays failed.
        """
        life = Life(restart="on-failure", max_restarts=2, restart_delay_s=10.0)
        delays = []
        for _ in range(3):
            life.running().ends(1)
            due = core.next_due(life.job)
            delays.append(due and due - life.now)
            life.after(due - life.now if due else 0)

        assert [10.0, 20.0, None] == delays
        assert (JobState.FAILED, True) == (life.state, life.job.is_over)

    def test_a_long_run_is_no_part_of_a_series_of_failures(self):
        """
        A job that breaks once a week is started again each time, after the first delay.
        """
        life = Life(restart="on-failure", max_restarts=1, restart_delay_s=10.0)
        for _ in range(3):
            life.running().after(7 * 86400).ends(1)

            assert life.now + 10.0 == core.next_due(life.job)
            life.after(10)

    def test_the_delay_between_restarts_has_a_ceiling(self):
        """
        After many failures it is an hour, not a week.
        """
        life = Life(restart="on-failure", max_restarts=20, restart_delay_s=10.0)
        for _ in range(15):
            life.running().ends(1)
            delay = core.next_due(life.job) - life.now
            life.after(delay)

        assert 3600.0 == delay

    def test_a_restart_that_is_due_can_be_called_off(self):
        """
        `stop` of a failed job means: leave it.
        """
        life = Life(restart="on-failure").running().ends(1)
        was_over = life.job.is_over

        assert (False, True) == (was_over, life.stop().job.is_over)
        assert JobState.STOPPED is life.after(1000).state

    def test_a_person_may_restart_sooner_than_the_policy(self):
        """
        The planned one does not come on top of it.
        """
        life = Life(restart="on-failure").running().ends(1).restart().running().after(1000)

        assert (JobState.RUNNING, 2) == (life.state, life.job.incarnation)

    def test_a_restart_timer_that_is_too_late_means_nothing(self):
        """
        The job runs already.
        """
        life = Life().running()

        assert (JobState.RUNNING, ()) == (life(TimerFired(timer="restart")).state, life.effects)


class TestCheckpoints:
    def test_a_running_job_is_asked_for_one(self):
        """
        Training goes on meanwhile, so the job does not change.
        """
        life = Life().running()
        before = life.job
        life(CheckpointAsked(request="c", by=ADA))

        assert (before, (AskCheckpoint("job-1", "c"),)) == (life.job, life.effects)

    def test_others_are_refused(self):
        """
        A paused job has written its own.
        """
        life = Life().paused()

        assert "it is paused" in refusal(lambda: life(CheckpointAsked(request="c", by=ADA)))

    def test_the_newest_is_remembered_with_its_first_moment(self):
        """
        The same one told again at a reconnect is not younger for it.
        """
        life = Life().running()(CheckpointReported(**PLACE))
        first = life.job.checkpoint
        life.now += 50
        life(CheckpointReported(**PLACE))

        assert (1000.0, first) == (first.at, life.job.checkpoint)

    def test_one_that_fails_is_a_problem_of_a_running_job_only(self):
        """
        The run goes on; people see why there is none.
        """
        failed = PauseFailed(request="c", why="disk full")

        assert "cannot checkpoint: disk full" == Life().running()(failed).job.problem
        assert "" == Life().paused()(failed).job.problem

    def test_word_that_comes_after_the_end_keeps_the_checkpoint(self):
        """
        A receipt may be read when the process is long gone.
        """
        life = Life().running().ends(0).yields(depth=EXIT)

        assert (JobState.COMPLETED, "/ckpt/7") == (life.state, life.job.checkpoint.path)

    def test_a_resumed_word_of_a_running_job_means_nothing(self):
        """
        It came twice.
        """
        life = Life().running()
        before = life.job

        assert before == life(TrainingResumed(request="x")).job


def test_an_edited_job_file_is_for_the_next_launch():
    """
    The running command is left alone.
    """
    spec = JobSpec(argv=("train", "--better"), cwd="/work")
    life = Life().running()(SpecChanged(spec=spec))

    assert (spec, (), JobState.RUNNING) == (life.job.spec, life.effects, life.state)


def test_a_start_that_nobody_waits_for_any_more_changes_no_state():
    """
    The grace ends while the job is stopped.
    """
    life = Life().admitted().stop()(TimerFired(timer="start-grace"))

    assert JobState.STOPPING is life.state


def test_timers_fire_in_the_order_of_their_moments():
    """
    After a long sleep of the machine the oldest comes first.
    """
    life = Life().running().pause(for_s=10.0)
    life.now += 1000

    assert "wake" == core.due(life.job, life.now, start_grace_s=1.0).timer
    assert "deadline" == core.due(Life().running().pause().job, life.now, start_grace_s=1.0).timer


# --- a pause that reaches no boundary in time ---------------------------------------------------


def signals(life):
    return [effect.signal for effect in life.effects if isinstance(effect, Signal)]


def test_a_late_pause_that_may_freeze_stops_every_process_where_it_is():
    """
    The job goes on pausing, and says since when it stands still.
    """
    life = Life().running().pause(late="freeze").late()

    assert (JobState.PAUSING, True, life.now) == (life.state, life.job.late, life.job.frozen_at)
    assert ["STOP"] == signals(life)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda life: life.resume(), [Signal("job-1", 1, "CONT"), AskResume("job-1", "r")]),
        (lambda life: life.stop(), [Signal("job-1", 1, "CONT"), AskStop("job-1", "s")]),
        (lambda life: life.stop("kill"), [Signal("job-1", 1, "CONT"), Signal("job-1", 1, "KILL")]),
        (lambda life: life.yields(), [Signal("job-1", 1, "CONT")]),
    ],
    ids=["resume", "stop", "kill", "boundary"],
)
def test_whatever_ends_the_pause_of_a_frozen_job_lets_it_go_first(ask, expected):
    """
    A process that stands still hears nothing. A boundary that was passed just before is one too.
    """
    life = ask(Life().running().pause(late="freeze").late())

    assert expected == list(life.effects)
    assert life.job.frozen_at is None


def test_a_frozen_job_is_paused_deeper_only_when_it_runs():
    """
    The same pause again changes who asked; a deeper one lets it go, asks anew and has a new deadline.
    """
    life = Life().running().pause(by=RULE, late="freeze").late()
    life.pause(request="mine")

    assert (ADA, "p", ()) == (life.job.asked_by, life.job.request, life.effects)
    assert life.job.frozen_at is not None

    life.pause(request="deep", depth=EXIT)

    assert ["CONT"] == signals(life)
    assert (None, False, "deep") == (life.job.frozen_at, life.job.late, life.job.request)


def test_a_job_frozen_before_its_shim_connected_gets_time_for_that_when_it_goes_on():
    """
    Standing still it could not connect; nobody concludes that there is no shim.
    """
    life = Life().admitted().pause(late="freeze").late()

    assert core.next_due(life.job) is None

    life.after(1000).resume()

    assert life.now + 60.0 == life.job.start_grace_at


def test_a_late_pause_that_may_terminate_asks_once_and_then_insists():
    """
    SIGTERM, the grace time, SIGKILL; then the job is paused, not failed: it goes on from its checkpoint.
    """
    life = Life().running()(CheckpointReported(**PLACE)).pause(late="terminate").late()

    assert ["TERM"] == signals(life)
    assert life.now + 5.0 == core.next_due(life.job)

    life.after(5)

    assert ["KILL"] == signals(life)

    life.ends(killed_by=9)

    assert (JobState.PAUSED, EXIT, ADA, False) == (
        life.state,
        life.job.depth,
        life.job.asked_by,
        life.job.is_ending,
    )
    assert (
        "ended (killed by signal 9); resume starts it again from its checkpoint at step 7" in life.job.problem
    )


def test_a_resume_that_overtakes_a_termination_starts_the_command_again():
    """
    The signal is on its way already; its end is our doing, not a failure.
    """
    life = Life().running().pause(late="terminate").late().resume()

    assert core.next_due(life.job) is None

    life.ends(killed_by=15)

    assert (JobState.RESUMING, 2) == (life.state, life.job.incarnation)


@pytest.mark.parametrize("late", ["freeze", "terminate"])
def test_a_save_that_is_under_way_at_the_deadline_gets_as_much_time_again(late):
    """
    Freezing or ending it would lose the very checkpoint that the pause waits for.
    """
    life = Life().running().pause(late=late).late(is_saving=True)

    assert ([], False, life.now + 30.0) == (signals(life), life.job.late, core.next_due(life.job))


def test_a_late_pause_whose_checkpoint_is_durable_is_not_frozen():
    """
    Its process is on its way out; one that hangs there may be ended.
    """
    life = Life().running().pause(depth=EXIT, late="freeze").yields(depth=EXIT).late()

    assert ([], True, None) == (signals(life), life.job.late, life.job.frozen_at)

    life = Life().running().pause(depth=EXIT, late="terminate").yields(depth=EXIT).late()

    assert ([], life.now + 5.0) == (signals(life), life.job.run.insist_at)


# --- a pause and a crash --------------------------------------------------------------------------


@pytest.mark.parametrize("by", [ADA, RULE], ids=str)
def test_a_job_that_crashes_while_it_is_to_pause_comes_up_paused(by):
    """
    Where it would be started again: the pause stands, and the failure counts.
    """
    life = Life(restart="on-failure").running().pause(by=by).ends(1)

    assert (JobState.PAUSED, EXIT, by, 1) == (
        life.state,
        life.job.depth,
        life.job.asked_by,
        life.job.num_failures,
    )
    assert life.job.problem.startswith("it failed while it was to pause (exit code 1); resume starts")
    assert core.next_due(life.job) is None


def test_a_job_that_crashes_while_it_is_to_pause_fails_where_nothing_would_start_it_again():
    """
    A crash is a crash; a pause is no restart policy.
    """
    assert JobState.FAILED is Life().running().pause().ends(1).state
    assert JobState.FAILED is Life(restart="on-failure", max_restarts=0).running().pause().ends(1).state


# --- GPUs -----------------------------------------------------------------------------------------


def test_a_job_keeps_the_gpus_it_was_given_until_it_gets_others():
    """
    A start that nobody planned anew uses the same ones.
    """
    life = Life()(Admitted(start_grace_s=60.0, gpus=("GPU-a",)))

    assert ("GPU-a",) == life.effects[0].job.gpus

    life.hello().pause(depth=EXIT).yields(depth=EXIT).ends(75).resume()

    assert ("GPU-a",) == life.effects[0].job.gpus

    life.hello().pause(depth=EXIT).yields(depth=EXIT).ends(75)
    life(ResumeAsked(request="r", by=ADA, start_grace_s=60.0, gpus=("GPU-b",)))

    assert ("GPU-b",) == life.effects[0].job.gpus
