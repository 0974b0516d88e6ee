"""Lines of a command that waits: one a change, or drawn over on a terminal."""

from __future__ import annotations

import io

from supervisor.cli.output.progress import Progress
from supervisor.cli.output.screen import Screen


def test_without_a_terminal_a_stage_is_one_line():
    """
    A log of a waiting command has a line per change, not a line per second.
    """
    stream = io.StringIO()
    shown = Progress(stream, Screen(None, colour=False, live=False))
    shown.update("job-1", "waiting (1.0 s ago)", key="a")
    shown.update("job-1", "waiting (2.0 s ago)", key="a")
    shown.update("job-1", "saving", key="b")
    shown.note("hint: x")
    shown.close()

    assert "job-1: waiting (1.0 s ago)\njob-1: saving\nhint: x\n" == stream.getvalue()


def test_on_a_terminal_one_line_a_job_is_rewritten():
    """
    The lines are drawn over, never wider than the screen, and gone at the end.
    """
    stream = io.StringIO()
    shown = Progress(stream, Screen(12, colour=True, live=True))
    shown.update("a", "waiting for long", key="1")
    shown.update("b", "x", key="1")
    shown.update("a", "y", key="2")
    shown.close()

    up1, up2 = "\x1b[1A\x1b[J", "\x1b[2A\x1b[J"
    assert f"a: waiti...\n{up1}a: waiti...\nb: x\n{up2}a: y\nb: x\n{up2}" == stream.getvalue()
