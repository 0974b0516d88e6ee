"""A process that reads GPUs when told: a library of the loader's is for a whole process.

A line of its input is a JSON object: the time it is, and whether to read through
`Nvml` at once or through `Gpus` aside. Each is answered by one line. $PROC and $SYS
may name made-up folders.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from supervisor.monitors.gpu import Gpus, Nvml


def main() -> None:
    now = [0.0]
    made_up = {name: Path(os.environ[name.upper()]) for name in ("proc", "sys") if name.upper() in os.environ}
    nvml = Nvml(clock=lambda: now[0], **made_up)
    gpus = Gpus(clock=lambda: now[0])
    for line in sys.stdin:
        order = msgspec.json.decode(line)
        now[0] = order["now"]
        if order["how"] == "aside":
            owners = {int(pid): job for pid, job in order["owners"].items()}
            answer = gpus.read(lambda pid, owners=owners: owners.get(pid, ""), at=now[0], interval_s=0.0)
        else:
            answer = nvml.read()
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()
    gpus.close()


if __name__ == "__main__":
    main()
