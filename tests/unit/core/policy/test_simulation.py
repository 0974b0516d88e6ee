"""A policy tried on recorded readings: what would have been paused, and for how long."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import Settings
from supervisor.core.policy.simulation import JobReport, SimJob, recorded_jobs, simulate
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Missing, Sample
from tests.fakes.moment import a_rule
from tests.fakes.steered_machine import GIB, GPU, RULES


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


def test_a_trial_begins_with_the_jobs_that_ran_then():
    """
    They neither start anew, which takes its time, nor are they too young to yield.
    """
    use = JobUse(cpu_pct=200.0, rss_bytes=4 * GIB, num_processes=2)
    begin = [replace(sample, cpu_foreign_pct=90.0) for sample in recording(50, jobs={"job-1": use})]
    (job,) = recorded_jobs(begin)
    (pause,) = simulate(begin, Settings(rules=RULES), [job]).timeline

    assert ("pause", 30.0) == (pause.kind, pause.at - begin[0].at)


def calm(num, first_at=0.0, **of):
    given = {"num_cpus": 4.0, "memory_total_bytes": 24 * GIB, "memory_available_bytes": 16 * GIB, "gpus": ()}
    return [Sample(at=first_at + n, **{"cpu_foreign_pct": 5.0} | given | of) for n in range(num)]


def test_a_job_is_there_from_its_arrival_until_its_work_is_done():
    """
    It is queued, starts, and ends after so much training.
    """
    job = SimJob(name="a", arrives_s=10.0, start_s=20.0, work_s=30.0)
    report = simulate(calm(100, first_at=5000.0), Settings(), [job])
    never = simulate(calm(10), Settings(), [job])

    assert [(5010.0, "start")] == [(one.at, one.kind) for one in report.timeline]
    assert (JobState.COMPLETED, 30.0) == (report.jobs["a"].state, report.jobs["a"].ran_s)
    assert {} == never.jobs


def test_another_policy_is_asked_with_its_own_memory():
    """
    It sees the jobs as they are, and what it gave back the last time.
    """
    asked = []

    def decide(jobs, sample, memory, now):
        asked.append((sample.at, [job.state.value for job in jobs], memory, now))
        start = Verdict(kind="start", job="a", rule="mine", reason="why not")
        return ((start,) if len(asked) == 2 else ()), len(asked)

    report = simulate(calm(4), Settings(), [SimJob(name="a", start_s=1.0)], decide=decide)

    assert [(0.0, ["queued"], None, 0.0), (1.0, ["queued"], 1, 1.0)] == asked[:2]
    assert [(2.0, ["running"], 2, 2.0), (3.0, ["running"], 3, 3.0)] == asked[2:]
    assert [("a", "start", "mine", "why not")] == [
        (one.job, one.kind, one.rule, one.reason) for one in report.timeline
    ]


def test_a_job_that_runs_loads_the_machine_that_the_policy_sees():
    """
    One that holds gives its CPU back, and keeps its memory; one without a process has neither, nor one that
    is only beginning anew.
    """
    seen = []

    def decide(jobs, sample, memory, now):
        use = sample.jobs["a"]
        seen.append((jobs[0].state.value, use.cpu_pct, use.rss_bytes, sample.memory_available_bytes / GIB))
        verdicts = {5.0: ("pause", Depth.HOLD), 15.0: ("deepen", Depth.EXIT), 22.0: ("resume", None)}
        if now not in verdicts:
            return (), None
        kind, depth = verdicts[now]
        return (Verdict(kind=kind, job="a", rule="mine", reason="", depth=depth),), None

    simulate(calm(25), Settings(), [SimJob(name="a", was_running=True, save_s=4.0)], decide=decide)

    assert ("running", 100.0, GIB, 15.0) == seen[0] == seen[5]
    assert ("pausing", 100.0, GIB, 15.0) == seen[8]
    assert ("paused", 0.0, GIB, 15.0) == seen[9] == seen[15]
    assert ("paused", Missing("not measured"), Missing("not measured"), 16.0) == seen[22]
    assert ("resuming", Missing("not measured"), Missing("not measured"), 16.0) == seen[24]


@pytest.mark.parametrize("what", ["paused_s", "num_pauses", "late_s"])
def test_the_sum_over_all_jobs_is_a_number(what):
    """
    Also where nobody was paused.
    """
    report = simulate(calm(5), Settings(rules=(a_rule(),)), [SimJob(name=name) for name in "ab"])

    assert 0.0 == report.total(what)
    report.jobs = {name: JobReport(name=name, paused_s=2.0, num_pauses=2, late_s=2.0) for name in "ab"}
    assert 4.0 == report.total(what)


def used(*names, cpu_pct=100.0):
    return {name: JobUse(cpu_pct=cpu_pct, rss_bytes=GIB, num_processes=1) for name in names}


def test_the_jobs_of_a_recording_are_there_from_their_first_reading_on():
    """
    With the most that each used; one without a process was not there.
    """
    samples = [*calm(1, jobs=used("a") | {"b": JobUse()}), *calm(1, 10.0, jobs=used("a", "b", cpu_pct=300.0))]
    first, second = recorded_jobs(samples)

    assert ("a", 0.0, True, None, 300.0) == (
        first.name, first.arrives_s, first.was_running, first.work_s, first.demand.cpu_pct,
    )  # fmt: skip
    assert ("b", 10.0, False, None) == (second.name, second.arrives_s, second.was_running, second.work_s)
    assert () == recorded_jobs([]) == recorded_jobs(calm(3))


def test_a_job_that_was_over_has_as_much_to_do_as_it_did():
    """
    What it waited at a boundary was no work, nor was its start, where it began within the recording.
    """
    worked, held = calm(100, jobs=used("a")), calm(50, 100.0, jobs=used("a", cpu_pct=0.5))
    begun = [*calm(10), *calm(100, 10.0, jobs=used("a")), *calm(5, 110.0)]
    brief = [*calm(10), *calm(5, 10.0, jobs=used("a")), *calm(5, 15.0)]
    ended = [
        recorded_jobs(samples)[0].work_s for samples in ([*worked, *held, *calm(5, 150.0)], begun, brief)
    ]

    assert [100.0, 80.0, 0.0] == ended
