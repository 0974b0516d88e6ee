"""A checkpoint of one boundary: written once, told when it is there.

Covers: saving.py with a store, drafts and saves in the background that are scripted.
Does not cover: real ones (tests/integration/test_periodic.py).
"""

from __future__ import annotations

import pytest

from trainer_shim.checkpoint import Saved
from trainer_shim.errors import CannotSave
from trainer_shim.link_report import LinkReport
from trainer_shim.one_time_warnings import OneTimeWarnings
from trainer_shim.saving import Saver
from trainer_shim.telling import Telling


class Scene:
    """Stands where all that a saver uses is, and writes down what it is asked."""

    def __init__(self, folder):
        self.log, self.notices, self.is_away, self.in_background = [], [], False, None
        self.folder, self.report = folder / "step-3", LinkReport()
        self.report.step = 3
        self.saver = Saver(
            self, self, self, self, Telling(self.report, OneTimeWarnings(), self, None), self.report
        )

    def send(self, message):
        self.log.append(type(message).__name__)

    def make(self, *, is_asked):
        assert is_asked
        return "draft"

    def write(self, draft):
        self.log.append(f"writes {draft}")
        self.folder.mkdir()
        return Saved(self.folder, 3, "digest", 10, 0.5)

    def waited(self):
        return self.in_background

    def restart(self):
        self.log.append("counts anew")

    def leave_boundary(self):
        self.in_background = None


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_however_many_ask_at_one_boundary_it_is_written_once(scene):
    """
    A pause right behind a save that a person asked for takes no second one; the next boundary does.
    """
    first, second = scene.saver.save("a"), scene.saver.save("b")
    assert first is second
    assert ["Saving", "writes draft", "counts anew"] == scene.log

    scene.saver.leave_boundary()
    scene.folder.rmdir()
    scene.saver.save("c")

    assert 2 == scene.log.count("writes draft")


def test_what_was_just_written_is_what_a_daemon_hears_of_that_comes_back(scene):
    """
    It is at hand before anybody is told by name.
    """
    scene.saver.save("a")

    assert (3, str(scene.folder)) == (scene.report.checkpoint.step, scene.report.checkpoint.path)


def test_one_that_somebody_removed_is_written_again(scene):
    """
    A loop may hold for days.
    """
    scene.saver.save("a")
    scene.folder.rmdir()

    assert scene.saver.still_there() is None
    scene.saver.save("b")
    assert 2 == scene.log.count("writes draft")


def test_tensors_without_memory_are_not_written(scene):
    """
    torch would follow a null pointer.
    """
    scene.is_away = True
    with pytest.raises(CannotSave, match="step 3"):
        scene.saver.save("a")

    assert [] == scene.log


def test_what_is_written_in_the_background_of_this_very_state_is_taken(scene, tmp_path):
    """
    A second copy of it would take as long again.
    """
    scene.in_background = Saved(tmp_path, 3, "digest", 10, 0.5)

    assert scene.in_background is scene.saver.save("a")
    assert ["Saving"] == scene.log


def test_a_save_of_the_scripts_own_counts_for_no_boundary(scene):
    """
    The script goes on behind it, and changes what the next boundary saves; also where it failed.
    """
    scene.saver.save_for_script()
    assert scene.saver.fresh is None

    scene.is_away = True
    with pytest.raises(CannotSave):
        scene.saver.save_for_script()

    assert scene.saver.fresh is None
