"""How a command that failed says so: one error, one hint, one exit code."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["EXIT_INTERRUPTED", "print_error"]

#: Ended by SIGINT, as shells say it.
EXIT_INTERRUPTED: Final = 130


def print_error(message: str, hint: str, code: int) -> int:
    """Print an error and, where there is one, what to do next; return the exit code."""
    from supervisor.cli.output.text import clean

    sys.stdout.flush()
    sys.stderr.write(f"error: {clean(message)}\n" + (f"\nhint: {clean(hint)}\n" if hint else ""))
    return code
