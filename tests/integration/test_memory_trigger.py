"""A call of the real kernel.

Covers: that a trigger wakes a poll loop through its one descriptor. It waits for
CPU here: pressure on memory would harm the machine that runs the tests.
Does not cover: how soon; benchmarks/sensing.py measures that.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from supervisor.monitors.pressure import MemoryTrigger
from tests.harness import GUARD_S


def test_the_kernel_wakes_a_poll_loop():
    """
    Readable as any other descriptor, once a call.
    """
    trigger = MemoryTrigger([Path("/proc/pressure/cpu")])
    if trigger.problem:
        trigger.close()
        pytest.skip(f"no pressure triggers here: {trigger.problem}")
    poller = zmq.Poller()
    poller.register(trigger.fileno(), zmq.POLLIN)
    # Two for one CPU: one of them always waits.
    pin = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-c", pin]) for _ in range(2)]
    try:
        ready = dict(poller.poll(GUARD_S * 1000))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    trigger.acknowledge()
    trigger.close()

    assert 1 == len(ready)
