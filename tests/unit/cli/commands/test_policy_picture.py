"""Which readings a picture of a simulation shows: what made a job yield is never left out."""

from __future__ import annotations

import pytest

from supervisor.cli.commands.policy_picture import draw, panels_of
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.rules import Condition, Rule, Settings
from supervisor.core.policy.simulation import Happening, SimulationReport, recorded_jobs, simulate
from supervisor.core.readings.sample import DiskReading, Gpu, GpuProcess, JobUse, Sample

GIB = 1 << 30
FILM = Rule(name="film", when=(Condition(program="steam"),), pause_after_s=1.0, resume_after_s=9.0)
#: By other numbers than the default rule about the same reading.
CALM = Rule(
    name="calm",
    when=(Condition(metric="cpu_foreign_pct", above=20.0, clear_below=5.0),),
    pause_after_s=9000.0,
    resume_after_s=9.0,
)
SETTINGS = Settings(rules=(*DEFAULT_RULES, FILM, CALM))


def sample(n):
    """A day with eight GPUs; somebody comes to the sixth, a film is cut, and a job is over by the end."""
    guests = ((GpuProcess(9, 3 * GIB),) if 200 < n < 300 else (), (GpuProcess(5, 4 * GIB, "night"),))
    use = JobUse(cpu_pct=90.0, rss_bytes=1.0 * GIB, num_processes=1, disk=DiskReading(90.0 * GIB, 99.0 * GIB))
    night = JobUse(cpu_pct=100.0, rss_bytes=2.0 * GIB, num_processes=1, gpu_bytes={"GPU-5": 4 * GIB})
    return Sample(
        at=1.7e9 + 10.0 * n,
        wall=1.7e9 + 10.0 * n,
        num_cpus=4.0,
        cpu_foreign_pct=70.0 if n % 30 == 0 else 10.0,
        memory_total_bytes=24.0 * GIB,
        memory_available_bytes=12.0 * GIB,
        programs=("steam",) if 100 < n < 160 else (),
        gpus=tuple(
            Gpu(
                uuid=f"GPU-{number}",
                temperature_c=60.0 + number,
                memory_total_bytes=80.0 * GIB,
                memory_used_bytes=9.0 * GIB,
                processes=(*guests[0], *guests[1]) if number == 5 else (),
            )
            for number in range(8)
        ),
        jobs={"night": night} | ({"day": use} if n < 150 else {}),
    )


@pytest.fixture(scope="module")
def replay():
    samples = [sample(n) for n in range(400)]
    return samples, simulate(samples, SETTINGS, recorded_jobs(samples))


def test_what_made_a_job_yield_is_shown_and_of_the_rest_what_came_nearest(replay):
    """
    2026-11-28: the first six readings were drawn, five of them of idle GPUs.
    """
    samples, report = replay
    panels, num_left_out = panels_of(samples, SETTINGS, report)
    shown = [(panel.what, panel.place) for panel in panels]
    acted = {one.rule for one in report.timeline}

    assert {"film", "gpu-foreign-memory"} <= acted
    assert 6 == len(shown)
    assert {("gpu_foreign_memory_gib", "GPU-5"), ("steam", ""), ("cpu_foreign_pct", "")} <= {*shown}
    assert ("gpu_foreign_memory_gib", "GPU-0") not in shown
    assert num_left_out > 10


def test_every_rule_about_a_reading_has_its_thresholds_there(replay):
    """
    The first of several is not the only one that counts.
    """
    panels, _ = panels_of(replay[0], SETTINGS, replay[1])
    (cpu,) = [panel for panel in panels if panel.what == "cpu_foreign_pct"]

    assert ["cpu-foreign", "calm"] == [rule for rule, _ in cpu.looks]


def test_nothing_that_acted_is_left_out_however_many_they_are(replay):
    """
    More than six rules, each of them short once.
    """
    samples, _ = replay
    many = tuple(
        Rule(name=f"r{n}", when=(Condition(program=f"p{n}"),), pause_after_s=0.0, resume_after_s=0.0)
        for n in range(9)
    )
    timeline = [Happening(0.0, "a", "pause", rule.name, "") for rule in many]
    report = SimulationReport(duration_s=1.0, num_samples=3, jobs={}, timeline=timeline)
    ran = [Sample(at=one.at, programs=tuple(f"p{n}" for n in range(9))) for one in samples[:3]]

    assert (9, 0) == (len(panels_of(ran, Settings(rules=many), report)[0]), 0)


def test_it_is_drawn(replay, tmp_path):
    """
    With windows, programs and metrics beside each other; the number of what is not in it comes back.
    """
    samples, report = replay

    assert draw(samples, SETTINGS, report, tmp_path / "a.png") > 0
    assert b"\x89PNG" == (tmp_path / "a.png").read_bytes()[:4]
