"""Checkpoints that somebody forged are refused, in words, and cost little.

Covers: names, links, pipes, devices, holes, counts, depths, types, shapes, overlaps, texts and numbers, each
with right digests, so that nothing but sense can refuse them; and mutations by chance.
Does not cover: wrong numbers under right digests, which nobody can tell, and keys made to collide in a dict,
which take a reader's time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.forgery import forge, forge_body
from tests.trainers.hostile_checkpoints import ENVIRONMENT, MANIFEST, STATE, STILL, TENSORS, make
from trainer_shim.checkpoint.reader import load
from trainer_shim.errors import CannotRestore

#: A wrong type is not damage: another version of torch may have it.
NOT_DAMAGE = {
    "a function for a type",
    "a module for a type",
    "a private name for a type",
    "tensors larger than the machine",
}


def test_a_forged_checkpoint_is_refused_with_the_reason_in_little_time_and_memory(memory):
    """
    Nothing is executed, followed or written; no pipe is waited for, no size believed.
    """
    command = [sys.executable, "-m", "tests.trainers.hostile_checkpoints", str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)

    kinds = {name: "CannotRestore" if name in NOT_DAMAGE else "Damaged" for name in found}
    assert kinds == {name: seen["error"] for name, seen in found.items()}
    assert all("cannot" in seen["said"] and "step-000000003" in seen["said"] for seen in found.values())
    assert [] == [name for name, seen in found.items() if seen["changed"]]
    # One allowance for what torch takes, and some objects for every byte of text.
    assert [] == [name for name, seen in found.items() if seen["took_mb"] > 100 + 40 * seen["disk_mb"]]
    assert len(found) >= 70


PIECES = st.sampled_from(
    [b"", b"0", b"-1", b"1e9", b"[", b"]", b"{}", b"null", b'"', b"\\", b"\xff", b"\0", b'"$":"set",']
) | st.binary(max_size=6)  # fmt: skip
#: Which file, where in it, how much goes, what comes.
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from([MANIFEST, STATE, TENSORS, STILL, ENVIRONMENT]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 6),
        PIECES,
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def good():
    with tempfile.TemporaryDirectory() as folder:
        yield make(Path(folder) / "good")


def mutated(good, folder, mutations):
    """A copy of a good checkpoint with some bytes changed and the digests made to agree."""
    shutil.copytree(good, folder)
    for file, at, gone, come in mutations:

        def change(data, at=at, gone=gone, come=come):
            begin = int(at * len(data))
            return data[:begin] + come + data[begin + gone :]

        if file == MANIFEST:
            forge_body(folder, change)
        else:
            try:
                # Where the structure is, not in the tensors themselves.
                forge(folder, file, lambda data, change=change: change(data[:600]) + data[600:])
            except (ValueError, KeyError, TypeError, AttributeError):
                return  # The manifest is none any more, and stays as it is.


def read(good, mutations):
    with tempfile.TemporaryDirectory() as folder:
        mutated(good, Path(folder) / good.name, mutations)
        try:
            return load(Path(folder) / good.name)
        except CannotRestore as error:
            return None if "cannot" in str(error) else error


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=MUTATIONS)
def test_a_mutated_checkpoint_is_a_state_or_a_refusal_and_nothing_else(good, mutations):
    """
    Whatever bytes are changed under right digests, a script sees a state or CannotRestore.
    """
    found = read(good, mutations)

    assert found is None or isinstance(found.state, dict)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=MUTATIONS)
def test_many_mutated_checkpoints_are_states_or_refusals(good, mutations):
    """
    The same, for longer.
    """
    found = read(good, mutations)

    assert found is None or isinstance(found.state, dict)
