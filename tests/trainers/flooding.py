"""A process in a job's tree that speaks the shim's part of the wire, and repeats one word without end.

It says Hello, waits for the Welcome and repeats, each time otherwise, what its first argument names: for as
many seconds as the second one says. Its last word is a checkpoint at step 999_999; then it waits for its end.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path

import zmq

from supervisor import api
from trainer_shim import protocol as wire

LAST = 999_999
#: How long each of its checkpoints takes, in its own words.
TOOK_S = 80.0


def saved(number: int) -> wire.Checkpointed:
    return wire.Checkpointed(
        step=number,
        epoch=0,
        path=str(Path.cwd()),
        digest=f"{number}" * 10,
        size_bytes=40 << 30,
        took_s=TOOK_S,
    )


def hello(number: int, **fields: object) -> wire.Hello:
    job, start = os.environ["TRAINING_SUPERVISOR_JOB"], os.environ["TRAINING_SUPERVISOR_INCARNATION"]
    depths = ("hold", "exit") if number % 2 else ("hold", "offload", "exit")
    return wire.Hello(job=job, incarnation=int(start), depths=depths, **fields)


def word(kind: str, number: int) -> wire.Message:
    depths = ("hold", "exit") if number % 2 else ("hold", "offload", "exit")
    match kind:
        case "checkpointed":
            return saved(number)
        case "answered":
            return wire.Checkpointed(**{**as_fields(saved(number)), "request": f"r{number}"})
        case "yielded":
            return wire.Yielded(request=f"r{number}", depth="hold", checkpoint=saved(number))
        case "cannot-yield":
            return wire.CannotYield(request=f"r{number}", why=f"for reason {number}")
        case "heartbeat":
            return wire.Heartbeat(position=wire.PositionReport(), boundary_age_s=0.0, depths=depths)
        case "hello":
            return hello(number, checkpoint=saved(number))
        case _:
            return wire.Hello(job="nobody", incarnation=number)


def as_fields(message: wire.Checkpointed) -> dict[str, object]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def main() -> None:
    kind, for_s = sys.argv[1], float(sys.argv[2])
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(os.environ["TRAINING_SUPERVISOR_SOCKET"])
        answer = None
        while not isinstance(answer, wire.Welcome):
            socket.send(wire.encode(hello(0)))
            answer = api.decode(socket.recv())
        until = time.monotonic() + for_s
        for number in itertools.count(1):
            if time.monotonic() >= until:
                break
            socket.send(wire.encode(word(kind, number)))
            while socket.poll(0):
                socket.recv()
        socket.send(wire.encode(saved(LAST)))
        signal.pause()


if __name__ == "__main__":
    main()
