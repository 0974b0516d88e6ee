"""What a checkpoint says it consists of.

Covers: the manifest's fields, its text, its own digest, its limits.
Does not cover: whether the files keep its word (reader.py).

Pure. The text is an envelope around the manifest proper: the digest stands
first and covers the exact bytes of the object that follows it, so that a
manifest cannot change unnoticed either. The envelope is the same in every
format version; only what is inside may change.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from trainer_shim.checkpoint import digest, jsontext
from trainer_shim.errors import CannotRestore, CannotStore, Damaged

__all__ = ["FORMAT", "MAX_BYTES", "MAX_TEXT_BYTES", "File", "Manifest", "parse", "render"]

FORMAT = 1
#: Far above any real one; a reader takes no more than this into memory unverified.
MAX_BYTES = 4 << 20
#: Of any file that holds no tensors. A million tensors take half of it; as Python objects it is some GiB.
MAX_TEXT_BYTES = 256 << 20

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**18 - 1)]
# One path component that no shell, archive or file system reads as anything
# else: no separator, no leading dot, so neither `..` nor an absolute path.
_FileName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the checkpoint."""

    size_bytes: _Count
    digest: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a checkpoint says about itself; see docs/CHECKPOINTS.md for each field."""

    format: Annotated[int, msgspec.Meta(ge=FORMAT, le=FORMAT)] = FORMAT
    job: str
    incarnation: int | str
    step: _Count
    epoch: _Count
    #: UTC, ISO 8601.
    saved_at: str
    world_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    files: Annotated[dict[_FileName, File], msgspec.Meta(max_length=100_000)]
    versions: dict[str, str | None]
    git_commit: str | None
    command: list[str]
    labels: dict[str, Any]
    #: What the caller said besides.
    facts: dict[str, Any]


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digest: str
    manifest: msgspec.Raw


class _AnyVersion(msgspec.Struct, frozen=True):
    """What every format version has, and nothing of what may differ."""

    format: Annotated[int, msgspec.Meta(ge=0)]


def render(manifest: Manifest) -> tuple[bytes, str]:
    """The text of `manifest.json`, and the digest that names this checkpoint."""
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    own = digest.of_bytes(body)
    text = _wrap(own, body)
    if len(text) > MAX_BYTES:
        raise CannotStore(
            "facts", f"{len(text)} bytes in a manifest of at most {MAX_BYTES}", hint="say less in labels"
        )
    return text, own


def parse(text: bytes) -> tuple[Manifest, str]:
    """The manifest and its digest; raises Damaged, or CannotRestore for a format from the future."""
    try:
        envelope = msgspec.json.decode(text, type=_Envelope)
        body = bytes(envelope.manifest)
        written_with = msgspec.json.decode(body, type=_AnyVersion).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"cannot use the manifest: it is malformed ({error})") from None
    if not digest.is_known(envelope.digest) and written_with > FORMAT:
        raise _from_the_future(written_with)
    # Comparing the whole text also covers the bytes around the body.
    if text != _wrap(digest.of_bytes(body), body):
        raise Damaged("cannot use the manifest: it does not match its own digest")
    if written_with > FORMAT:
        raise _from_the_future(written_with)
    try:
        if jsontext.num_names(body) != jsontext.num_members(msgspec.json.decode(body)):
            raise Damaged("cannot use the manifest: a name stands twice in one object")
        return msgspec.json.decode(body, type=Manifest), envelope.digest
    # What the first pass skips unread may be no text at all.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"cannot use the manifest: {error}") from None


def _wrap(own: str, body: bytes) -> bytes:
    """The fixed layout: a reader whose JSON parser keeps no raw text can cut the body out by position."""
    return b'{"digest": "%s", "manifest": %s}\n' % (own.encode(), body)


def _from_the_future(found: int) -> CannotRestore:
    return CannotRestore(
        f"cannot restore a checkpoint of format {found}: this version reads up to format {FORMAT}",
        hint="upgrade training-supervisor in this environment, or move the checkpoint out of its folder",
    )
