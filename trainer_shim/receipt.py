"""Word for a daemon that is away: what a process left by is also written down in its run folder."""

from __future__ import annotations

import os
from pathlib import Path

from trainer_shim import protocol

__all__ = ["leave_receipt"]


def leave_receipt(run_dir: Path | None, farewell: protocol.Yielded) -> str:
    """Write it where the daemon looks, whole or not at all; return why that did not work, or ""."""
    if run_dir is None:
        return ""
    draft = run_dir / f"{protocol.RECEIPT}.partial"
    try:
        # One that was left, or that is a link, is not written into.
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(protocol.encode(farewell))
        draft.rename(run_dir / protocol.RECEIPT)
    except OSError as error:
        # The exit code, which a wrapper may hide, and the message still tell it.
        return f"cannot leave a receipt in `{run_dir}`: {error.strerror}"
    return ""
