"""What the command line of `training-supervisord` says. Does not cover: what is done about it (daemon.py)."""

from __future__ import annotations

import argparse

from supervisor import __version__

__all__ = ["arguments_of"]


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    """Return the words as fields; ends the process for --help, --version and what makes no sense."""
    parser = argparse.ArgumentParser(
        prog="training-supervisord", description="Makes PyTorch training runs yield, and go on bit for bit."
    )
    parser.add_argument("--home", help="keep everything below this folder (default: the user's own places)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--system",
        action="store_const",
        const=True,
        dest="system",
        help="serve all users of this machine; root's daemon does, without --home",
    )
    which.add_argument(
        "--user",
        action="store_const",
        const=False,
        dest="system",
        help="serve one's own user; other users' daemons do",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every setting with its default, and end"
    )
    parser.add_argument("--version", action="version", version=f"training-supervisord {__version__}")
    return parser.parse_args(argv)
