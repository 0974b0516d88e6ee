"""The table of rights beside one that is written down: every message, everybody who may send it."""

import pytest

from supervisor import api
from supervisor.core.rights import RIGHTS, RightsConfig, Speaker, may, right_to, verb_of
from trainer_shim import protocol

#: Who may be at the other end, and what he is to the job that is spoken of. Its processes run as its user.
SPEAKERS = {
    "owner": Speaker(is_owner=True),
    "other": Speaker(),
    "admin": Speaker(is_admin=True),
    "shim": Speaker(is_owner=True, is_of_job=True),
    "other shim": Speaker(),
    "unknown": Speaker(),
}
EVERYBODY = frozenset(SPEAKERS)
OWN = frozenset({"owner", "shim", "admin"})

#: What is so without any settings. Written by hand, and never made from the table.
EXPECTED = {
    "run-request": EVERYBODY,
    "status-request": EVERYBODY,
    "show-request": EVERYBODY,
    "watch-request": EVERYBODY,
    "pause-request": OWN,
    "resume-request": OWN,
    "stop-request": OWN,
    "kill-request": OWN,
    "restart-request": OWN,
    "checkpoint-request": OWN,
    "remove-request": OWN,
    "set-request": OWN,
    "events-request": EVERYBODY,
    "why-request": EVERYBODY,
    "policy-request": EVERYBODY,
    "samples-request": {"admin"},
    "reload-request": {"admin"},
    "version-request": EVERYBODY,
    "hello": {"shim"},
    "heartbeat": {"shim"},
    "stage": {"shim"},
    "saving": {"shim"},
    "checkpointed": {"shim"},
    "yielded": {"shim"},
    "cannot-yield": {"shim"},
    "resumed": {"shim"},
}


def tags_of(union):
    return {one.__struct_config__.tag for one in union.__args__}


TAGS = sorted(tags_of(api.FromOperator) | tags_of(protocol.FromShim))


def test_the_table_has_every_message_and_no_other():
    """
    A message that somebody adds has a right, or this says so.
    """
    assert set(TAGS) == set(RIGHTS) == set(EXPECTED)


@pytest.mark.parametrize("tag", TAGS)
def test_who_may_say_it(tag):
    """
    Owner, other user, admin, shim of the job, shim of another one, any process.
    """
    right = right_to(tag, RightsConfig())

    assert EXPECTED[tag] == {who for who, speaker in SPEAKERS.items() if may(right, speaker)}


def test_what_is_no_message_of_theirs_is_nobodys():
    """
    Answers, orders to shims, words that nobody knows.
    """
    for tag in ("welcome", "job-rows", "see", "admins", "brand-new"):
        assert right_to(tag, RightsConfig()) is None
        assert not any(may(right_to(tag, RightsConfig()), speaker) for speaker in SPEAKERS.values())


def test_each_right_can_be_configured_for_each_verb():
    """
    `[rights] pause = "admin"` is all it takes; what only looks and is cut anyway cannot be.
    """
    fixed = {"status", "watch", "version"}
    verbs = {verb_of(tag) for tag in TAGS if tag.endswith("-request")}

    assert verbs - fixed == set(RightsConfig.__struct_fields__) - {"admins", "see", "start", "protect"}
    for verb in verbs - fixed:
        for right in ("anybody", "own", "admin"):
            assert right == right_to(f"{verb}-request", RightsConfig(**{verb: right}))


def test_the_settings_are_by_default_what_the_table_says():
    """
    One table: what is printed as the default is what holds.
    """
    for tag, right in RIGHTS.items():
        assert right == right_to(tag, RightsConfig())


def test_no_settings_let_anybody_speak_for_a_process():
    """
    Shims are known by their process, also where everything is allowed.
    """
    words = {name: "anybody" for name in RightsConfig.__struct_fields__ if name not in ("admins", "see")}
    for tag in tags_of(protocol.FromShim):
        assert not may(right_to(tag, RightsConfig(**words)), Speaker(is_owner=True, is_admin=True))
