"""The rules after installation: sound, and each with its reason."""

from __future__ import annotations

import pytest

from supervisor.core.jobs.states import Depth
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.rule_check import check_rules, unreachable
from supervisor.core.policy.rules import PolicyConfig
from supervisor.core.policy.shortage import depth_for, gives_back, resource
from supervisor.settings.config import Config


def test_the_default_rules_are_in_force_and_sound():
    """
    After installation, without a file.
    """
    check_rules(Config().rules)

    assert DEFAULT_RULES == Config().settings.rules
    assert all(rule.about for rule in DEFAULT_RULES)


BY_NAME = {rule.name: rule for rule in DEFAULT_RULES}


def test_each_of_them_can_be_met_and_can_be_over():
    """
    None waits for what never is.
    """
    assert [] == [str(error) for error in unreachable(DEFAULT_RULES)]


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_its_depth_gives_back_what_it_is_short_of(rule):
    """
    A rule about memory whose jobs only hold would pause them in vain.
    """
    depth = depth_for(rule, tuple(Depth))

    assert depth is not None
    assert gives_back(resource(rule), depth)
    assert rule.depth in ("auto", depth)


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_a_job_comes_back_later_than_it_yields(rule):
    """
    Else a load that comes and goes would move it to and fro; and it is asked for more only after that.
    """
    assert rule.enabled
    assert rule.resume_after_s > rule.pause_after_s > 0
    assert rule.escalate_after_s is None or rule.escalate_after_s > rule.resume_after_s


def test_what_is_dearest_to_lose_comes_first():
    """
    Memory before GPUs, GPUs before the disk, and the CPU, for which a hold is enough, last.
    """
    assert ["host-memory", "host-memory-pressure"] == [*BY_NAME][:2]
    assert ["disk-full", "cpu-foreign"] == [*BY_NAME][-2:]
    assert all(name.startswith("gpu-") for name in [*BY_NAME][2:-2])


@pytest.mark.parametrize(
    ("name", "says", "value"),
    [
        ("host-memory", "Twice as much", lambda rule: rule.when[0].clear_above / rule.when[0].below == 2),
        ("gpu-foreign-memory", "less than 1 GiB", lambda rule: rule.when[0].above == 1),
        ("gpu-foreign-memory", "after ten minutes", lambda rule: rule.escalate_after_s == 600),
        ("gpu-foreign-process", "Ten seconds", lambda rule: rule.pause_after_s == 10),
        ("gpu-hot", "83 to 95 C", lambda rule: 83 < rule.when[0].above < 95),
        ("gpu-hot", "Half a minute", lambda rule: rule.pause_after_s == 30),
        ("cpu-foreign", "more than half", lambda rule: rule.when[0].above == 50),
        ("cpu-foreign", "45 s", lambda rule: rule.pause_after_s == 45),
        ("cpu-foreign", "less than 40 % for a minute", lambda rule: rule.when[0].clear_below == 40),
        ("cpu-foreign", "for a minute", lambda rule: rule.resume_after_s == 60),
        ("cpu-foreign", "stays through five of load", lambda rule: rule.pause_again_after_s == 300),
        ("cpu-foreign", "last ten minutes", lambda _: PolicyConfig().flap_window_s == 600),
    ],
)
def test_the_numbers_in_its_words_are_the_numbers_that_hold(name, says, value):
    """
    `policy show` prints both.
    """
    assert says in BY_NAME[name].about
    assert value(BY_NAME[name])
