"""`python -m benchmarks`: all of them, or those that are named, as Markdown tables."""

from __future__ import annotations

import argparse
import sys
import traceback
from importlib import import_module

from benchmarks.common import print_machine

NAMES = (
    "boundary",
    "pause_latency",
    "status",
    "idle",
    "import_weight",
    "journal",
    "checkpoint",
    "policy",
    "sensing",
    "reaction",
    "load",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small counts: to see that they work")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print_machine()
    num_failed = 0
    for name in arguments.names or NAMES:
        try:
            import_module(f"benchmarks.{name}").run(quick=arguments.quick)
        except Exception:
            # The others still have something to say.
            num_failed += 1
            print(f"\n### {name}: failed\n", flush=True)
            traceback.print_exc()
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
