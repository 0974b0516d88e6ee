"""One daemon, several users, not enough room: whose job starts next, and what nobody may take from others.

Covers: turns between real users, priority, protection and starting out of turn by rights, what `why` and
`policy` tell whom, accounts across restarts of the daemon.
Does not cover: shares over time (tests/unit/core/policy/test_shares.py), what else each sees
(test_several_users.py).
"""

from __future__ import annotations

import pytest

from supervisor import api
from supervisor.client import new_id, refusal
from supervisor.core.jobs.treatment import JobLimits
from supervisor.errors import Refused
from tests.harness import CONFIG, RunningDaemon, until
from tests.other_user import OTHER, THIRD, needs_root
from tests.users_of_daemon import as_client, ctl_as, waiting_job

pytestmark = needs_root

FULL = "[queue]\nmax_running = 1\n"


def config(*more, see="rows"):
    return f'{CONFIG}settle_s = 0\n[rights]\nsee = "{see}"\nadmins = ["group:root"]\n' + "".join(more)


@pytest.fixture
def daemon():
    """With room for one job, which root's has."""
    with RunningDaemon(config(FULL), words=("--system",)) as running:
        running.home.chmod(0o755)
        running.work.chmod(0o777)
        run(running.client, "first", argv=("sleep", "1000"))
        running.until("first", lambda row: row.pid)
        yield running


def run(client, name, *, argv=("true",), **of):
    request = api.RunRequest(id=new_id(), argv=argv, cwd="/", env={}, name=name, **of)
    return client.run(request)


def asked(client, request):
    """The detail of the answer; what it is refused with is raised."""
    (answer,) = client.ask_jobs(request)
    if not isinstance(answer, api.Accepted):
        raise refusal(answer)
    return answer.detail


def denied(daemon, uid, call):
    """What a user is refused with, and the hint."""

    def said(client):
        with pytest.raises(Refused) as refused:
            call(client)
        return str(refused.value), refused.value.hint

    return as_client(daemon, said, uid)


def starts(daemon):
    events = daemon.client.events(limit=1000)
    return [one.job for one in events if one.kind == "admitted" and one.job != "first"]


def test_two_users_take_turns_whoever_asked_first_and_most(daemon):
    """
    The first one has four in the line before the other comes, with numbers as high as they go.
    """
    for number in (1, 2, 3, 4):
        as_client(daemon, lambda client: run(client, f"a{number}", priority=10_000 - number))  # noqa: B023
    for number in (1, 2):
        as_client(daemon, lambda client: run(client, f"b{number}"), THIRD)  # noqa: B023
    daemon.configure(config())
    until(lambda: len(starts(daemon)) == 6)
    ours, theirs = f"uid-{OTHER}", f"uid-{THIRD}"

    assert [
        f"{ours}/a1",
        f"{theirs}/b1",
        f"{ours}/a2",
        f"{theirs}/b2",
        f"{ours}/a3",
        f"{ours}/a4",
    ] == starts(daemon)


def test_a_priority_counts_between_users_as_far_as_an_admin_gave_it(daemon):
    """
    Who says more is told what it counts; `run` and `set` alike, and an admin may give it.
    """
    told = as_client(daemon, lambda client: run(client, "mine", priority=50).detail)
    again = as_client(daemon, lambda c: asked(c, api.SetRequest(id=new_id(), jobs=("mine",), priority=60)))
    given = asked(daemon.client, api.SetRequest(id=new_id(), jobs=(f"uid-{OTHER}/mine",), priority=70))
    kept = as_client(daemon, lambda c: asked(c, api.SetRequest(id=new_id(), jobs=("mine",), priority=80)))
    own = as_client(daemon, lambda client: run(client, "his", priority=9).detail, groups=(0,))

    shown = [as_client(daemon, lambda client: client.show("mine")), daemon.client.show("first")]

    assert [70, 0] == [one.counted_priority for one in shown]
    assert "; against jobs of other users its priority counts as 0; an admin may give it more" in told
    assert "against jobs of other users its priority counts as 0; an admin may give it more" == again
    assert "" == given
    assert "against jobs of other users its priority counts as 70; an admin may give it more" == kept
    assert "priority" not in own


def test_protection_is_an_admins_to_give(daemon):
    """
    Else one user could be left alone by every rule; what is configured otherwise is otherwise.
    """
    as_client(daemon, lambda client: run(client, "mine"))

    def protect(client, *, protected=True):
        return asked(client, api.SetRequest(id=new_id(), jobs=("mine",), protected=protected))

    at_start = denied(daemon, OTHER, lambda client: run(client, "other", protected=True))
    later = denied(daemon, OTHER, protect)
    asked(daemon.client, api.SetRequest(id=new_id(), jobs=(f"uid-{OTHER}/mine",), protected=True))
    given = daemon.row(f"uid-{OTHER}/mine").protected
    as_client(daemon, lambda client: protect(client, protected=False))
    daemon.configure(config(FULL).replace("[rights]\n", '[rights]\nprotect = "own"\n'))
    daemon.client.reload()
    as_client(daemon, protect)

    assert "cannot protect it from the rules: only admins may" == at_start[0]
    assert "cannot protect job `mine` from the rules: only admins may" == later[0]
    assert "`rights.protect`" in later[1]
    assert given
    assert daemon.row(f"uid-{OTHER}/mine").protected


