"""All rows of the table, in the order in which they run.

Covers: name, module, arguments, time limit and environment of each.
Does not cover: what they do; each names a module of this package, whose `run()` is called.

Standard library only: the process that starts the rows imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """One row; it runs in a process of its own."""

    name: str
    #: Module of this package, or another one by its whole name.
    module: str
    #: On a real device: several times what it should take there, starting Python and CUDA included.
    limit_s: float
    arguments: Mapping[str, object] = field(default_factory=dict)
    #: Set before torch is imported.
    env: Mapping[str, str] = field(default_factory=dict)


def _exact(words: str, kind: str, limit_s: float = 60, **env: str) -> Row:
    return Row(f"exact: {words}", "exactness", limit_s, {"kind": kind}, env)


#: The cheap and the important ones come first: what does not fit into the time is left out at the end.
ROWS = (
    Row("NVML, call by call", "calls", 30),
    _exact("AdamW, dropout, every generator", "plain"),
    _exact("GradScaler, autocast", "scaler"),
    _exact("CUDA graph", "graph"),
    _exact("fused optimizer", "fused"),
    _exact("channels_last, fused optimizer", "channels_last"),
    # Set before CUDA starts, as cuBLAS asks for.
    _exact("deterministic algorithms", "deterministic", CUBLAS_WORKSPACE_CONFIG=":4096:8"),
    Row("tests marked gpu", "tests_row", 100),
    Row("offload 1 GiB", "moving", 40, {"gib": 1}),
    Row("offload 8 GiB", "moving", 60, {"gib": 8}),
    Row("CUDA context freed by the driver", "context", 90),
    Row("pause: hold", "pauses", 50, {"depth": "hold"}),
    Row("pause: offload", "pauses", 50, {"depth": "offload"}),
    Row("pause: offload and context", "pauses", 80, {"depth": "context"}),
    Row("pause: exit", "pauses", 50, {"depth": "exit"}),
    Row("heartbeats and graph capture", "capture", 60),
    Row("checkpoint beside torch.save", "saving", 90),
    _exact("torch.compile, inductor", "compile", 150),
    Row("offload 30 GiB", "moving", 100, {"gib": 30}),
)
