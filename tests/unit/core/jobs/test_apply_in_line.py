"""Going on when it is its turn: what a person lets go on who may not take it from others."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.events import ResumeAsked, TimerFired
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.returning import may_come_back
from tests.unit.core.jobs.test_apply import ADA, RULE, Life


def let_go(life):
    return life(ResumeAsked(request="r", by=ADA, start_grace_s=60.0, in_line=True))


@pytest.mark.parametrize("life", [Life().pause(), Life().paused(Depth.EXIT)])
def test_a_job_without_a_process_is_the_queues_from_then_on(life):
    """
    Whether it never ran or has given everything back: the policy brings it back.
    """
    let_go(life)

    assert JobState.PAUSED is life.state
    assert may_come_back(life.job)
    assert "ada let it go on; it waits for its turn" == life.job.pause.reason
    assert () == life.effects


def test_what_a_rule_keeps_stays_the_rules():
    """
    It is in the line already, and who may not overrule the others does not overrule the rule.
    """
    life = Life().paused(Depth.EXIT, by=RULE)
    before = life.job

    assert before == let_go(life).job


def test_a_pause_of_which_nobody_knows_who_asked_is_no_trap():
    """
    As an earlier version wrote it down.
    """
    life = Life().pause()
    life.job = replace(life.job, pause=replace(life.job.pause, by=None))

    assert may_come_back(let_go(life).job)


def test_a_job_whose_process_waits_goes_on_at_once():
    """
    It has what it needs.
    """
    assert JobState.RESUMING is let_go(Life().paused(Depth.HOLD)).state


@pytest.mark.parametrize(("name", "state"), [("ada/a", JobState.PAUSED), ("a", JobState.RESUMING)])
def test_the_end_of_a_pause_is_no_way_past_the_line(name, state):
    """
    Of a user of the system's daemon; the daemon's own user waits for nobody.
    """
    life = Life(name).pause(for_s=5.0)
    life.now += 5.0
    life(TimerFired(timer="wake", start_grace_s=60.0))

    assert state is life.state
    assert life.job.wake_at is None
    assert (state is JobState.PAUSED) == may_come_back(life.job)


def test_a_held_process_wakes_at_its_time():
    """
    Whoever's it is.
    """
    life = Life("ada/a").running().pause(for_s=5.0).yields()
    life(TimerFired(timer="wake", start_grace_s=60.0))

    assert JobState.RESUMING is life.state
