"""The rules after installation: sound, and each with its reason."""

from __future__ import annotations

from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.rule_check import check_rules
from supervisor.settings.config import Config


def test_the_default_rules_are_in_force_and_sound():
    """
    After installation, without a file.
    """
    check_rules(Config().rules)

    assert DEFAULT_RULES == Config().settings.rules
    assert all(rule.about for rule in DEFAULT_RULES)
