"""What a manifest says beside the state: labels, the command, metrics, what was said of the run.

Covers: the facts of a checkpoint that is written now.
Does not cover: the manifest itself (checkpoint/manifest.py), where the command is from (surroundings.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec.structs import asdict

from trainer_shim.checkpoint import Keep
from trainer_shim.link_report import LinkReport
from trainer_shim.one_time_warnings import OneTimeWarnings

__all__ = ["ManifestFacts"]


class ManifestFacts:
    """Those of one session; `given` are the ones that do not change."""

    def __init__(
        self, given: Mapping[str, Any], keep: Keep, report: LinkReport, warnings: OneTimeWarnings
    ) -> None:
        self._given, self._keep, self._report, self._warnings = given, keep, report, warnings

    def now(self) -> dict[str, Any]:
        """Return them; JSON has no word for NaN and infinity, so they are texts."""
        # What decides about keeping is there, however much else is reported.
        numbers = {**self._report.numbers(), **self._report.number(self._keep.metric)}
        metrics = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        told = {"warnings": [*self._warnings.doubts]} if self._warnings.doubts else {}
        return {**self._given, "keep": asdict(self._keep), "metrics": metrics, **told}
