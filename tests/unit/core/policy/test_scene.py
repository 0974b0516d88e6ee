"""One moment of the policy: which jobs a rule is about, and what is promised to whom."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import Asker
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.policy.memory import Footprint
from supervisor.core.policy.rules import Selector
from supervisor.core.policy.scene import FILL_S, is_rules, selects
from supervisor.core.readings.sample import JobUse
from tests.fakes.moment import GIB, NOW, a_job, a_rule, above, moment, on, paused, remembered
from tests.fakes.steered_machine import CPU, Machine

BUSY = {"cpu_foreign_pct": 80.0}


def test_a_rule_for_some_jobs_leaves_the_others_alone():
    """
    By name, user and label.
    """
    rule = replace(CPU, jobs=Selector(names=("night-*",), users=("ada",), labels={"team": "speech"}))
    machine = Machine(rule).submit("night-1", user="ada", labels={"team": "speech"})
    machine.submit("night-2", user="bob", labels={"team": "speech"}).submit("day", user="ada")
    machine.run(100).run(90, **BUSY)

    assert [("pause", "night-1", "cpu", Depth.HOLD)] == machine.told


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), True),
        (Selector(names=("night-*",)), True),
        (Selector(names=("day", "night-?")), True),
        (Selector(names=("Night-*",)), False),
        (Selector(names=("night",)), False),
        (Selector(users=("ada", "bob")), True),
        (Selector(users=("bob",)), False),
        (Selector(labels={"team": "speech"}), True),
        (Selector(labels={"team": "speech", "size": "big"}), False),
        (Selector(labels={"team": ""}), False),
        (Selector(names=("night-*",), users=("bob",)), False),
    ],
)
def test_a_selector_takes_who_matches_all_that_it_says(selector, expected):
    """
    One of several names or users is enough; of labels all have to be so. It says nothing: everybody.
    """
    assert expected is selects(selector, a_job("night-1", user="ada", labels={"team": "speech"}))


@pytest.mark.parametrize(
    ("name", "expected"), [("night-*", True), ("ada/*", True), ("bob/*", False), ("day", False)]
)
def test_a_rule_about_a_name_is_about_the_jobs_of_all_users_called_so(name, expected):
    """
    A person writes what he reads in `status`, of his own jobs and of others'.
    """
    assert expected is selects(Selector(names=(name,)), a_job("ada/night-1"))


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (paused(), True),
        (a_job(state=JobState.PAUSING, by=Asker("rule", "cpu")), True),
        (a_job(state=JobState.PAUSED, by=Asker("person", "ada")), False),
        (a_job(state=JobState.PAUSED), False),
    ],
)
def test_a_pause_is_a_rules_or_a_persons(job, expected):
    """
    What a person paused is no rule's to bring back.
    """
    assert expected is is_rules(job)


def test_who_is_there_is_neither_queued_nor_over():
    """
    One that is to be started again is there.
    """
    again = a_job("again", JobState.FAILED, restart_at=NOW + 5.0)
    over = [a_job(state.value, state) for state in (JobState.COMPLETED, JobState.FAILED, JobState.STOPPED)]
    scene = moment(a_job("queued", JobState.QUEUED), a_job("runs"), paused("waits"), again, *over)

    assert ["runs", "waits", "again"] == [job.name for job in scene.present]
    assert () == moment().present


@pytest.mark.parametrize(
    ("job", "held", "gpus"),
    [
        (a_job(gpus=("G1",)), {"G2": 1}, {"G1", "G2"}),
        (a_job(), {"G2": 1}, {"G2"}),
        (a_job(), {}, set()),
        # It offloaded, or is gone: it will want those that it held.
        (paused(), {}, {"G3"}),
        (paused(depth=Depth.EXIT), {}, {"G3"}),
        (paused(gpus=("G1",)), {}, {"G1"}),
    ],
)
def test_a_job_is_on_the_gpus_that_it_was_given_and_holds(job, held, gpus):
    """
    Where none were given and it waits, on those that it held when it last ran.
    """
    memory = remembered(a={"footprint": Footprint(gpu_bytes={"G3": 1.0}), "last_state": job.state})
    scene = moment(job, memory=memory, jobs={"a": JobUse(gpu_bytes=held)})

    assert gpus == scene.gpus_of(job)
    assert {uuid: ["a"] for uuid in gpus} == {
        uuid: [one.name for one in jobs] for uuid, jobs in scene.on_gpus.items()
    }


def test_the_rules_about_a_job_come_in_the_order_of_their_importance():
    """
    Those of the host, of its GPU and of itself; none of another place or of other jobs.
    """
    rules = (
        a_rule(above("gpu_power_w", 9.0, 5.0), name="gpu"),
        a_rule(name="host"),
        a_rule(name="others", jobs=Selector(names=("b",))),
        a_rule(above("job_memory_gib", 9.0, 5.0), name="own"),
    )
    job = a_job(gpus=("G2",))
    memory = remembered(on("gpu@G1", "gpu@G2"))
    scene = moment(job, a_job("b"), rules=rules, memory=memory)

    assert ["gpu@G2", "host", "own@a"] == [instance.key for instance in scene.about(job)]
    assert ["gpu@G1", "gpu@G2"] == [instance.key for instance in scene.on]


@pytest.mark.parametrize(
    ("of", "use", "promised"),
    [
        ({"state": JobState.STARTING}, None, 8.0),
        ({"state": JobState.RESUMING}, JobUse(rss_bytes=3 * GIB), 5.0),
        ({"since": NOW - FILL_S + 1}, JobUse(rss_bytes=3 * GIB), 5.0),
        # It takes more than it asked for.
        ({"since": NOW - 1}, JobUse(rss_bytes=9 * GIB), 0.0),
        # After that long it has what it takes.
        ({"since": NOW - FILL_S}, JobUse(rss_bytes=3 * GIB), None),
        ({"state": JobState.QUEUED}, None, None),
        ({"state": JobState.PAUSED}, JobUse(), None),
    ],
)
def test_a_job_that_has_just_come_is_promised_what_it_has_not_taken_yet(of, use, promised):
    """
    Not to itself.
    """
    job = a_job(memory_bytes=int(8 * GIB), **of)
    scene = moment(job, jobs={"a": use} if use is not None else {})

    assert ({} if promised is None else {"a": promised * GIB}) == {
        name: one.rss_bytes for name, one in scene.promised.items()
    }
    assert (promised or 0.0) * GIB == scene.promised_bytes(a_job("other"))
    assert 0.0 == scene.promised_bytes(job)


def test_memory_of_gpus_is_promised_by_gpu():
    """
    What it used before counts for more than what it asked for.
    """
    job = a_job(state=JobState.STARTING, gpus=("G1", "G2"), gpu_memory_bytes=100)
    memory = remembered(a={"footprint": Footprint(gpu_bytes={"G2": 150.0}), "last_state": job.state})
    scene = moment(job, memory=memory, jobs={"a": JobUse(gpu_bytes={"G1": 30, "G2": None})})

    assert {"G1": 70.0, "G2": 150.0} == scene.promised["a"].gpu_bytes
