"""Trains and saves, is killed, looks at what is left, and again; one process forks all of them.

As a program it takes a folder, a seed, how many kills at most and for how many seconds, and prints what it
saw as JSON. Half of the runs save at a boundary, half in the background; all retire, overwrite and link.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import trainer_shim
from trainer_shim.checkpoint import Store

FROZEN = torch.arange(20_000)


class Part:
    """State that says which step it is of, in every byte."""

    def __init__(self):
        self.step = 0

    def state_dict(self):
        return {"step": self.step, "long": torch.full((30_000,), self.step), "frozen": FROZEN}

    def load_state_dict(self, state):
        self.step = state["step"]


def train(root, told, *, in_background):
    """Until the end of days; tells of every step that is durable."""
    part = Part()
    every = 1 if in_background else None
    shim = trainer_shim.attach(checkpoints=root, keep=2, every_steps=every, part=part)
    durable = 0
    while True:
        part.step += 1
        if not in_background:
            os.write(told, b"%d\n" % int(shim.checkpoint().name.split("-")[1].split(".")[0]))
        time.sleep(0.0005)  # A step; the thread that writes wants the interpreter too.
        shim.boundary()
        last = shim._report.checkpoint
        if last is not None and last.step > durable:
            durable = last.step
            os.write(told, b"%d\n" % durable)


def killed(root, chance):
    """Start one, kill it at some moment; the last step that it called durable."""
    listened, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            train(root, told, in_background=chance.random() < 0.5)
        finally:
            os._exit(1)
    os.close(told)
    with os.fdopen(listened) as source:
        lines = [source.readline() for _ in range(chance.randrange(9))]
        time.sleep(chance.uniform(0, 0.006))
        os.kill(child, signal.SIGKILL)
        lines += source.readlines()
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL, status
    return max((int(line) for line in lines if line.endswith("\n")), default=0)


def look(root, durable, seen):
    """What a restart finds."""
    with Store(root, job=root.name) as store:
        loaded = store.newest()
        told = [notice.text for notice in store.notices if "was written by" not in notice.text]
    step = loaded.step if loaded else 0
    if told or step < durable:
        seen["wrong"].append(f"after {seen['num_kills']} kills: {step} of {durable}, {told}")
    if loaded:
        part = loaded.state["parts"]["part"]
        if not (part["long"] == part["step"]).all() or not torch.equal(part["frozen"], FROZEN):
            seen["wrong"].append(f"after {seen['num_kills']} kills: other bytes in step {step}")
    left = [path.name for path in root.glob("*.partial")]
    if left:
        seen["wrong"].append(f"after {seen['num_kills']} kills: left {left}")


def main(folder, seed, at_most, for_s):
    torch.set_num_threads(1)  # No thread may be there at a fork.
    root, chance = Path(folder), random.Random(int(seed))
    seen = {"num_kills": 0, "wrong": [], "durable": 0}
    end_s = time.monotonic() + float(for_s)
    while seen["num_kills"] < int(at_most) and time.monotonic() < end_s and not seen["wrong"]:
        seen["durable"] = max(seen["durable"], killed(root, chance))
        seen["num_kills"] += 1
        look(root, seen["durable"], seen)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
