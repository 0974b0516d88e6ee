"""What a run says on stderr."""

from __future__ import annotations

from tests.fakes.clock import FakeClock
from trainer_shim.voice import Voice


def test_a_warning_that_stays_true_is_repeated_once_an_hour(capfd):
    """
    Said at every boundary it would bury the run's own output; said once, nobody would see it after a week.
    """
    clock = FakeClock()
    voice = Voice(clock.now)
    for _ in range(3 * 60):
        voice.say("the disk is full")
        voice.say("something else")
        clock.advance(60.0)

    said = capfd.readouterr().err.splitlines()
    assert ["trainer_shim: the disk is full", "trainer_shim: something else"] * 3 == said
