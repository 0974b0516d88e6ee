"""Tests of benchmarks stand beside them: no test of the daemon or the shim needs a benchmark.

Covers: the fixtures that they share with tests/. Does not cover: anything of their own.
"""

from __future__ import annotations

from tests.conftest import clean_environment, home
from tests.nvml import nvml_library

__all__ = ["clean_environment", "home", "nvml_library"]
