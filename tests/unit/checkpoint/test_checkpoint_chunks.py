"""Work on a checkpoint that is shared by threads.

Covers: an interruption while others are at work.
Does not cover: what they write and read (test_checkpoint_direct.py, test_checkpoint_tensorfile.py).
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from concurrent.futures import Future

import pytest

from trainer_shim.checkpoint.chunks import _HandOut, _wait


@pytest.mark.parametrize("later", range(40))
def test_an_interruption_waits_for_the_helpers_and_is_not_lost(later):
    """
    Ctrl-C in a save ends the script, once no thread writes to what is being removed; whatever the main
    thread is at just then.
    """
    hand_out, helper = _HandOut(itertools.count()), Future()

    def interrupt():
        while not helper._done_callbacks:
            pass
        for _ in range(50 * later):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        while next(hand_out, None) is not None:  # Until it was stopped.
            pass
        helper.set_result(None)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        _wait([helper], hand_out)
    thread.join()

    assert helper.done()
