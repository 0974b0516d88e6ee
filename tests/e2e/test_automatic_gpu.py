"""Jobs make room for whoever comes to their GPU, the more the longer it lasts; others wait for theirs.

Covers: the whole way from what the driver says to a training loop that gave back its
memory, through the real daemon and the real binding; the driver is one that the test
speaks for, and device memory is that of CPU tensors.
Does not cover: a real GPU (tests/gpu), what the binding makes of a driver
(tests/integration/test_gpu.py).
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager

import pytest

from tests.harness import RunningDaemon, until
from tests.nvml import GIB, Card, Holder
from tests.rulings import Patient, config, rule, show, why
from tests.trainers import patient

CPU_FOR_GPU = {"TRAINING_SUPERVISOR_OFFLOAD": "cpu"}
GUEST = rule("guest", 'metric = "gpu_foreign_processes", above = 0.9, clear_below = 0.1', "auto")
HOT = rule(
    "hot", 'metric = "gpu_temperature_c", above = 80, clear_below = 70', "hold", "escalate_after_s = 0.5"
)


@pytest.fixture
def daemon(nvml):
    """One with this driver and two GPUs."""
    nvml.show(Card("GPU-a"), Card("GPU-b"))
    with RunningDaemon(config(GUEST, HOT), env=nvml.env) as running:
        yield running


@pytest.fixture(scope="module")
def expected():
    """The bits of a run that nobody disturbed."""
    return patient.train()


@contextmanager
def guest():
    """Somebody else's process."""
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def by_rule(name, depth):
    return lambda row: (row.state, row.asked_by, row.depth) == ("paused", f"rule {name}", depth)


def test_who_comes_to_one_gpu_has_it_and_the_job_on_the_other_trains_on(daemon, nvml, expected):
    """
    The job there gives back its memory and keeps its process; a driver that hangs meanwhile changes nothing
    and is shown with its reason; when the guest has gone the same process trains on, to the same bits.
    """
    one = Patient(daemon, "one", env=CPU_FOR_GPU, num_gpus=1)
    daemon.train("two", CHAIN_STEP_S=0.05, treated={"num_gpus": 1})
    daemon.train("three", wait=False, treated={"num_gpus": 1})
    given = [daemon.client.show(name).gpus for name in ("one", "two")]
    pid, other = daemon.row("one").pid, daemon.row("two").pid
    _, queued = why(daemon, "three")
    status = daemon.row("three").stage
    many = daemon.ctl("run", "--gpus", "5", "--name", "five", "--", "true")
    ours, beside = Holder(pid, used=2 * GIB), Card("GPU-b", processes=[Holder(other)])
    with guest() as stranger:
        nvml.show(Card("GPU-a", processes=[ours, Holder(stranger)]), beside)
        away = daemon.until("one", by_rule("guest", "offload"))
        told, said = why(daemon, "one")
        step = daemon.row("two").step
        nvml.show(Card("GPU-a", processes=[ours, Holder(stranger)], hang_s=600), beside)
        hung = blind_for_a_while(daemon)
        blind, unseen = why(daemon, "one")
        same = daemon.row("one"), daemon.until("two", lambda row: row.step > step)
    nvml.show(Card("GPU-a", processes=[ours]), beside)
    back = daemon.until("one", "running")
    bits = one.finish()
    third = daemon.until("three", "running")

    assert [("GPU-a",), ("GPU-b",)] == given
    assert "needs 1 GPU, 0 of 2 are free: GPU-a has one; GPU-b has two" in queued
    assert "waiting: needs 1 GPU, 0 of 2 are free: GPU-a has one; GPU-b has two" == status
    assert (2, "") == (many.code, many.out)
    assert "it needs 5 GPUs, this machine has 2" in many.err
    assert "five" not in daemon.names()
    seen = told["verdict"]["evidence"][0]
    read = ("gpu_foreign_processes", "GPU-a", 1.0, "> 0.9")
    assert read == (seen["what"], seen["place"], seen["reading"], seen["threshold"])
    assert "gpu_foreign_processes < 0.1" in told["next"]
    assert "by rule guest" in said
    assert away.bytes_freed > 0
    assert "the NVIDIA driver has not answered for" in hung
    assert "the NVIDIA driver has not answered for" in unseen
    assert told["verdict"] == blind["verdict"]
    assert [("paused", pid), ("running", other)] == [(row.state, row.pid) for row in same]
    assert (pid, [], expected) == (back.pid, pauses(daemon, "two"), bits)
    assert (("GPU-a",), "running") == (daemon.client.show("three").gpus, third.state)


def test_a_gpu_that_is_lost_brings_nobody_back(daemon, nvml):
    """
    Nobody knows whether the guest is still there: the job stays where it is, and why says what is missing.
    """
    daemon.train("one", treated={"num_gpus": 1})
    daemon.train("two", treated={"num_gpus": 1})
    with guest() as stranger:
        nvml.show(Card("GPU-a", processes=[Holder(stranger)]), Card("GPU-b"))
        daemon.until("one", by_rule("guest", "exit"))
        nvml.show(Card("GPU-a", lost=True), Card("GPU-b"))
        blind_for_a_while(daemon)
    told, said = why(daemon, "one")
    kept = daemon.row("one"), daemon.row("two")

    assert [("paused", "rule guest"), ("running", "")] == [(row.state, row.asked_by) for row in kept]
    (ruled,) = (one for one in told["rules"] if one["rule"] == "guest")
    assert ("GPU-a", True) == (ruled["place"], ruled["is_on"])
    assert "lost" in ruled["missing"].lower()
    assert ruled["missing"] in said


def test_a_shortage_that_lasts_takes_more_and_more_and_no_step_in_between(daemon, nvml, expected):
    """
    From holding to giving back GPU memory to the end of the process, in place; then back from the checkpoint.
    """
    job = Patient(daemon, "one", env=CPU_FOR_GPU, num_gpus=1)
    nvml.show(Card("GPU-a", celsius=95), Card("GPU-b"))
    held = daemon.until("one", by_rule("hot", "hold"))
    gone = daemon.until("one", lambda row: by_rule("hot", "exit")(row) and row.pid is None)
    told, _ = why(daemon, "one")
    nvml.show(Card("GPU-a", celsius=40), Card("GPU-b"))
    back = daemon.until("one", "running")
    bits = job.finish()

    events = daemon.events("one")
    asked = [number for number, event in enumerate(events) if event.kind == "pause-asked"]
    between = events[asked[0] : asked[-1] + 1]
    assert ["hold", "offload", "exit"] == [events[number].detail.split()[0] for number in asked]
    assert {"pausing", "paused"} == {event.state for event in between}
    assert [f"step {held.step}"] * 3 == [event.detail for event in events if event.kind == "yielded"]
    assert (held.step, held.step) == (gone.step, gone.checkpoint_step)
    assert ("deepen", "exit") == (told["verdict"]["kind"], told["verdict"]["depth"])
    assert (held.incarnation + 1, expected) == (back.incarnation, bits)


def blind_for_a_while(daemon):
    """Return what is missing, once it has been for much longer than the rule takes to be off."""
    until(lambda: show(daemon, "guest", "GPU-a").missing_for_s > 1.5, lambda: show(daemon, "guest", "GPU-a"))
    return show(daemon, "guest", "GPU-a").missing


def pauses(daemon, job):
    return [event for event in daemon.events(job) if event.kind == "pause-asked"]
