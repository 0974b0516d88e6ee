"""Which contract test is about which port, and how many of its tests ran on the real one and on the fake.

Covers: the table port by implementation. Does not cover: what a port promises (the tests).
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from supervisor import ports

FOLDER = Path(__file__).parent
KINDS = ("real", "fake")

#: By name of the port, the files that hold for every implementation.
CONTRACTS = {
    "Clock": ("test_every_clock",),
    "Journal": ("test_journal", "test_recorded_readings"),
    "Launcher": ("test_launcher",),
    "ProcessFreezer": ("test_freezer",),
    "Sampler": ("test_sampler",),
    "Shims": ("test_shims",),
}


def protocols() -> dict[str, set[str]]:
    """Return the names of all ports, each with its methods."""
    ours = (
        kind for kind in vars(ports).values() if inspect.isclass(kind) and kind.__module__ == ports.__name__
    )
    return {
        port.__name__: {
            name for name, one in vars(port).items() if inspect.isfunction(one) and name[0] != "_"
        }
        for port in ours
        if getattr(port, "_is_protocol", False)
    }


def cells(node_ids: Iterable[str]) -> Counter[tuple[str, str]]:
    """Count tests by port and kind of implementation; one that is about one kind alone is in no cell."""
    port_of = {file: port for port, files in CONTRACTS.items() for file in files}
    found: Counter[tuple[str, str]] = Counter()
    for node_id in node_ids:
        path, _, rest = node_id.partition("::")
        parameters = rest.partition("[")[2].rstrip("]").split("-")
        for kind in KINDS:
            if Path(path).parent.name == FOLDER.name and Path(path).stem in port_of and kind in parameters:
                found[port_of[Path(path).stem], kind] += 1
    return found


def table(counts: Counter[tuple[str, str]]) -> str:
    """Return the table as text; an empty cell is a dash."""
    head = f"{'port':<16}" + "".join(f"{kind:>6}" for kind in KINDS)
    rows = (
        f"{port:<16}" + "".join(f"{counts[port, kind] or '-':>6}" for kind in KINDS) for port in CONTRACTS
    )
    return "\n".join((head, *rows))
