"""Checkpoints that a run writes while it trains on, as a session sees them.

Covers: background_saves.py with a thread that is scripted.
Does not cover: a real one (tests/integration/test_periodic.py).
"""

from __future__ import annotations

import math

import pytest

from trainer_shim.background_saves import BackgroundSaves
from trainer_shim.checkpoint import Saved
from trainer_shim.errors import CannotSave
from trainer_shim.link_report import LinkReport
from trainer_shim.one_time_warnings import OneTimeWarnings
from trainer_shim.periodic import SaveEnded
from trainer_shim.telling import Telling


class Scene:
    """Stands where the thread, the store, the drafts and the daemon are."""

    def __init__(self, folder):
        self.log, self.told, self.notices, self.due_step = [], [], [], 8
        self.saved = Saved(folder, 7, "digest", 10, 0.5)
        self.last_saved, self.news, self.is_full = None, [], False
        self.report = LinkReport()
        self.report.step, self.report.epoch = 7, 2
        telling = Telling(self.report, OneTimeWarnings(), self, None)
        self.saves = BackgroundSaves(self, self, telling, self.report)

    def send(self, message):
        self.told.append(message)

    def make(self, *, is_asked):
        assert not is_asked
        if self.is_full:
            raise CannotSave("cannot save: the disk is full", hint="free some space")
        return "draft"

    def begin(self, draft):
        self.log.append(f"copies {draft}")
        return True

    def wait(self):
        self.news, self.last_saved = [SaveEnded(1, saved=self.saved)], self.saved

    def ended(self):
        news, self.news = self.news, []
        return news

    def restart(self, step):
        self.log.append(f"counts from {step}")

    def make_due(self):
        self.log.append("due")

    def close(self):
        self.log.append("closed")


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    made.saves.start(made, 2)
    made.log.clear()
    return made


def test_a_pause_takes_what_is_being_written_of_its_own_boundary(scene):
    """
    And no older one: what was trained since would be lost.
    """
    scene.saves.begin()
    taken = scene.saves.waited()
    scene.saves.leave_boundary()

    assert scene.saved is taken
    assert scene.saves.waited() is None
    assert ["copies draft"] == scene.log


def test_what_ended_is_told_with_the_epoch_that_it_is_of(scene):
    """
    The loop is further by then.
    """
    scene.news = [SaveEnded(1, saved=scene.saved)]
    scene.saves.tell_ended()

    assert [(7, 1)] == [(one.step, one.epoch) for one in scene.told]
    assert scene.told == [scene.report.checkpoint]


@pytest.mark.parametrize("fails", ["at once", "later"])
def test_one_that_fails_is_told_and_the_next_comes_after_a_whole_period(scene, fails, capsys):
    """
    A full disk is not asked at each step.
    """
    if fails == "at once":
        scene.is_full = True
        scene.saves.begin()
    else:
        scene.news = [SaveEnded(0, error=CannotSave("cannot save: the disk is full", hint="free some space"))]
        scene.saves.tell_ended()

    assert ["counts from 7"] == scene.log
    assert ["cannot save: the disk is full (free some space)"] == [one.why for one in scene.told]
    assert "the disk is full (free some space); training goes on" in capsys.readouterr().err


def test_of_epochs_those_are_saved_that_the_script_chose(scene):
    """
    Each second one here.
    """
    assert [False, True] == [scene.saves.epoch_is_over(number) for number in (1, 2)]
    assert ["due"] == scene.log


def test_a_run_that_does_not_save_so_asks_for_nothing(scene):
    """
    Neither before it begins, nor after its end.
    """
    assert scene.saves.close()
    assert ["closed"] == scene.log

    assert not scene.saves.close()
    scene.saves.begin()
    scene.saves.restart()
    assert [False] * 3 == [scene.saves.is_due(), scene.saves.has_news(), scene.saves.epoch_is_over(2)]
    assert (math.inf, None) == (scene.saves.due_step, scene.saves.waited())
    assert ["closed"] == scene.log
