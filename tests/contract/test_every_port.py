"""Each port has one contract, and both the real implementation and the fake are held to it.

Covers: that no port, no method and no implementation is left out. Does not cover: what they promise.
"""

import ast
import subprocess
import sys

import pytest

from tests.contract.port_table import CONTRACTS, FOLDER, KINDS, cells, protocols, table


def test_no_cell_of_the_table_is_empty():
    """
    A fake that nothing holds to the contract is kinder than the real one some day.
    """
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(FOLDER)]
    done = subprocess.run(
        words, cwd=FOLDER.parents[1], capture_output=True, text=True, timeout=100, check=False
    )
    counts = cells(done.stdout.splitlines())

    assert set(protocols()) == set(CONTRACTS)
    assert all(counts[port, kind] for port in CONTRACTS for kind in KINDS), table(counts) + done.stderr


@pytest.mark.parametrize("port", CONTRACTS)
def test_every_method_of_a_port_is_asked_after(port):
    """
    What nothing asks after may be anything; `fileno` is asked by whoever waits for the object itself.
    """
    trees = [ast.parse((FOLDER / f"{file}.py").read_text()) for file in CONTRACTS[port]]
    asked = {node.attr for one in trees for node in ast.walk(one) if isinstance(node, ast.Attribute)}

    assert set() == protocols()[port] - asked - {"fileno"}
