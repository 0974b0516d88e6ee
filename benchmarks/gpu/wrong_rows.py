"""Rows for the command `make gpu` that go wrong in one way each."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.gpu.report import Finding, NotAvailable


def run(notes, _device, _folder, *, what, child=""):
    notes.put("seen", 1.0)
    if what == "raises":
        1 / 0  # noqa: B018
    elif what == "hangs":
        # In a session of its own, as a daemon is; its end is the command's work.
        Path(child).write_text(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
        time.sleep(600)
    elif what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "finds":
        raise Finding("two and two are five")
    elif what == "lacks":
        raise NotAvailable("no abacus")


def is_running(pid):
    """A zombie whose parent does not look is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
