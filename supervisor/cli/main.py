"""The command `supervisorctl`: its streams, the exit codes, what becomes of errors.

Covers: running what was typed, with the parser or, for a plain `status`, without it.
Does not cover: the other commands and their options (parser.py).
"""

from __future__ import annotations

import gc
import os
import sys

from supervisor.cli.commands.status import plain_status
from supervisor.cli.output.failure import EXIT_INTERRUPTED, print_error
from supervisor.errors import SupervisorError
from supervisor.system import streams

__all__ = ["main"]


def main() -> int:
    """Run the command line and return its exit code."""
    streams.fill_in()
    for stream in (sys.stdout, sys.stderr):
        # A reason typed in another language must not end a command in a C locale.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SupervisorError as error:
        return _report(error)
    except ExceptionGroup as group:
        return max(_report(error) for error in group.exceptions)
    except OSError as error:
        return _output_failed(error)
    finally:
        # All is given back by the end of the process; the interpreter would first look for cycles in
        # every loaded module, which takes as long as the request itself.
        gc.freeze()
    return code


def _run() -> int:
    # Typed a hundred times a day, and the parser is a tenth of what it takes.
    show_status = plain_status(sys.argv[1:])
    if show_status is not None:
        show_status()
        return 0
    from supervisor.cli import parser

    name = "trainctl" if os.path.basename(sys.argv[0]) == "trainctl" else "supervisorctl"  # noqa: PTH119
    return parser.run(name)


def _report(error: Exception) -> int:
    if not isinstance(error, SupervisorError):
        raise error
    return print_error(str(error), error.hint, error.exit_code)


def _output_failed(error: OSError) -> int:
    # The reader has seen enough (`| head`), or the disk is full; the flush at exit must not say it again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
