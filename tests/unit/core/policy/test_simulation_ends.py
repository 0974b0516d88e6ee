"""A trial runs jobs for as long as they had to do, and no memory outlives its process."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Condition, Settings
from supervisor.core.policy.simulation import SimJob, recorded_jobs, simulate
from supervisor.core.readings.sample import GpuProcess, JobUse, Sample
from tests.fakes.steered_machine import CPU, GIB, GPU, MEMORY, gpu


class TestTrialRuns:
    def samples(self, num, *, uses, **readings):
        return [Sample(at=float(n), num_cpus=4.0, gpus=(), jobs=uses(n), **readings) for n in range(num)]

    def test_a_job_that_ended_does_not_run_on(self):
        """
        It has as much to do as it did that day: paused for as long, it ends so much later.
        """
        use = JobUse(cpu_pct=100.0, rss_bytes=GIB, num_processes=1)
        day = self.samples(900, uses=lambda n: {"a": use} if n < 300 else {}, cpu_foreign_pct=4.0)
        (job,) = recorded_jobs(day)
        calm = simulate(day, Settings(rules=(CPU,)), [job]).jobs["a"]
        busy = [replace(one, cpu_foreign_pct=80.0) if one.at < 200 else one for one in day]
        paused = simulate(busy, Settings(rules=(CPU,)), [job]).jobs["a"]

        assert (JobState.COMPLETED, JobState.COMPLETED) == (calm.state, paused.state)
        assert 300 <= calm.ran_s <= 302
        assert 300 <= paused.ran_s <= 310
        assert paused.paused_s > 300

    def test_one_that_came_later_and_one_that_held_do_not_run_on_either(self):
        """
        The start is no work, nor is a pause with the process there; who is there at the end never ends.
        """
        use = JobUse(cpu_pct=100.0, rss_bytes=GIB, num_processes=1)
        held = replace(use, cpu_pct=0.0)

        def uses(n):
            late = {"late": use} if 100 <= n < 400 else {}
            rested = {"rested": held if 100 <= n < 200 else use} if n < 300 else {}
            return {"stays": use} | late | rested

        day = self.samples(900, uses=uses, cpu_foreign_pct=4.0)
        ends = {job.name: job.work_s for job in recorded_jobs(day)}
        told = simulate(day, Settings(rules=(CPU,)), recorded_jobs(day)).jobs

        assert {"stays": None, "late": 280.0, "rested": 200.0} == ends
        assert JobState.RUNNING is told["stays"].state
        assert {"late", "rested"} == {name for name, one in told.items() if one.state is JobState.COMPLETED}

    def test_memory_of_processes_that_are_gone_is_free(self):
        """
        A job that gave everything back makes room for another one that needs it; held, it would not.
        """
        settings = Settings(rules=(MEMORY,))
        needs = replace(SimJob(name="x").spec, memory_bytes=int(10 * GIB))
        big = replace(SimJob(name="big").demand, rss_bytes=12 * GIB)

        def world(depths):
            # It is short for a while: whoever frees memory yields.
            day = [
                Sample(
                    at=float(n),
                    num_cpus=4.0,
                    gpus=(),
                    memory_total_bytes=24 * GIB,
                    memory_available_bytes=(13 if 400 <= n < 500 else 16) * GIB,
                )
                for n in range(1500)
            ]
            jobs = [
                SimJob(name="big", demand=big, was_running=True, depths=depths),
                SimJob(name="next", spec=needs, arrives_s=420.0, demand=replace(big, rss_bytes=GIB)),
            ]
            return simulate(day, settings, jobs)

        gave, held = world((Depth.HOLD, Depth.EXIT)), world((Depth.HOLD,))
        starts = {one.job: one.at for one in gave.timeline if one.kind == "start"}

        assert ("pause", Depth.EXIT) == next(
            (one.kind, one.depth) for one in gave.timeline if one.job == "big"
        )
        assert 420 <= starts["next"] < 500
        assert [] == [one for one in held.timeline if one.job == "next"]

    def test_what_only_draws_makes_no_pause(self):
        """
        The flag is a part of the reading, as a replay sees it.
        """
        rule = replace(GPU, when=(Condition(metric="gpu_foreign_processes", above=0.9, clear_below=0.1),))
        use = JobUse(cpu_pct=100.0, rss_bytes=GIB, num_processes=1, gpu_bytes={"G": int(GIB)})

        def pauses(*, computes):
            card = replace(gpu("G"), processes=(GpuProcess(9, 1, computes=computes),))
            day = [replace(one, gpus=(card,)) for one in self.samples(200, uses=lambda _: {"a": use})]
            return simulate(day, Settings(rules=(rule,)), recorded_jobs(day)).jobs["a"].num_pauses

        assert (0, 1) == (pauses(computes=False), pauses(computes=True))
