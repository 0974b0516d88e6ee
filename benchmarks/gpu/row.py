"""One row in this process: `python -m benchmarks.gpu.row SPEC`, a JSON object that `__main__.py` makes.

Covers: calling the row's module, and noting what came of it.
Does not cover: its limit, and its death: whoever started this sees to them.
"""

from __future__ import annotations

import json
import sys
import traceback
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.report import FAILED, MISSING, OK, Finding, NotAvailable, Notes


def run_one(spec: dict) -> None:
    """Call a row's module; whatever it raises is noted."""
    notes = Notes(Path(spec["notes"]))
    try:
        # Imported here: what a server lacks is a failure of the row, with its words.
        from benchmarks.gpu.device import Device

        name = spec["module"] if "." in spec["module"] else f"benchmarks.gpu.{spec['module']}"
        import_module(name).run(notes, Device(spec["device"]), Path(spec["folder"]), **spec["arguments"])
    except NotAvailable as error:
        notes.end(MISSING, str(error))
    except Finding as error:
        notes.end(FAILED, str(error))
    except Exception as error:
        traceback.print_exc()
        notes.end(FAILED, f"{type(error).__name__}: {error}"[:600])
    else:
        notes.end(OK)


def main() -> None:
    """Run the rows that are given, one as a rule; tests give several, to start Python once."""
    for spec in sys.argv[1:]:
        run_one(json.loads(spec))


if __name__ == "__main__":
    main()
