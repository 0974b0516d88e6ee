"""What a run says on stderr."""

from __future__ import annotations

from tests.fakes.clock import FakeClock
from trainer_shim.one_time_warnings import OneTimeWarnings


def test_a_warning_that_stays_true_is_repeated_once_an_hour(capfd):
    """
    Said at every boundary it would bury the run's own output; said once, nobody would see it after a week.
    """
    clock = FakeClock()
    voice = OneTimeWarnings(clock=clock.now)
    for _ in range(3 * 60):
        voice.say("the disk is full")
        voice.say("something else")
        clock.advance(60.0)

    said = capfd.readouterr().err.splitlines()
    assert ["trainer_shim: the disk is full", "trainer_shim: something else"] * 3 == said


def test_kinds_that_the_script_knows_are_not_told(capfd):
    """
    Nor does a checkpoint or a proof have them.
    """
    doubts = []
    voice = OneTimeWarnings({"data"}, doubted=doubts.append)
    voice.say("the sampler is unseen [data]")
    voice.say("numbers were drawn [drawn]")

    assert "trainer_shim: numbers were drawn [drawn]\n" == capfd.readouterr().err
    assert voice.doubts == doubts == ["numbers were drawn [drawn]"]


def test_a_proof_hears_of_doubts_once_and_of_nothing_else(capfd):
    """
    That a run goes on from a step is no reason to doubt it.
    """
    doubts = []
    voice = OneTimeWarnings(clock=FakeClock().now, doubted=doubts.append)
    for _ in range(2):
        voice.say("the sampler is unseen [data]")
        voice.say("going on from step 4")

    assert ["the sampler is unseen [data]"] == doubts
    assert 2 == len(capfd.readouterr().err.splitlines())
