"""Starts commands that outlive the daemon, finds them again, and learns how they ended. Linux only."""

from supervisor.launcher.heirs import HANDOVER_S
from supervisor.launcher.spawn import KeeperLauncher

__all__ = ["HANDOVER_S", "KeeperLauncher"]
