"""Records of answers as they travel: commands and daemons of other versions read them.

Covers: names, order and defaults of the fields. Does not cover: what they say (test_explain.py,
test_rule_states.py), the messages around them (tests/property/test_protocol.py).
"""

from __future__ import annotations

import msgspec
import pytest

from supervisor.core.policy.explanation import ConditionState, Explanation, RuleState, WentOn
from supervisor.core.policy.hysteresis import Side
from supervisor.core.readings.sample import Missing

LOST = ConditionState(what="temperature_c", unit="C", reading=Missing("lost"), short="> 90", clear="< 70")
RULE = RuleState(
    rule="hot",
    place="GPU-1",
    about="Too hot.",
    is_on=True,
    side=Side.BETWEEN,
    conditions=(LOST,),
    near_pct=46.0,
    for_s=60.0,
    held_s=1.5,
    hold_s=180.0,
    jobs=("night",),
    num_jobs=130,
    missing="lost",
    missing_for_s=3.0,
    alarm="rule hot has no reading",
)
#: As a daemon of November 2026 said it.
SAID = (
    b'{"rule":"hot","place":"GPU-1","about":"Too hot.","is_on":true,"side":"between","conditions":['
    b'{"what":"temperature_c","unit":"C","reading":{"why":"lost"},"short":"> 90","clear":"< 70"}],'
    b'"near_pct":46.0,"for_s":60.0,"held_s":1.5,"hold_s":180.0,"jobs":["night"],"num_jobs":130,'
    b'"missing":"lost","missing_for_s":3.0,"alarm":"rule hot has no reading"}'
)


def test_a_rule_is_said_and_read_as_ever():
    """
    Field by field, and nothing that is a default.
    """
    assert SAID == msgspec.json.encode(RULE)
    assert RULE == msgspec.json.decode(SAID, type=RuleState)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (RuleState(rule="hot"), b'{"rule":"hot"}'),
        (ConditionState(what="battery_pct"), b'{"what":"battery_pct"}'),
        (WentOn(), b"{}"),
        (
            Explanation(job="night", state="queued", summary="queued"),
            b'{"job":"night","state":"queued","summary":"queued"}',
        ),
    ],
    ids=["rule", "condition", "went-on", "explanation"],
)
def test_what_has_nothing_to_say_is_as_short_as_can_be(record, said):
    """
    A field with a default may be missing in what another version says.
    """
    assert said == msgspec.json.encode(record)
