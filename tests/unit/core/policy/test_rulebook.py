"""Every rule at every place where it holds: what is short, what is on, what eases."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.rules import Condition, PolicyConfig, Rule
from tests.fakes.steered_machine import CPU, GIB, Machine

BUSY = {"cpu_foreign_pct": 80.0}


def test_a_shortage_that_eases_by_itself_is_given_a_moment():
    """
    But not for ever: after the longer of the two times it is acted on.
    """
    policy = PolicyConfig(easing_short_s=3.0, easing_long_s=30.0)
    machine = Machine(replace(CPU, pause_after_s=5.0), policy=policy).submit("a").run(100)
    for pct in range(99, 79, -1):
        machine.run(1, cpu_foreign_pct=float(pct))
    assert [] == machine.told
    for _ in range(25):
        machine.run(1, cpu_foreign_pct=55.0)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_a_shortage_that_grows_is_not_taken_for_one_that_eases():
    """
    `easing_long_s = 0` switches that off; a verdict came a tick late with it (seen 2026-11-22).
    """
    policy = PolicyConfig(easing_long_s=0.0)
    machine = Machine(replace(CPU, pause_after_s=5.0), policy=policy).submit("a").run(100)
    for pct in range(51, 57):
        machine.run(1, cpu_foreign_pct=float(pct))

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_load_that_began_before_a_look_counts_from_where_it_must_have_begun():
    """
    Half of the second that a reading of 75 % is of; then the gaps between the looks.
    """
    rule = replace(CPU, pause_after_s=2.5)
    machine = Machine(rule).submit("a").run(100, cpu_over_s=1.0)
    machine.run(1, cpu_foreign_pct=75.0).run(1, cpu_foreign_pct=100.0)
    assert [] == machine.told
    machine.run(1)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told


def test_the_alarm_speaks_for_pressure_that_its_mean_does_not_show_yet():
    """
    The kernel's alarm is fresher than the average of ten seconds.
    """
    rule = Rule(
        name="pressure",
        when=(
            Condition(metric="psi_memory_full_pct", above=10.0, clear_below=1.0),
            Condition(metric="memory_available_pct", below=20.0, clear_above=25.0),
        ),
        pause_after_s=30.0,
        resume_after_s=30.0,
    )
    machine = Machine(rule).submit("a").run(100).run(1, is_urgent=True, memory_available_bytes=2 * GIB)

    assert [("pause", "a", "pressure", Depth.EXIT)] == machine.told
    # 2026-11-22: it was said to be beyond a threshold that it had not reached, for 30 s.
    alarm, memory = machine.why("a").verdict.evidence
    assert ("psi_memory_full_pct (the kernel's memory alarm)", "", 0.0) == (
        alarm.what,
        alarm.threshold,
        alarm.for_s,
    )
    assert ("< 20", 0.0) == (memory.threshold, memory.for_s)


def test_a_job_that_leaks_ends_and_comes_back_from_its_checkpoint():
    """
    A process that is gone uses no memory, so its own rule is over.
    """
    leak = Rule(
        name="leak",
        when=(Condition(metric="job_memory_gib", above=8.0, clear_below=6.0),),
        pause_after_s=5.0,
        resume_after_s=10.0,
    )
    machine = Machine(leak).submit("a", rss_gib=9.0).submit("b").run(100)
    assert [("pause", "a", "leak", Depth.EXIT)] == [one for one in machine.told if one[0] == "pause"][:1]
    assert any(kind == "resume" for kind, *_ in machine.told)
