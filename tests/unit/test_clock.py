"""The steady clock: never back, the same across daemon restarts within one boot."""

import time

from supervisor.clock import SteadyClock

FAR = 4e9


def test_a_restarted_daemon_goes_on_with_the_clock_of_the_one_before():
    """
    Deadlines written down by one life are right in the next, although somebody set the wall clock.
    """
    first = SteadyClock({}, boot_id="b1", not_before=FAR)
    then = first.now()
    second = SteadyClock(first.facts, boot_id="b1", not_before=0.0)

    assert FAR <= then <= second.now() < then + 60
    assert first.facts == second.facts


def test_after_a_boot_it_starts_from_the_wall_clock():
    """
    Numbers are near Unix time, so people can read a journal.
    """
    clock = SteadyClock({"clock.boot_id": "old", "clock.offset_s": "5.0"}, boot_id="new", not_before=0.0)

    assert abs(clock.now() - time.time()) < 60
    assert abs(clock.wall() - time.time()) < 60


def test_after_a_boot_with_a_wrong_wall_clock_it_is_not_before_what_was_written():
    """
    A machine whose battery is empty wakes up in 1970; its jobs' past stays past.
    """
    clock = SteadyClock({"clock.boot_id": "old", "clock.offset_s": "5.0"}, boot_id="new", not_before=FAR)

    assert clock.now() >= FAR
