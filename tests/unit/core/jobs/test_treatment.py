"""What may be asked of a job is said once: files, commands and messages take the same.

Covers: bounds and words that more than one of them takes. Does not cover: what follows from them.
"""

from __future__ import annotations

from typing import get_type_hints

import msgspec
import pytest

from supervisor import api
from supervisor.core.jobs import treatment
from supervisor.core.jobs.events import PauseAsked
from supervisor.core.jobs.job import JobPause, JobSpec
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.rules import Rule
from supervisor.ports import LaunchSpec
from supervisor.settings.jobfile import JobFile


@pytest.mark.parametrize(
    ("field", "kind", "records"),
    [
        ("at_deadline", treatment.AtDeadline, (api.PauseRequest, PauseAsked, JobPause, Verdict, Rule)),
        ("restart", treatment.Restart, (api.RunRequest, JobSpec, JobFile)),
        ("priority", treatment.Priority, (api.RunRequest, JobFile)),
        ("labels", treatment.Labels, (api.RunRequest, api.SetRequest, JobFile)),
        ("limits", treatment.JobLimits, (api.RunRequest, api.ShowReply, JobSpec, LaunchSpec)),
        ("cpu_weight", treatment.CpuWeight | None, (treatment.JobLimits, JobFile)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_type_says_what_all_of_them_take(field, kind, records):
    """
    A word that one of them did not know would be refused on its way.
    """
    said = {record.__name__: get_type_hints(record, include_extras=True)[field] for record in records}

    assert dict.fromkeys(said, kind) == said


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (treatment.Priority, [-10_000, 0, 10_000], [-10_001, 10_001, 0.5]),
        (treatment.AtDeadline, ["wait", "freeze", "terminate"], ["", "kill"]),
        (treatment.Restart, ["never", "on-failure"], ["", "always"]),
        (
            treatment.Labels,
            [{}, {"k": ""}, {"k" * 64: "v" * 200}],
            [{"": "v"}, {"k": "v" * 201}, {"k" * 65: "v"}],
        ),
        (treatment.CpuWeight, [1, 10_000], [0, 10_001, -1]),
    ],
    ids=["priority", "at-deadline", "restart", "labels", "cpu-weight"],
)
def test_what_is_out_of_bounds_is_refused(kind, good, bad):
    """
    These were the bounds of the wire from its first version on.
    """
    assert good == [msgspec.convert(value, kind) for value in good]
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)
