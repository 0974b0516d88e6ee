"""A training without torch in a thread of its own, as web interfaces have it.

`python threaded.py MAIN SIGNALS [TRAININGS]`. MAIN is what the main thread does: `join` the thread, run a
`server` until it is interrupted, or be `over`. SIGNALS is when it calls handle_signals(): `before` the
thread attaches, `after` that, or `never`. The thread is steered as chain.py is.
"""

from __future__ import annotations

import random
import sys
import threading
import time

import trainer_shim
from tests.trainers import chain

has_attached = threading.Event()


def work(num_trainings: int) -> None:
    for number in range(num_trainings):
        random.seed(7)
        one = chain.Chain()
        shim = trainer_shim.attach(chain=one)
        has_attached.set()
        print(f"attached at step {shim.step}", flush=True)
        for _ in shim.epochs(1):
            for _ in shim.batches(list(range(chain.NUM_STEPS))):
                one.step()
                time.sleep(chain.STEP_S)
        shim.detach()
        chain.wait_at(f"over-{number}")
        (chain.FOLDER / "result").write_text(one.digest)


def main(what: str, signals: str, num_trainings: int) -> None:
    if signals == "before":
        trainer_shim.handle_signals()
    thread = threading.Thread(target=work, args=(num_trainings,))
    thread.start()
    if signals == "after" or what == "over":
        # What attach() imports can no longer be imported once the main thread is over.
        has_attached.wait()
    if signals == "after":
        trainer_shim.handle_signals()
    print("signals", flush=True)
    try:
        if what == "join":
            thread.join()
            print("behind the training", flush=True)
        while what == "server":
            time.sleep(3600)
    finally:
        print("the main thread cleans up", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int((*sys.argv[3:4], "1")[0]))
