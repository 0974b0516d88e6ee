"""A training without torch in a process that another one made and waits for.

`python in_child.py METHOD END`: METHOD is how it is made, by multiprocessing (`fork`, `spawn`, `forkserver`)
or by torch (`mp.spawn`). END is how the function of the child ends: `returns`, `exits` by SystemExit, or
`raises`. Steered as chain.py is.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time

from tests.trainers import chain


def work(end: str) -> None:
    import trainer_shim  # noqa: PLC0415  # The parent never trains.

    random.seed(7)
    one = chain.Chain()
    shim = trainer_shim.attach(chain=one)
    for _ in shim.epochs(1):
        for _ in shim.batches(list(range(chain.NUM_STEPS))):
            one.step()
            time.sleep(chain.STEP_S)
    (chain.FOLDER / "result").write_text(one.digest)
    if end == "exits":
        sys.exit(0)
    if end == "raises":
        raise ValueError("behind the training")


def numbered(_rank: int, end: str) -> None:
    work(end)


def main(method: str, end: str) -> None:
    if method == "mp.spawn":
        import torch.multiprocessing  # noqa: PLC0415  # Only where it is asked for.

        torch.multiprocessing.spawn(numbered, args=(end,))
        return
    child = multiprocessing.get_context(method).Process(target=work, args=(end,))
    child.start()
    child.join()


if __name__ == "__main__":
    main(*sys.argv[1:3])
