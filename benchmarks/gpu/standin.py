"""What stands in for a driver on a machine without a device.

Covers: the environment in which NVML and the driver's process checkpoint are those of the tests.
Does not cover: torch: its CPU tensors count as a device's (`device.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["stand_in_env"]

ROOT = Path(__file__).resolve().parents[2]


def stand_in_env(library: Path | None, folder: Path, python_path: str) -> dict[str, str]:
    """Return it; the stand-ins keep what they know below that folder."""
    from tests.nvml import FakeDriver

    states = folder / "cuda-states"
    states.mkdir(parents=True, exist_ok=True)
    env = {
        "CUDA_STAND_IN": str(states),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests/fakes/driver"), python_path)),
    }
    if library is not None:
        nvml = folder / "nvml"
        nvml.mkdir(exist_ok=True)
        if not (nvml / library.name).exists():
            (nvml / library.name).symlink_to(library)
        env |= FakeDriver(nvml).env
    return env
