"""An environment with this package in the booted machine, at a place that stays and is root's.

Covers: the package as it is in the checkout, its programs. Does not cover: pip, which needs a network for
what the package needs; that comes from the environment of the tests.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.harness import ROOT
from tests.systemd.booted import Booted

__all__ = ["PLACE", "add_environment"]

#: Where administrators put such things.
PLACE: Final = "/opt/training-supervisor"

_PROGRAM: Final = """#!{place}/bin/python
import sys
from supervisor.entry import {function}
sys.exit({function}())
"""
_PROGRAMS: Final = {"training-supervisord": "daemon", "supervisorctl": "command"}


def add_environment(machine: Booted, place: str = PLACE) -> None:
    """Make one, also where one was; whoever asks in there imports the checkout's package from a copy."""
    machine.ok(sys.executable, "-m", "venv", "--without-pip", "--clear", place)
    packages = f"{place}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    # Its links are followed: a wheel has files in their place.
    machine.ok(
        "cp", "-rL", "--preserve=mode,timestamps", f"{ROOT}/supervisor", f"{ROOT}/trainer_shim", packages
    )
    others = "\n".join(path for path in sys.path if path.endswith("site-packages"))
    _write(machine, f"{packages}/others.pth", others + "\n")
    for name, function in _PROGRAMS.items():
        _write(machine, f"{place}/bin/{name}", _PROGRAM.format(place=place, function=function))
        machine.ok("chmod", "755", f"{place}/bin/{name}")


def _write(machine: Booted, path: str, text: str) -> None:
    machine.ok("bash", "-c", 'printf %s "$1" > "$2"', "bash", text, path)
