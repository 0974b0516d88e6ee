"""A policy tried on recorded readings: what would have been paused, and for how long."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.job import JobSpec
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import Settings
from supervisor.core.policy.simulation import SimJob, recorded_jobs, simulate
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Sample
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
