"""What a manifest says beside the state."""

import math

from tests.fakes.clock import FakeClock
from trainer_shim.checkpoint import Keep
from trainer_shim.link_report import LinkReport
from trainer_shim.manifest_facts import ManifestFacts
from trainer_shim.one_time_warnings import OneTimeWarnings


def test_metrics_without_a_number_in_json_are_texts_and_the_deciding_one_is_there():
    """
    A loss that became NaN is what somebody looks for later; of a hundred norms the 101st is the loss.
    """
    report = LinkReport()
    report.metrics = {"loss": math.nan, **{f"norm{number}": 0.5 for number in range(100)}, "best": 0.25}
    facts = ManifestFacts({"labels": {}}, Keep(best=1, metric="best"), report, OneTimeWarnings())
    found = facts.now()

    assert ("nan", 0.25, 65) == (found["metrics"]["loss"], found["metrics"]["best"], len(found["metrics"]))
    assert {} == found["labels"]
    assert "best" == found["keep"]["metric"]


def test_doubts_that_were_said_stand_in_it_and_no_others():
    """
    Whoever goes on from it later did not see the screen of that run.
    """
    warnings = OneTimeWarnings(clock=FakeClock().now)
    facts = ManifestFacts({}, Keep(), LinkReport(), warnings)
    warnings.say("saved")
    before = facts.now()
    warnings.say("`it` begins anew [data]")

    assert "warnings" not in before
    assert ["`it` begins anew [data]"] == facts.now()["warnings"]
