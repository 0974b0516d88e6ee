"""Runs a script, and sends this process SIGTERM once its training has passed so many boundaries."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

from trainer_shim import session


def end_at(step: int) -> None:
    while session._current is None or session._current._report.step < step:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


script, step = sys.argv[1], int(sys.argv[2])
sys.argv = sys.argv[1:2]
sys.path.insert(0, os.path.dirname(script))  # noqa: PTH120  # As Python does.
threading.Thread(target=end_at, args=(step,), daemon=True).start()
runpy.run_path(script, run_name="__main__")
