"""Which way this daemon starts jobs: as its own children, or as units of systemd.

Covers: the choice, once, when the daemon starts. Does not cover: either way (launcher/).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from supervisor.errors import ConfigError
from supervisor.launcher.keepers import Keepers
from supervisor.paths import Paths
from supervisor.settings.config import Config, load
from supervisor.system.cgroups import limits_of_units

__all__ = ["keepers_of"]

#: There where systemd is PID 1 (sd_booted(3)).
_BOOTED = Path("/run/systemd/system")


def keepers_of(paths: Paths, *, is_service: bool) -> Keepers | None:
    """Return what starts keepers as units; None: they are children of the daemon."""
    try:
        choice = load(paths.config_file).daemon.launcher
    except (ConfigError, OSError):
        # It is told when the files are read; until then the defaults are in force.
        choice = Config().daemon.launcher
    if choice == "keeper" or (choice == "auto" and not (is_service and _BOOTED.is_dir())):
        return None
    # Only where it is used: D-Bus is some memory that a daemon without systemd never needs.
    from supervisor.launcher.systemd_bus import Bus
    from supervisor.launcher.transient import UnitKeepers

    uid = os.geteuid()
    return UnitKeepers(sys.executable, Bus(is_system=uid == 0), limits=limits_of_units(uid))
