"""The two programs, and what they say where only the part for training scripts is installed.

Covers: starting `supervisorctl` and `training-supervisord`. Does not cover: what they do (cli/, daemon.py).
A plain installation is what a training environment needs; the packages of the daemon are an extra.
"""

from __future__ import annotations

import sys
from importlib import import_module

__all__ = ["command", "daemon"]

_DISTRIBUTION = "training-supervisor"
_PARSER = "click"
#: What the extra `daemon` brings, by the names of its modules.
_OF_THE_DAEMON = (_PARSER, "jeepney", "psutil", "pynvml", "structlog", "watchdog")


def command() -> int:
    """Run `supervisorctl`; return its exit code."""
    from importlib.util import find_spec

    # A command that needs no parser would run without it, and the next one not.
    if find_spec(_PARSER) is None:
        return _tell(_PARSER, "supervisorctl")
    return _run("supervisor.cli.main", "supervisorctl")


def daemon() -> int:
    """Run `training-supervisord`; return its exit code."""
    from importlib.util import find_spec

    # Some it would miss only when it measures.
    for package in _OF_THE_DAEMON:
        if find_spec(package) is None:
            return _tell(package, "training-supervisord")
    return _run("supervisor.daemon", "training-supervisord")


def _run(module: str, program: str) -> int:
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OF_THE_DAEMON:
            raise
        return _tell(missing, program)
    code: int = main()
    return code


def _tell(missing: str, program: str) -> int:
    sys.stderr.write(
        f"error: cannot run {program}: `{missing}` is not installed here; a plain installation is for "
        f"training scripts\n\nhint: {sys.executable} -m pip install {_what_to_install()}\n"
    )
    return 1


def _what_to_install() -> str:
    """The checkout or the wheel that this came from, with its extra: no index has a package of this name."""
    # They take as long as all that a command does, and only this needs them.
    import json
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    try:
        told = metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
        url = urlsplit(json.loads(told or "{}").get("url", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        url = urlsplit("")
    return f"'{unquote(url.path)}[daemon]'" if url.scheme == "file" else "'.[daemon]'  # in the checkout"
