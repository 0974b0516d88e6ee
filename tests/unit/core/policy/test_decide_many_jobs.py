"""Hundreds of jobs in the queue: the work of one decision grows as they do, not as their square.

Does not cover: how long it takes. Steps of the interpreter are counted, so the machine's load plays no part.
"""

from __future__ import annotations

import sys

import pytest

from supervisor.core.policy.decide import decide, look_around
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.explain import explain_all
from supervisor.core.policy.rules import QueueConfig
from tests.fakes.steered_machine import GIB, Machine, gpu


def steps(call):
    """Return how many functions it calls."""
    count = 0

    def note(_frame, event, _arg):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


def crowd(num, num_users=1, **spec):
    machine = Machine(*DEFAULT_RULES, queue=QueueConfig(max_running=4))
    machine.readings["gpus"] = tuple(gpu(f"G{number}") for number in range(4))
    for number in range(num):
        user = f"u{number % num_users}/" if num_users > 1 else ""
        machine.submit(f"{user}j{number}", **spec)
    return machine.run(60)


@pytest.mark.parametrize(
    "spec",
    [{}, {"memory_bytes": int(GIB)}, {"num_gpus": 1}, {"num_users": 20}],
    ids=["any", "memory", "gpu", "users"],
)
def test_twice_as_many_jobs_are_twice_the_work(spec):
    """
    Of deciding, and of `why` about all of them.
    """
    counts = []
    for num in (60, 120):
        machine = crowd(num, **spec)
        jobs, sample = tuple(machine.jobs.values()), machine.sample()
        settings, memory, now = machine.settings, machine.memory, machine.now + 1
        decided = steps(lambda: decide(jobs, sample, settings, memory, now))  # noqa: B023  # called at once
        scene = look_around(jobs, sample, settings, memory, now)
        told = steps(lambda: list(explain_all(jobs, scene)))  # noqa: B023
        counts.append((decided, told))
    (few, few_told), (many, many_told) = counts

    assert many < 2.3 * few
    assert many_told < 2.3 * few_told
