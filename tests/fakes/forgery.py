"""A checkpoint changed by somebody who makes the digests agree again.

Covers: replacing a file, or the manifest's fields, under right digests.
Does not cover: what is forged; that is the tests' own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trainer_shim.checkpoint import digest

__all__ = ["digest_like", "forge", "forge_body", "forge_manifest"]

MANIFEST = "manifest.json"
_BODY_AT, _BODY_END = 98, -2


def digest_like(data: bytes, like: str) -> str:
    """The digest of `data`, of the kind of another one."""
    running = digest.start_like(like)
    running.update(data)
    return digest.finish(running)


def forge(folder: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file and make the manifest agree."""
    data = change((folder / file).read_bytes())
    (folder / file).write_bytes(data)

    def agree(fields: dict[str, Any]) -> None:
        entry = fields["files"][file]
        entry["size_bytes"], entry["digest"] = len(data), digest_like(data, entry["digest"])

    forge_manifest(folder, agree)


def forge_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest's fields in place."""

    def changed(body: bytes) -> bytes:
        fields = msgspec.json.decode(body)
        change(fields)
        return msgspec.json.encode(fields)

    forge_body(folder, changed)


def forge_body(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the manifest's text under a right digest of its own."""
    body = change((folder / MANIFEST).read_bytes()[_BODY_AT:_BODY_END])
    own = digest.of_bytes(body).encode()
    (folder / MANIFEST).write_bytes(b'{"digest": "' + own + b'", "manifest": ' + body + b"}\n")
