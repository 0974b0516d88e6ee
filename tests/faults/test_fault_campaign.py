"""The fault campaign: in short, and that it notices what is lost.

Covers: some quick faults, each once; a loss in the table. All of them with `make faults`, and marked soak.
Does not cover: the faults (on_*.py).
"""

from __future__ import annotations

import os
import shutil
from random import Random

import pytest

from supervisor import api
from tests.faults.campaign import ALL, Campaign, each_once

QUICK = ("kill -9 of the daemon", "daemon stopped for a while", "20 clients that never read")


def run(names, *, steps=300):
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    campaign = Campaign(Random(seed))
    campaign.run(each_once(campaign.rng, {name: ALL[name] for name in names}), num_trainers=1, steps=steps)
    return campaign


def test_a_short_campaign_loses_nothing():
    """
    The training behind it ends bit for bit as an undisturbed one.
    """
    campaign = run(QUICK)

    assert not campaign.lost, [folder.joinpath("loss.txt").read_text() for folder in campaign.logs]
    assert campaign.num_exact >= 1


def test_a_campaign_tells_what_was_lost():
    """
    A training that somebody stopped stands in the table, with its logs.
    """

    def stop_in_secret(ground, _rng):
        ground.daemon.ask(api.StopRequest, ground.one_running()[0].name)

    campaign = Campaign(Random(1))
    campaign.run(iter([("secret", stop_in_secret)]), num_trainers=1, steps=300)
    (folder,) = campaign.logs
    told, names = (folder / "loss.txt").read_text(), [path.name for path in folder.iterdir()]
    shutil.rmtree(folder)

    assert {"secret": 1} == campaign.lost
    assert "it was to go on as start 1" in told
    assert "job-train-1.log" in names


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_no_fault_loses_anything():
    """
    Each of them once, in an order by chance.
    """
    campaign = run(ALL, steps=1500)

    assert not campaign.lost, campaign.table()
