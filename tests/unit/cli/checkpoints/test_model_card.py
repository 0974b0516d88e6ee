"""What is said of an exported model: versions, and a page that no fact can break."""

from __future__ import annotations

import pytest

from supervisor.cli.checkpoints.model_card import check_version, page
from supervisor.errors import UsageError


@pytest.mark.parametrize(
    "text", ["0.0.0", "1.2.3", "10.20.30", "1.0.0-rc.1", "1.0.0-0a.b-c+build.007", "1.0.0+x"]
)
def test_semantic_versions_are_taken_as_they_are(text):
    """
    With pre-release and build, as semver.org has them.
    """
    assert text == check_version(text)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3-", "v1.2.3", "1.2.3\n", "1.2.3 ", "\u0661.2.3"],
)
def test_anything_else_is_refused(text):
    """
    A program that sorts versions would stumble over it.
    """
    with pytest.raises(UsageError, match="no semantic one"):
        check_version(text)


def test_no_fact_breaks_the_page():
    """
    Whatever a script said stays in its cell, and is no markup.
    """
    evil = "a | b\n# <script>\x1b[31m"
    card = {
        "name": evil,
        "version": None,
        "license": None,
        "data": evil,
        "labels": {evil: {"deep": evil}},
        "preprocessing": ["```", evil],
        "training": {
            "job": evil, "step": 1, "epoch": 0, "saved_at": "", "metrics": {evil: 0.5}, "git_commit": None,
            "command": [],
        },
        "weights": {
            "part": "model", "num_tensors": 1, "num_parameters": 2, "dtypes": ["float32"], "size_bytes": 8,
            "tied": [["a", evil]], "files": ["model.pt"],
        },
        "environment": {"python": "3", "packages": []},
        "source": {"checkpoint": "step-000000001", "digest": "sha256:0"},
    }  # fmt: skip
    text = page(card)
    rows = [line for line in text.splitlines() if line.startswith("|")]

    assert "<script>" not in "".join(line for line in text.splitlines() if not line.startswith("  "))
    assert "\x1b" not in text
    assert {3} == {line.replace("\\|", "").count("|") for line in rows}
    assert ["# a \\| b # &lt;script>?[31m"] == [line for line in text.splitlines() if line.startswith("# ")]
    assert 2 == text.count("\n```json\n") + text.count("\n```\n") - 1
