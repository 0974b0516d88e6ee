"""What is said of an exported model: one set of facts, and a page of them for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.cli.output.text import clean, number, size
from supervisor.errors import UsageError

__all__ = ["check_version", "page"]

# https://semver.org, in the words of its own grammar: no leading zeros, then pre-release and build.
_NUMBER: Final = r"(?:0|[1-9]\d*)"
_PRE: Final = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRE}(?:\.{_PRE})*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_UNSAID: Final = "not stated"
_USES: Final = {
    "model.safetensors": (
        "from safetensors.torch import load_file",
        'model.load_state_dict(load_file("model.safetensors"))',
    ),
    "model.pt": ("import torch", 'model.load_state_dict(torch.load("model.pt", weights_only=True))'),
}


def check_version(text: str) -> str:
    """Return a semantic version; raises UsageError for anything else."""
    if _SEMVER.fullmatch(text) is None:
        raise UsageError(
            f"cannot take `{clean(text)}` for a version: it is no semantic one",
            hint="give three numbers such as 1.2.0, or 1.2.0-rc.1",
        )
    return text


def page(card: Mapping[str, Any]) -> str:
    """Return the facts as Markdown."""
    training, weights, source = card["training"], card["weights"], card["source"]
    lines = [f"# {_cell(card['name'])}" + (f" {card['version']}" if card["version"] else ""), ""]
    lines += _table(
        [
            ("version", card["version"] or _UNSAID),
            ("licence", card["license"] or _UNSAID),
            ("data", card["data"] or _UNSAID),
            ("weights", _weights(weights)),
            ("trained", f"{training['step']} steps, epoch {training['epoch']}, until {training['saved_at']}"),
            ("git commit", training["git_commit"] or _UNSAID),
            ("command", " ".join(training["command"]) or _UNSAID),
            ("source", f"{source['checkpoint']} of job {training['job']}, {source['digest']}"),
        ]
    )
    lines += _section("Labels", card["labels"])
    lines += _section("Metrics", training["metrics"])
    if card["preprocessing"] is not None:
        lines += ["", "## Preprocessing", "", "```json", _pretty(card["preprocessing"]), "```"]
    lines += ["", "## Use", ""]
    for file, use in _USES.items():
        if file in weights["files"]:
            lines += ["```python", *use, "```", ""]
    lines += ["`sha256sum -c SHA256SUMS` tells whether the files are those that were exported."]
    if weights["tied"]:
        lines += [
            "",
            "Tied weights: " + "; ".join(" = ".join(map(_cell, names)) for names in weights["tied"]) + ".",
        ]
    lines += _section("Environment", {k: v for k, v in card["environment"].items() if k != "packages" and v})
    lines += ["", f"All {len(card['environment']['packages'])} packages stand in `environment.txt`."]
    return "\n".join(lines) + "\n"


def _weights(weights: Mapping[str, Any]) -> str:
    kinds = ", ".join(weights["dtypes"])
    return (
        f"`{weights['part']}`: {weights['num_parameters']:,} parameters in {weights['num_tensors']} tensors"
        f" of {kinds}, {size(weights['size_bytes'])}"
    )


def _section(title: str, facts: Mapping[str, Any]) -> list[str]:
    if not facts:
        return []
    return ["", f"## {title}", "", *_table([(name, _text(value)) for name, value in facts.items()])]


def _table(rows: Sequence[tuple[str, str]]) -> Iterable[str]:
    return ["| | |", "|---|---|", *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows)]


def _cell(text: str) -> str:
    """Return a text that cannot end its cell, or be taken for a tag."""
    return clean(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else msgspec.json.encode(value).decode()


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
