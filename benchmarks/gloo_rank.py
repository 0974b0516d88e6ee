"""One of two processes that all-reduce one element: `python -m benchmarks.gloo_rank STORE RANK`.

Each line of standard input is a number of calls to make; rank 0 answers with
the nanoseconds that one took.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist


def main() -> None:
    store, rank = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    patience = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=patience)
    flag = torch.zeros(1)
    for line in sys.stdin:
        num_calls = int(line)
        # Both are here before the clock starts.
        dist.all_reduce(flag)
        began = time.perf_counter_ns()
        for _ in range(num_calls):
            dist.all_reduce(flag)
        if rank == 0:
            print((time.perf_counter_ns() - began) / num_calls, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
