"""Jobs make room for real load by themselves and come back by themselves, and always say why.

Covers: the whole way from what the kernel says to a training loop that holds, through
the real daemon, for CPU and memory; who goes first, who is left alone, persons beside
rules, a daemon that is killed meanwhile.
Does not cover: GPUs (test_automatic_gpu.py), how soon (benchmarks/reaction.py), what a
rule decides in every case (tests/unit/core/policy/test_decide.py).

Load and jobs run in control groups of their own where these can be made, so that it
does not matter what else this machine does. Thresholds are set relative to what is
read before the load begins.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.harness import RunningDaemon, until
from tests.load import GIB, busy, holding, small_machine
from tests.rulings import Patient, condition, config, rule, show, why
from tests.trainers import patient

#: What the load is: so much of it is taken.
HOG_BYTES = 3 * GIB // 4

NEVER_CPU = rule("busy", 'metric = "cpu_foreign_pct", above = 201, clear_below = 200', "hold")
NEVER_MEMORY = rule("short", 'metric = "memory_available_gib", below = -2, clear_above = -1', "exit")


@pytest.fixture(scope="module")
def inside():
    """A place for the load."""
    with small_machine() as words:
        yield words


@pytest.fixture
def daemon(inside):
    """One whose rules are never on, until a test says so."""
    with RunningDaemon(config(NEVER_CPU, NEVER_MEMORY), inside=inside) as running:
        yield running


@pytest.fixture(scope="module")
def expected():
    """The bits of a run that nobody disturbed."""
    return patient.train()


def watch_cpu(daemon):
    """Put the thresholds between what others use now and all of it; returns the one that makes it short."""
    before = condition(daemon, "busy")
    above = round((before + 100) / 2)
    levels = f'metric = "cpu_foreign_pct", above = {above}, clear_below = {above - 15}'
    reconfigure(daemon, rule("busy", levels, "hold"))
    return above


def watch_memory(daemon):
    """Put the thresholds below what is available now, above what the load leaves; returns the lower one."""
    below = condition(daemon, "short") - HOG_BYTES / GIB / 2
    levels = f'metric = "memory_available_gib", below = {below:.3f}, clear_above = {below + 0.1:.3f}'
    reconfigure(daemon, rule("short", levels, "exit"))
    return below


def reconfigure(daemon, *rules):
    daemon.configure(config(*rules))
    said = daemon.ctl("reload")

    assert 0 == said.code, said.err


def by_rule(name):
    return lambda row: row.state == "paused" and row.asked_by == f"rule {name}"


def asked(daemon, kind, by):
    """The jobs in the order in which somebody asked that of them."""
    return [event.job for event in daemon.events() if event.kind == kind and f"by {by}" in event.detail]


def test_others_need_the_cpu_and_training_goes_on_when_they_are_done(daemon, inside, expected):
    """
    The job of lower priority holds first and comes back last, with the bits of a run that nobody disturbed.
    Every answer names the rule, the reading, the threshold and what has to happen.
    """
    low = Patient(daemon, "low")
    daemon.train("high", CHAIN_STEP_S=0.05)
    daemon.ctl("set", "high", "--priority", "5")
    above = watch_cpu(daemon)
    with busy(inside):
        held = daemon.until("low", by_rule("busy"))
        told, said = why(daemon, "low")
        short = json.loads(daemon.ctl("policy", "show", "--json").out)
        daemon.until("high", by_rule("busy"))
        still = daemon.row("low")
    daemon.until("low", "running")
    went, came = asked(daemon, "pause-asked", "rule"), asked(daemon, "resume-asked", "rule")
    after, _ = why(daemon, "low")

    assert (["low", "high"], ["high", "low"]) == (went, came)
    assert ("hold", held.step, held.pid) == (still.depth, still.step, still.pid)
    assert ("paused", "rule", "busy") == (told["state"], told["by_kind"], told["by"])
    seen = told["verdict"]["evidence"][0]
    assert ("cpu_foreign_pct", f"> {above}") == (seen["what"], seen["threshold"])
    assert seen["reading"] > above
    assert seen["for_s"] >= 0.5
    assert f"cpu_foreign_pct < {above - 15} for " in told["next"]
    spoken = re.search(rf"It saw: cpu_foreign_pct ([0-9.]+) % > {above} % for ", said)
    assert spoken is not None, said
    assert float(spoken[1]) == pytest.approx(seen["reading"], abs=0.5)
    assert "by rule busy" in said
    assert "To go on: cpu_foreign_pct < " in said
    rules = [(one["rule"], one["is_on"], sorted(one["jobs"])) for one in short]
    assert [("busy", True, ["high", "low"])] == rules
    assert "resume" == after["verdict"]["kind"]
    verdicts = [event.detail for event in daemon.events("low") if event.kind == "pause-asked"]
    assert [f"hold by rule busy: {told['reason']}"] == verdicts
    assert expected == low.finish()


def test_what_persons_say_comes_before_rules(daemon, inside):
    """
    Who was paused by a person stays so; who was resumed by one during a shortage trains, until the rule has
    been off once; who is protected is left alone.
    """
    for name in ("night", "mine", "kept"):
        daemon.train(name, CHAIN_STEP_S=0.05)
    daemon.ctl("set", "kept", "--protect")
    daemon.pause("mine", reason="lunch")
    daemon.until("mine", "paused")
    watch_cpu(daemon)
    with busy(inside):
        daemon.until("night", by_rule("busy"))
        daemon.resume("night")
        daemon.until("night", "running")
        since_s = show(daemon, "busy").for_s
        # Four times the settling time: it would have been asked again by now.
        until(lambda: show(daemon, "busy").for_s > since_s + 2.0, "the rule to be on for longer")
        states = {name: daemon.row(name).state for name in ("night", "mine", "kept")}
        told, said = why(daemon, "night")
        spared, _ = why(daemon, "kept")
        short = show(daemon, "busy")
    until(lambda: not show(daemon, "busy").is_on, "the rule to be off")
    _, of_a_person = why(daemon, "mine")
    with busy(inside):
        daemon.until("night", by_rule("busy"))
    daemon.until("night", "running")

    assert {"night": "running", "mine": "paused", "kept": "running"} == states
    assert short.is_on
    assert "a person resumed it while the rule was on" in told["next"]
    assert "a person resumed it while the rule was on" in said
    assert "it is protected" in spared["next"]
    assert "a person resumes it: `supervisorctl resume mine`" in of_a_person
    assert "lunch" in of_a_person
    assert ("paused", []) == (daemon.row("mine").state, asked(daemon, "resume-asked", "the queue"))
    assert {"night"} == {*asked(daemon, "pause-asked", "rule"), *asked(daemon, "resume-asked", "rule")}


def test_others_need_the_memory_and_the_daemon_is_killed_meanwhile(daemon, inside, expected):
    """
    The process ends and its memory is free; a new daemon knows what the old one waited for and starts
    the job again when there is room; the bits are those of a run that nobody disturbed.
    """
    job = Patient(daemon, "big")
    first = daemon.row("big")
    below = watch_memory(daemon)
    with holding(inside, HOG_BYTES):
        gone = daemon.until("big", lambda row: by_rule("short")(row) and row.pid is None)
        told, said = why(daemon, "big")
        daemon.restart()
        until(lambda: show(daemon, "short").is_on, "the new daemon to have looked")
        again, _ = why(daemon, "big")
        still = daemon.row("big")
    back = daemon.until("big", "running")

    assert ("exit", gone.checkpoint_step) == (gone.depth, gone.step)
    seen = told["verdict"]["evidence"][0]
    assert "memory_available_gib" == seen["what"]
    assert f"< {below:g}"[:5] == seen["threshold"][:5]
    assert seen["reading"] < below
    assert told["verdict"] == again["verdict"]
    for answer in (told, again):
        assert f"memory_available_gib > {below + 0.1:g}"[:25] in answer["next"]
    assert "is paused (exit)" in said
    assert ("paused", "rule short", None) == (still.state, still.asked_by, still.pid)
    assert (first.incarnation + 1, True) == (back.incarnation, back.pid != first.pid)
    assert expected == job.finish()
