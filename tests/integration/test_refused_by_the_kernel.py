"""What the kernel refuses to the launcher is an error, not a promise that is quietly broken.

Covers: becoming the foster parent of orphans, in the daemon and in a keeper; timers.
Does not cover: files (tests/crash/test_failing_calls.py).
"""

import os
import subprocess
import sys

import pytest

from supervisor.launcher import linux
from tests.fakes import refusing_kernel

pytestmark = pytest.mark.skipif(bool(refusing_kernel.why_not()), reason=refusing_kernel.why_not())

#: Nobody takes a filter away again, so each has a process of its own.
_PROGRAM = """
import sys
from pathlib import Path
from supervisor.launcher import KeeperLauncher, linux
from tests.fakes.launcher_worlds import RealWorld, ended
from tests.fakes.refusing_kernel import PR_SET_CHILD_SUBREAPER, refuse

def keeper():
    launcher = KeeperLauncher()
    refuse("prctl", PR_SET_CHILD_SUBREAPER)
    launcher.launch(RealWorld(Path(sys.argv[1])).spec(script="exit 0"))
    print(ended(launcher).exit)
    launcher.close()

try:
    {call}
except OSError as error:
    print(error.strerror)
else:
    print("it was not noticed")
"""


def told(call, folder):
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.replace("{call}", call), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()[0]


@pytest.mark.parametrize(
    "call",
    [
        'refuse("prctl", PR_SET_CHILD_SUBREAPER); linux.adopt_orphans()',
        'refuse("timerfd_create"); linux.open_timer()',
        'fd = linux.open_timer(); refuse("timerfd_settime"); linux.set_timer(fd, 50)',
    ],
    ids=["prctl", "timerfd_create", "timerfd_settime"],
)
def test_a_refused_call_is_an_error(call, tmp_path):
    """
    A daemon without foster children would lose exit codes, one without its timer would look too late.
    """
    assert "Operation not permitted" == told(call, tmp_path)


def test_a_keeper_that_cannot_keep_track_starts_nothing(tmp_path):
    """
    The job says why; without this what detaches from the command would outlive every stop.
    """
    words = "cannot start: its processes could not be kept track of: Operation not permitted"

    assert words == told("keeper()", tmp_path)


def test_a_timer_that_is_gone_cannot_be_set():
    """
    The kernel's word on it arrives, with its number.
    """
    fd = linux.open_timer()
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        linux.set_timer(fd, 50)