def resumed(client, name="mine"):
    return asked(client, api.ResumeRequest(id=new_id(), jobs=(name,)))


def test_a_greater_cpu_weight_is_an_admins_to_give(daemon):
    """
    Nobody else takes the CPUs of all others by a number. That nothing keeps a weight here is another answer.
    """

    def said(client, weight):
        with pytest.raises(Refused) as refused:
            run(client, "heavy", limits=JobLimits(cpu_weight=weight))
        return str(refused.value)

    greater, usual = (as_client(daemon, lambda client, of=of: said(client, of), OTHER) for of in (101, 100))

    assert "an admin's to give" in greater
    assert "an admin's" not in usual
    assert "an admin's" not in said(daemon.client, 101)


def test_nobody_starts_before_his_turn_but_who_may(daemon):
    """
    Neither a queued job, nor by a pause and its end, by word or by time; an admin may.
    """
    name = f"uid-{OTHER}/mine"
    as_client(daemon, lambda client: run(client, "mine"))
    error, hint = denied(daemon, OTHER, resumed)
    as_client(daemon, lambda c: asked(c, api.PauseRequest(id=new_id(), jobs=("mine",), for_s=0.05)))
    until(lambda: daemon.row(name).asked_by == "the queue")
    timed = daemon.row(name)
    as_client(daemon, lambda c: asked(c, api.PauseRequest(id=new_id(), jobs=("mine",))))
    detail = as_client(daemon, resumed)
    by_word = daemon.row(name)
    waits = as_client(daemon, lambda client: client.why("mine")[0])

    assert "cannot start job `mine` before its turn: only admins may" == error
    assert "`rights.start`" in hint
    assert ("paused", "its time was over; it waits for its turn") == (timed.state, timed.reason)
    assert "it goes on when it is its turn" == detail
    assert ("paused", "the queue") == (by_word.state, by_word.asked_by)
    assert "1 jobs run or are about to, of 1 that may" in waits.waits_for[0]
    assert not waits.can_be_started
    resumed(daemon.client, name)
    assert daemon.row(name).state != "paused"


def test_its_turn_comes_when_there_is_room(daemon):
    """
    What was paused and is to go on waits in the same line, and is let go from there.
    """
    as_client(daemon, lambda client: run(client, "mine"))
    as_client(daemon, lambda c: asked(c, api.PauseRequest(id=new_id(), jobs=("mine",))))
    as_client(daemon, resumed)
    daemon.ask(api.KillRequest, "first")
    row = daemon.until(f"uid-{OTHER}/mine", "failed")

    assert "starts jobs of its own user only" in row.problem


@pytest.mark.parametrize("see", ["rows", "none"])
def test_why_and_policy_tell_shares_as_far_as_one_may_see(daemon, see):
    """
    What root had is told with his name, or not at all; at 60 and 200 columns nothing is lost.
    """
    daemon.configure(config(FULL, '[shares]\nweights = { "root" = 4 }\n', see=see))
    daemon.client.reload()
    as_client(daemon, lambda client: waiting_job(client, "mine"))
    until(lambda: daemon.client.policy().shares[0].slot_h >= 0)
    told = as_client(daemon, lambda client: (client.why("mine")[0].shares, client.policy()))
    (shares, policy), users = told, [f"uid-{OTHER}", "root"]

    assert (users if see == "rows" else users[:1]) == [one.user for one in shares]
    assert [one.user for one in shares] == [one.user for one in policy.shares]
    assert (see == "rows") == ('"weights":{"root":4.0}' in policy.settings)
    assert [True, False][: len(shares)] == [one.is_jobs for one in shares]
    assert ["uid-4000321", "root"] == [one.user for one in daemon.client.policy().shares]
    for columns in (60, 200):
        code, out, err = ctl_as(daemon, OTHER, "why", "mine", columns=columns)
        beside = ("of the 0 ", "of 5") if see == "rows" else ("", "")
        said = "uid-{}'s jobs have had 0 {}slot hours that count (weight 1{}), and have 0 slots now; the next"
        assert 0 == code
        assert said.format(OTHER, beside[0], f" {beside[1]}".rstrip()) in " ".join(out.split())
        assert "resume" not in err
        assert max(map(len, out.splitlines())) <= columns
        code, out, err = ctl_as(daemon, OTHER, "policy", "show", columns=columns)
        assert (see == "rows") == ("root" in out)


def test_accounts_outlive_the_daemon(daemon):
    """
    What was had before counts after a crash of the daemon as it did.
    """
    daemon.ask(api.KillRequest, "first")
    daemon.until("first", "stopped")
    as_client(daemon, lambda client: waiting_job(client, "mine"))
    (before,) = [one for one in daemon.client.policy().shares if one.user == "root"]
    daemon.kill()
    daemon.start()
    (after,) = until(lambda: [one for one in daemon.client.policy().shares if one.user == "root"])

    assert 0 < after.slot_h == pytest.approx(before.slot_h, rel=0.01)


def test_a_name_that_nobody_has_is_told_to_admins(daemon):
    """
    A weight for nobody would be one for nobody in silence.
    """
    daemon.configure(config('[shares]\nweights = { "no-such-user" = 4 }\n'))
    (alert,) = until(lambda: daemon.client.status().alerts)

    assert "`no-such-user` in `shares.weights` is no user or group of this machine" == alert
