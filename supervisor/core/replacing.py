"""A record with other values in some of its fields.

Covers: `replace` for records of msgspec, in a form whose field names and types mypy checks.
Does not cover: when a job changes (jobs/apply.py).

msgspec takes any keyword here and finds a misspelt one when it runs, if a test runs it at all. To mypy
these records are dataclasses, and for `dataclasses.replace` it knows the fields of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import replace
else:
    from msgspec.structs import replace

__all__ = ["replace"]
