"""A process in a job's tree that speaks the shim's part of the wire and says absurd things.

It says Hello, waits for the Welcome, sends everything below, and then waits
until it is ended.
"""

from __future__ import annotations

import os
import signal

import zmq

from supervisor import api
from trainer_shim import protocol as wire

LAST = 2**63 - 1
ESCAPE = "\x1b[2J\x1b]0;owned\x07\n\u202e" + "x" * 4000


def absurd() -> list[wire.Message]:
    nan, inf = float("nan"), float("inf")
    saved = wire.Checkpointed(step=LAST, epoch=LAST, path=ESCAPE, digest=ESCAPE[:200], size_bytes=LAST)
    ends = wire.PositionReport(step=LAST, epoch=LAST, num_steps=0, num_epochs=0)
    return [
        wire.Heartbeat(position=wire.PositionReport(), boundary_age_s=inf, metrics={"nan": nan, "inf": -inf}),
        wire.Heartbeat(
            position=wire.PositionReport(num_steps=LAST), boundary_age_s=1e308, steps_per_s=5e-324
        ),
        wire.Saving(request="never asked", step=LAST),
        saved,
        wire.Yielded(request="never asked", depth="hold", checkpoint=saved),
        wire.CannotYield(request="never asked", why=ESCAPE),
        wire.Resumed(request="never asked", step=0),
        wire.Hello(job=os.environ["TRAINING_SUPERVISOR_JOB"], incarnation=LAST),
        wire.Heartbeat(
            position=ends,
            boundary_age_s=inf,
            steps_per_s=inf,
            metrics={f"{ESCAPE[:60]}{number}": number * 1e300 for number in range(60)},
        ),
    ]


def main() -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(os.environ["TRAINING_SUPERVISOR_SOCKET"])
        job, incarnation = (
            os.environ["TRAINING_SUPERVISOR_JOB"],
            os.environ["TRAINING_SUPERVISOR_INCARNATION"],
        )
        hello = wire.Hello(job=job, incarnation=int(incarnation), depths=("hold", "exit"))
        answer = None
        while not isinstance(answer, wire.Welcome):
            socket.send(wire.encode(hello))
            answer = api.decode(socket.recv())
        for message in absurd():
            socket.send(wire.encode(message))
        signal.pause()


if __name__ == "__main__":
    main()
