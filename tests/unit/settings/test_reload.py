"""The environment that jobs from files inherit."""

import os

from supervisor.settings import reload


def test_what_is_not_utf8_or_ours_is_not_inherited(monkeypatch):
    """
    A stray byte in the daemon's environment must not keep its journal from storing a job.
    """
    monkeypatch.setattr(
        os, "environ", {"GOOD": "yes", "BAD": "\udcff", "TRAINING_SUPERVISOR_HOME": "/x", "\udcfe": "name"}
    )

    assert {"GOOD": "yes"} == reload._own_environment()
