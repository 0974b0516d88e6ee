"""Folders of checkpoints of a user, looked at as that user: real processes of real users.

Covers: what root could see and the user cannot; processes that hang, lie or say without end; that none is
left. Does not cover: the daemon's own folders (test_snapshot.py), commands (test_checkpoints_of_users.py).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.core.readings.sample import Missing
from supervisor.monitors import look_as_user
from supervisor.monitors.user_folders import Place, UserFolders, look_as
from tests.harness import until
from tests.other_user import OTHER, acting_as, needs_root

pytestmark = needs_root


@pytest.fixture(scope="module")
def python():
    """One that the user may run, which ours may not be."""
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([path, "-I", "-S", "-c", ""], user=OTHER, group=OTHER, extra_groups=[], check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("no Python here that another user may run")


@pytest.fixture
def place(home):
    """A folder that the user has."""
    home.chmod(0o755)
    folder = home / "hers"
    folder.mkdir()
    with acting_as():
        (home / "hers").stat()
    return folder


@pytest.fixture
def script(place):
    """What is run in the place of ours, which the user may be able to change into anything."""

    def write(text):
        file = place / "script.py"
        file.write_text(text)
        return str(file)

    # Ours lies where the user may not be able to read it.
    write.ours = write(Path(look_as_user.__file__).read_text())
    return write


def test_what_the_user_cannot_reach_is_not_told(place, script, python):
    """
    2026-11-29: root looked, and told of any folder that a user named whether it is there.
    """
    (place / "closed/secret").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    (place / "link").symlink_to(place / "closed/secret")
    names = ("closed/secret", "closed/none", "link", "none", ".")
    found = look_as(
        OTHER, [str(place / name) for name in names[:4]] + [str(place)], python, script=script.ours
    )

    for seen in found[:3]:
        assert isinstance(seen.free_bytes, Missing), seen
        assert "Permission denied" in seen.free_bytes.why
        assert seen.is_there
    assert (False, True) == (found[3].is_there, found[4].is_there)
    assert found[4].total_bytes > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import time; print('[1.0, 2.0, true, \"\"]', flush=True); time.sleep(100)", ["", "in time"]),
        ("while True: print('x' * 100000)", ["in time", "in time"]),
        ("print('[1e400, 0, true]'); print('{}')", ["something else", "something else"]),
        ("import os; os.close(1)", ["in time", "in time"]),
        ("import signal; signal.signal(15, signal.SIG_IGN)\nwhile True: pass", ["in time", "in time"]),
    ],
    ids=["hangs", "floods", "lies", "says nothing", "stays"],
)
def test_whoever_answers_as_the_user_is_bounded(script, python, text, says):
    """
    What it says is the user's word on own folders, and it is over soon whatever it does.
    """
    begin = time.monotonic()
    file = script(text)
    found = look_as(OTHER, ["/a", "/b"], python, script=file, deadline_s=0.7)
    took_s = time.monotonic() - begin

    for word, seen in zip(says, found, strict=True):
        assert word in getattr(seen.free_bytes, "why", ""), found
    assert took_s < 10
    assert subprocess.run(["pgrep", "-f", file], check=False, capture_output=True).stdout == b""


def test_each_folder_is_looked_at_as_its_user(place, python, tmp_path):
    """
    Root's own by the daemon, at once; and without a Python that the user may run it is told.
    """
    folders = UserFolders(python="/none")
    own, hers = Place(None, place), Place(OTHER, place)
    try:
        until(lambda: folders.read([own, hers], at=1.0)[own].is_there and not_missing(folders, own, hers))
        seen = until(lambda: told(folders.read([own, hers], at=1.0)[hers]))
    finally:
        folders.close()

    assert "cannot look as user id 4000321: No such file or directory" == seen


def not_missing(folders, own, hers):
    return not isinstance(folders.read([own, hers], at=1.0)[own].free_bytes, Missing)


def told(reading):
    why = reading.free_bytes.why
    return "" if why == "not measured yet" else why
