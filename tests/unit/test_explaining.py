"""The answers: why a job is where it is, how near each rule is, and what a trial run tells."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.events import ProcessEnded
from supervisor.core.jobs.job import Asker, Exit, JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy import explain as explaining
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import Condition, Rule, Selector, Settings
from supervisor.core.policy.simulation import SimJob, recorded_jobs, simulate
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Missing, Sample
from supervisor.core.readings.whatif import corrected
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, RULES, Machine, gpu

ADA = Asker("person", "ada")


def test_why_of_a_paused_job_names_rule_reading_threshold_and_what_has_to_happen():
    """
    All from one answer.
    """
    machine = Machine().submit("a").submit("b", protected=True).run(100).run(50, cpu_foreign_pct=83.0)
    answer = machine.why("a")
    (seen,) = answer.verdict.evidence

    assert ("paused (hold) by rule cpu", "cpu", "rule") == (answer.summary, answer.by, answer.by_kind)
    assert ("cpu_foreign_pct", 83.0, "> 50") == (seen.what, seen.reading, seen.threshold)
    assert "cpu_foreign_pct 83 % > 50 % for 30 s" == answer.verdict.reason
    assert [("a", True), ("b", False)] == [(c.job, c.is_chosen) for c in answer.verdict.candidates]
    assert "cpu_foreign_pct < 20 for 180 s" == answer.next
    assert "rule cpu is on" in answer.waits_for
    (rule,) = machine.run(60, cpu_foreign_pct=5.0).why("a").rules
    assert (59.0, 180.0) == (rule.held_s, rule.hold_s)


def test_why_of_a_running_job_names_the_nearest_rule():
    """
    Also that there is none.
    """
    machine = Machine().submit("a").run(100, cpu_foreign_pct=35.0)
    assert "nothing asks it to yield; nearest is rule cpu: " in machine.why("a").next
    alone = Machine(replace(CPU, jobs=Selector(names=("x",)))).submit("a").run(5)

    assert "no rule is about it" in alone.why("a").next


def test_why_of_a_job_that_is_settling_says_so():
    """
    A clear rule is not enough where the machine has yet to show what the last verdict did.
    """
    machine = Machine().submit("a").submit("b").run(100).run(90, cpu_foreign_pct=90.0)
    machine.run(185, cpu_foreign_pct=5.0)
    waiting = next(name for name in "ab" if machine.state(name) is JobState.PAUSED)

    assert "the last verdict was" in machine.why(waiting).waits_for[0]
    assert "has to show its effect" in machine.why(waiting).next


def test_why_of_jobs_that_persons_paused_and_of_those_on_their_way():
    """
    With the time that is left.
    """
    machine = Machine().submit("a").submit("b").submit("c").run(100)
    machine.pause("a", ADA, for_s=50.0)
    machine.pause("b", ADA)
    machine.slow = {"c"}
    machine.pause("c", ADA)

    assert ("the time that it was paused for ends", 50.0) == (
        machine.why("a").next,
        machine.why("a").wakes_in_s,
    )
    assert "`supervisorctl resume b`" in machine.why("b").next
    assert ("it reaches its next batch boundary and saves", 300.0) == (
        machine.why("c").next,
        machine.why("c").deadline_in_s,
    )


def test_why_of_a_job_that_is_over():
    """
    Its end is the answer.
    """
    machine = Machine().submit("a").run(5)
    machine.happen("a", ProcessEnded(incarnation=1, exit=Exit(code=3)))

    assert "failed: exit code 3" == machine.why("a").summary


def test_policy_show_tells_rules_that_are_off_or_have_no_place_here():
    """
    Each of them, in the order of importance.
    """
    away = replace(CPU, name="away", enabled=False)
    machine = Machine(GPU, CPU, away).submit("a").run(3, gpus=Missing("no driver"), cpu_foreign_pct=35.0)

    assert "no driver" == machine.rule("gpu").missing
    assert not machine.rule("away").is_enabled
    assert (50.0, ("a",)) == (machine.rule("cpu").near_pct, machine.rule("cpu").jobs)
    machine.run(2, gpus=())
    assert "there is no GPU" == machine.rule("gpu").missing
    machine.run(2, gpus=(gpu("G1", foreign_gib=0.75),))
    assert 50.0 == machine.rule("gpu", "G1").near_pct


def test_a_reading_that_went_missing_is_said_aloud_after_a_minute():
    """
    Not one that this machine never had.
    """
    machine = Machine(CPU, MEMORY).submit("a").run(50, memory_available_bytes=Missing("never"))
    machine.run(50, cpu_foreign_pct=Missing("it does not answer"))
    given = (tuple(machine.jobs.values()), machine.sample(), machine.settings, machine.memory, machine.now)
    assert () == explaining.alarms(*given)
    machine.run(20)
    given = (tuple(machine.jobs.values()), machine.sample(), machine.settings, machine.memory, machine.now)

    assert ("rule cpu has no reading: it does not answer; it stays off",) == explaining.alarms(*given)
    assert "never" == machine.rule("memory").missing


def test_a_lost_gpu_keeps_what_was_known_of_it():
    """
    The job that yielded for it stays paused, and the alarm names the GPU.
    """
    machine = Machine(GPU).submit("a", depths=tuple(Depth), gpus=("G1",)).run(100, gpus=(gpu("G1"),))
    machine.run(20, gpus=(gpu("G1", foreign_gib=3.0),)).run(70, gpus=Missing("it fell off the bus"))

    assert JobState.PAUSED is machine.state("a")
    assert "rule gpu of G1 has no reading" in machine.rule("gpu", "G1").alarm


def recording(num, *, foreign_pct=80.0, **of):
    return [
        Sample(
            at=1000.0 + n,
            num_cpus=4.0,
            cpu_foreign_pct=foreign_pct if 200 <= n < 400 else 4.0,
            memory_total_bytes=24 * GIB,
            memory_available_bytes=16 * GIB,
            gpus=(),
            **of,
        )
        for n in range(num)
    ]


def test_a_trial_tells_what_would_have_been_paused_and_for_how_long():
    """
    The recorded job was not paused that day; its use is taken out of the readings and put back in.
    """
    use = JobUse(cpu_pct=200.0, rss_bytes=4 * GIB, num_processes=2, gpu_bytes={"G": 1})
    samples = recording(900, jobs={"job-1": use})
    (job,) = recorded_jobs(samples, {"job-1": JobSpec(argv=("t",), cwd="/", priority=4)})
    report = simulate(samples, Settings(rules=RULES), [job])
    told = report.jobs["job-1"]

    assert (4, Footprint(200.0, 4 * GIB, {"G": 1.0}), 0.0) == (job.spec.priority, job.demand, job.arrives_s)
    assert ["pause", "resume"] == [one.kind for one in report.timeline]
    assert (1, 0) == (told.num_pauses, told.num_flaps)
    assert 340 <= told.paused_s <= 360
    assert 170 <= told.needless_s <= 190
    assert 30 <= told.late_s <= 40
    assert (899.0, 900) == (report.duration_s, report.num_samples)


def test_a_trial_without_readings_is_empty():
    """
    Nothing happened.
    """
    report = simulate([], Settings(rules=RULES), [])

    assert (0.0, 0, 0.0) == (report.duration_s, report.num_samples, report.total("paused_s"))


def test_a_trial_runs_through_every_depth_and_end():
    """
    Offload, exit and back, and jobs that end by themselves; GPUs are given and counted.
    """
    foreign = (GpuProcess(9, int(3 * GIB)),)

    def sample(n):
        busy = 300 <= n < 700
        given = {"uuid": "G1", "memory_total_bytes": 16 * GIB}
        held = Gpu(processes=foreign if busy else (), memory_used_bytes=3 * GIB if busy else 0.0, **given)
        return Sample(
            at=float(n),
            num_cpus=4.0,
            gpus=(held,),
            memory_total_bytes=24 * GIB,
            memory_available_bytes=20 * GIB,
        )

    spec = JobSpec(argv=("t",), cwd="/", num_gpus=1, gpu_memory_bytes=int(2 * GIB))
    jobs = [
        SimJob(name="gpu", spec=spec, depths=tuple(Depth)),
        SimJob(name="short", work_s=50.0, arrives_s=10.0),
    ]
    report = simulate([sample(n) for n in range(1200)], Settings(rules=(GPU,)), jobs)
    kinds = [(one.kind, one.depth) for one in report.timeline if one.job == "gpu"]

    assert [
        ("start", None), ("pause", Depth.OFFLOAD), ("deepen", Depth.EXIT), ("resume", None),
    ] == kinds  # fmt: skip
    assert JobState.COMPLETED is report.jobs["short"].state
    assert JobState.RUNNING is report.jobs["gpu"].state


def test_readings_are_corrected_for_what_other_jobs_would_use():
    """
    Memory, CPU and GPU; what cannot be read stays unread.
    """
    on_gpu = Gpu(uuid="G", memory_used_bytes=5.0, processes=(GpuProcess(1, 2, "a"), GpuProcess(2, 3)))
    sample = Sample(
        at=0.0,
        num_cpus=2.0,
        cpu_foreign_pct=20.0,
        memory_available_bytes=100.0,
        gpus=(on_gpu, Gpu(uuid="H")),
        jobs={"a": JobUse(cpu_pct=100.0, rss_bytes=30.0, gpu_bytes={"G": 2})},
    )
    without = corrected(sample, {})
    other = corrected(sample, {"b": JobUse(cpu_pct=50.0, rss_bytes=10.0, gpu_bytes={"G": 4})})
    unread = corrected(Sample(at=0.0, gpus=Missing("x")), {})

    assert (130.0, 20.0) == (without.memory_available_bytes, without.cpu_pct)
    assert (3.0, (GpuProcess(2, 3),)) == (without.gpus[0].memory_used_bytes, without.gpus[0].processes)
    assert (120.0, 45.0, 7.0) == (
        other.memory_available_bytes,
        other.cpu_pct,
        other.gpus[0].memory_used_bytes,
    )
    assert Missing("not measured") == unread.memory_available_bytes
    assert Missing("x") == unread.gpus


@pytest.mark.parametrize("reading", [float("nan"), Missing("gone")])
def test_what_is_no_number_is_no_reading(reading):
    """
    It never counts as short or clear.
    """
    machine = Machine(CPU).submit("a").run(100, cpu_foreign_pct=reading)

    assert "unknown" == machine.rule("cpu").side


def test_two_conditions_are_short_together_and_over_together():
    """
    A circumstance that is over ends the rule by itself; one that nobody can tell ends nothing.
    """
    rule = Rule(
        name="both",
        when=(
            Condition(program="steam"),
            Condition(metric="cpu_foreign_pct", above=50.0, clear_below=20.0),
            Condition(metric="load_per_cpu", above=2.0, clear_below=1.0),
        ),
        pause_after_s=1.0,
        resume_after_s=1.0,
    )

    def side(programs, cpu_pct, load):
        machine = Machine(rule).submit("a")
        machine.run(1, programs=programs, cpu_foreign_pct=cpu_pct, load_1min=load)
        return machine.rule("both").side

    unknown = Missing("x")
    assert "short" == side(("steam",), 60.0, 12.0)
    assert "clear" == side((), 60.0, 12.0)
    assert "clear" == side(("steam",), 10.0, 1.0)
    assert "between" == side(("steam",), 10.0, 12.0)
    assert "between" == side(("steam",), 30.0, 12.0)
    assert "unknown" == side(("steam",), unknown, 12.0)
    assert "unknown" == side(unknown, 60.0, 12.0)
    assert "clear" == side(unknown, 10.0, 1.0)


def test_the_reason_of_a_window_or_a_program_is_a_clause():
    """
    Not a bare name with a time behind it.
    """
    film = Rule(name="film", when=(Condition(program="filmedit"),), pause_after_s=1.0, resume_after_s=9.0)
    office = replace(film, name="office", when=(Condition(clock="mon-fri 09:00-18:00"),))
    cut = Machine(film).submit("a").run(100).run(2, programs=("filmedit",))
    work = Machine(office).submit("a").run(100).run(2, weekday=2, second_of_day=43200)

    assert "`filmedit` runs, for 1 s" == cut.verdicts[-1][1].reason
    assert "it is mon-fri 09:00-18:00, for 1 s" == work.verdicts[-1][1].reason


def test_a_trial_begins_with_the_jobs_that_ran_then():
    """
    They neither start anew, which takes its time, nor are they too young to yield.
    """
    use = JobUse(cpu_pct=200.0, rss_bytes=4 * GIB, num_processes=2)
    begin = [replace(sample, cpu_foreign_pct=90.0) for sample in recording(50, jobs={"job-1": use})]
    (job,) = recorded_jobs(begin)
    (pause,) = simulate(begin, Settings(rules=RULES), [job]).timeline

    assert ("pause", 30.0) == (pause.kind, pause.at - begin[0].at)


def test_how_near_the_rules_are_is_said_only_where_one_is():
    """
    Nothing of the way is no distance.
    """
    machine = Machine(CPU).submit("a").run(100)

    assert "nothing asks it to yield, and no rule is near" == machine.why("a").next


def test_what_has_to_end_is_said_as_a_clause():
    """
    A program that no longer runs, a window that is no longer open, for some time.
    """
    film = Rule(name="film", when=(Condition(program="filmedit"),), pause_after_s=1.0, resume_after_s=9.0)
    machine = Machine(film).submit("a").run(100).run(2, programs=("filmedit",))

    assert "`filmedit` no longer runs, for 9 s" == machine.why("a").next
