"""Runs scripts one after the other, each in a process of its own that is forked with torch loaded already.

`python -m tests.trainers.forked` reads one JSON object a line, the fields of `Run`, and prints for each its
exit code and what it printed. A run is ended, where that is asked for, once the training of that number in
its process has passed so many boundaries. One that is to be killed saves in the background every few steps,
and is killed when a checkpoint is durable.

Covers: imports cost more than these trainings, and are made once.
Does not cover: processes with another hash seed and addresses (`supervisorctl prove` starts them anew).
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path

import sklearn.datasets
import torch._dynamo
import torch.utils.data

import trainer_shim
from tests.trainers.runs import Run
from trainer_shim import attaching, checkpoint

#: Loaded here and so in no run; the first optimizer would load `_dynamo`.
__all__ = ["checkpoint", "sklearn", "torch"]

SAVE_EVERY_STEPS = 7


def send(run: Run) -> None:
    """Send this process the signal of a run when it is there."""
    seen: list[trainer_shim.Shim] = []
    while True:
        now = attaching._newest and attaching._newest()
        if now is not None and now not in seen:
            seen.append(now)
        if now is not None and len(seen) == run.training and now._report.step >= run.step:
            is_ready = run.signal != "SIGKILL" or now._report.checkpoint is not None
            if is_ready:
                os.kill(os.getpid(), signal.Signals[run.signal])
                return
        time.sleep(0.001)


def become(run: Run) -> int:
    """Run the script as Python does that was started with it; return its exit code."""
    os.chdir(run.folder)
    for name, target in (("out", 1), ("err", 2)):
        with Path(name).open("wb") as file:
            os.dup2(file.fileno(), target)
    sys.argv = [run.script, *run.argv]
    sys.path[0] = str(Path(run.script).parent)
    if run.signal:
        threading.Thread(target=send, args=(run,), daemon=True).start()
    if run.signal == "SIGKILL":
        trainer_shim.attach = partial(attaching.attach, every_steps=SAVE_EVERY_STEPS)
    try:
        runpy.run_path(run.script, run_name="__main__")
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except Exception:  # noqa: BLE001  # As the interpreter does it.
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    # What is there by now is neither looked through in a run nor taken apart at its end.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        run = Run(**json.loads(line))
        pid = os.fork()
        if not pid:
            code = become(run)
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out, err = (Path(run.folder, name).read_text() for name in ("out", "err"))
        print(json.dumps({"code": code, "out": out, "err": err}), flush=True)


if __name__ == "__main__":
    main()
