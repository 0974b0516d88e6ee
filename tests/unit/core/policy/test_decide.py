"""Who yields and when, told as short stories: what is measured, and what follows."""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.rules import Condition, PolicyConfig, Rule
from supervisor.core.readings.sample import Missing
from tests.fakes.steered_machine import CPU, GIB, Machine

ADA = Asker("person", "ada")
BUSY = {"cpu_foreign_pct": 80.0}
CALM = {"cpu_foreign_pct": 5.0}
SHORT = {"memory_available_bytes": 1.0 * GIB}


def test_a_job_holds_while_others_use_the_cpu_and_comes_back_by_itself():
    """
    Half a minute of foreign load, then three minutes of calm.
    """
    machine = Machine().submit("a").run(100).run(31, **BUSY)

    assert [("pause", "a", "cpu", Depth.HOLD)] == machine.told
    machine.run(179, **CALM)
    assert JobState.PAUSED is machine.state("a")
    machine.run(3)

    assert ("resume", "a", "cpu", None) == machine.told[-1]
    assert JobState.RUNNING is machine.state("a")


def test_one_job_at_a_time_and_time_to_see_what_that_changed():
    """
    The second one is asked a settle time after the first has yielded.
    """
    machine = Machine().submit("a").submit("b").run(100).run(60, **BUSY)
    moments = [at for at, verdict in machine.verdicts if verdict.kind == "pause"]

    assert [15.0] == [moments[1] - moments[0]]


def test_a_job_that_is_slow_to_yield_is_waited_for_until_it_is_late():
    """
    Its room is on its way; a second victim would give more than is short. Late, it is no hope any more.
    """
    machine = Machine().submit("a").submit("b")
    machine.slow = {"a", "b"}
    machine.run(100).run(200, **BUSY)
    assert 1 == len(machine.told)
    slow = machine.told[0][1]
    machine.jobs[slow] = replace(machine.jobs[slow], late=True)
    machine.run(2)

    assert 2 == len(machine.told)


def test_a_held_job_gives_memory_before_a_running_one_does():
    """
    That costs no training. It comes back when both rules are over.
    """
    machine = Machine().submit("held", priority=5).run(100).run(40, **BUSY).submit("runs", priority=-5)
    machine.run(1).run(8, **SHORT)

    assert ("deepen", "held", "memory", Depth.EXIT) == machine.told[-1]
    machine.run(90, memory_available_bytes=20.0 * GIB)
    assert JobState.PAUSED is machine.state("held")
    machine.run(200, **CALM)
    assert JobState.RUNNING is machine.state("held")


def test_an_emergency_waits_for_nothing():
    """
    Neither for the holding time nor for the settle time of another verdict; but one is all in a settle time.
    """
    machine = Machine().submit("a").submit("b").submit("c").run(100).run(31, **BUSY)
    assert 1 == len(machine.told)
    machine.run(1, is_urgent=True, **SHORT)
    assert ("deepen", "memory", Depth.EXIT) == (machine.told[-1][0], *machine.told[-1][2:])
    num = len(machine.told)
    machine.run(10)

    assert num == len(machine.told)
    machine.run(10)
    assert num + 1 == len(machine.told)


def test_what_a_person_paused_stays_paused():
    """
    However calm it is.
    """
    machine = Machine().submit("a").run(100)
    machine.pause("a", ADA)
    machine.run(40, **BUSY).run(600, **CALM)

    assert [] == machine.told
    assert "a person resumes it" in machine.why("a").next


def test_a_window_of_time_pauses_and_lets_go():
    """
    Weekdays from nine to six.
    """
    office = Rule(
        name="office", when=(Condition(clock="mon-fri 09:00-18:00"),), pause_after_s=0.0, resume_after_s=0.0
    )
    machine = Machine(office).submit("a").run(100, weekday=0, second_of_day=8 * 3600)
    machine.run(2, second_of_day=9 * 3600)
    assert [("pause", "a", "office", Depth.HOLD)] == machine.told
    assert "it is no longer mon-fri 09:00-18:00" == machine.why("a").next
    machine.run(20, second_of_day=18 * 3600)

    assert JobState.RUNNING is machine.state("a")


def test_a_program_pauses_and_lets_go():
    """
    While it runs; whether it runs may be unknown for a while.
    """
    game = Rule(name="game", when=(Condition(program="steam"),), pause_after_s=2.0, resume_after_s=5.0)
    machine = Machine(game).submit("a").run(100).run(4, programs=("steam",))
    assert [("pause", "a", "game", Depth.HOLD)] == machine.told
    machine.run(50, programs=Missing("cannot look"))
    assert JobState.PAUSED is machine.state("a")
    machine.run(30, programs=())

    assert JobState.RUNNING is machine.state("a")


def test_jobs_come_back_where_rules_are_switched_off():
    """
    Also those whose rule is no more.
    """
    machine = Machine().submit("a").run(100).run(40, **BUSY)
    machine.settings = replace(machine.settings, policy=PolicyConfig(enabled=False))
    machine.run(30)

    assert JobState.RUNNING is machine.state("a")


def test_a_clock_that_goes_back_has_not_moved():
    """
    Nothing is decided twice, and nothing breaks.
    """
    machine = Machine().submit("a").run(100).run(29, **BUSY)
    machine.now -= 50.0
    machine.run(40)
    assert [] == machine.told
    machine.run(15)

    assert 1 == len(machine.told)


def test_between_the_thresholds_nobody_yields_whose_rule_is_on():
    """
    One job has made room; the load falls below the one threshold only: the next job stays.
    """
    machine = Machine(CPU).submit("a").submit("b").run(100).run(31, **BUSY)
    assert 1 == len(machine.told)
    machine.run(600, cpu_foreign_pct=35.0)

    assert 1 == len(machine.told)
    assert machine.rule("cpu").is_on
    machine.run(1, **BUSY)
    assert 2 == len(machine.told)


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
