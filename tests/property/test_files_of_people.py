"""Whatever stands in a file that people write: it is used, or refused in words with a hint."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.core.policy.conditions import Condition
from supervisor.core.policy.rules import PolicyConfig, QueueConfig, Rule
from supervisor.errors import ConfigError
from supervisor.settings.config import Config, DaemonConfig, JobsConfig, ShimConfig, load
from supervisor.settings.config_text import annotated_toml
from supervisor.settings.jobfile import JobFile, read_job_file

WORDS = {
    field
    for kind in (
        Config,
        DaemonConfig,
        JobsConfig,
        ShimConfig,
        PolicyConfig,
        QueueConfig,
        Rule,
        Condition,
        JobFile,
    )
    for field in kind.__struct_fields__
}
SCALARS = st.one_of(
    st.sampled_from(
        ["true", "nan", "-inf", "1e999", "9" * 5000, "0x" + "f" * 5000, "-" + "9" * 30, "07:32:00", '""']
    ),
    st.integers().map(str),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(
        lambda text: '"' + text.replace("\\", "").replace('"', "") + '"'
    ),
)
KEYS = st.sampled_from(sorted(WORDS)) | st.sampled_from(["x", '""', '"a.b"'])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=6,
)
TEXTS = st.dictionaries(KEYS, VALUES, max_size=4).map(
    lambda items: "\n".join(f"{key} = {value}" for key, value in items.items()).encode()
)
MOVED = st.tuples(st.just(annotated_toml().encode()), st.integers(0, 20_000), st.binary(max_size=3)).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]) :]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def is_used_or_refused(use, file: Path) -> None:
    refusal = None
    try:
        msgspec.json.encode(use())  # The journal and the wire can hold it.
    except ConfigError as error:
        refusal = error
    assert refusal is None or (refusal.hint and str(file) in str(refusal))


@given(st.one_of(TEXTS, MOVED, st.binary(max_size=200)))
@example(b"rules = [1]")
@example(b"[[rules]]\nname = []\n")
@example(b"[[rules]]\nname = {a = 1}\nwhen = []\n")
@example(b"[daemon]\nsample_s = " + b"9" * 5000)
@example(b"[daemon]\nsample_s = 0x" + b"f" * 5000)
@example(b"a = " + b"[" * 100_000)
def test_settings_are_used_or_refused(folder, text):
    """
    No other error comes out, whatever the types and bytes.
    """
    file = folder / "config.toml"
    file.write_bytes(text)
    is_used_or_refused(lambda: load(file), file)


@given(st.one_of(TEXTS, st.binary(max_size=200)), VALUES, st.sampled_from(JobFile.__struct_fields__))
@example(b"", "9" * 5000, "priority")
@example(b"", "nan", "memory_gib")
def test_a_job_file_is_used_or_refused(folder, text, value, key):
    """
    Random bytes, and a good file with one value that is anything.
    """
    good = {"command": '["true"]', "cwd": '"/tmp"', key: value}
    file = folder / "job.toml"
    for written in (text, "\n".join(f"{name} = {said}" for name, said in good.items()).encode()):
        file.write_bytes(written)
        is_used_or_refused(lambda: read_job_file(file, {}), file)
