"""What of an answer a user gets: nothing in it names a job that he may not know of."""

import msgspec
import pytest

from supervisor import api
from supervisor.core.jobs import apply as core
from supervisor.core.jobs.events import Admitted, Submitted
from supervisor.core.jobs.job import JobSpec, Owner
from supervisor.core.jobs.verdict import Candidate, Verdict
from supervisor.core.policy.explanation import RuleState, Share
from supervisor.core.policy.rules import Settings, SharesConfig
from supervisor.core.replacing import replace
from supervisor.core.rights import RightsConfig
from supervisor.errors import UnknownJob
from supervisor.past_jobs import PastJob
from supervisor.ports import StoredEvent
from supervisor.server import views as module
from supervisor.server.access import Access
from supervisor.server.peers import Peer
from supervisor.server.views import Views
from trainer_shim import protocol as wire

#: Without names on any machine.
ADA, BOB, ROOT = Peer(4_000_321, 1), Peer(4_000_322, 2), Peer(0, 3)
MINE, HIS = "uid-4000321/night", "uid-4000322/night"


def job(key, peer):
    owner = None if peer is ROOT else Owner(peer.uid, f"uid {peer.uid}")
    return core.create(key, Submitted(id="j", spec=JobSpec(argv=("x",), cwd="/", owner=owner)), 1.0)


JOBS = {one.name: one for one in (job("night", ROOT), job(MINE, ADA), job(HIS, BOB), job("day", ROOT))}


@pytest.fixture
def views():
    access = Access(serves_all=True, own_uid=0)
    made = Views(access, lambda: JOBS)
    made.see = lambda see: access.configure(RightsConfig(see=see))
    made.see("none")
    return made


CANDIDATES = tuple(Candidate(job=key, why=f"as {key}") for key in ("night", MINE, HIS))
RULE = RuleState(rule="busy", jobs=("day", MINE, HIS), num_jobs=3)
VERDICT = Verdict(
    kind="pause", job=MINE, rule="busy", reason=f"makes room for {HIS}, of more", candidates=CANDIDATES
)
WHY = api.WhyReply(
    id="r",
    job=MINE,
    state="queued",
    summary=f"queued behind {HIS}.",
    verdict=VERDICT,
    rules=(RULE, RuleState(rule="disk", place=HIS)),
    candidates=CANDIDATES,
    waits_for=(f"GPU 0 has {HIS}", "GPU 1 is kept for day, which a rule has paused"),
    next=f"a person resumes it: `supervisorctl resume {MINE}`",
)


def words(message):
    return str(msgspec.to_builtins(message))


def test_an_answer_about_ones_own_job_tells_nothing_of_hidden_ones(views):
    """
    Neither as a name nor in a sentence; his own job is called as he calls it.
    """
    seen = views.outward(ADA, WHY)

    assert "4000322" not in words(seen)
    assert "day" not in words(seen)
    assert ("night", ("night",)) == (seen.job, tuple(one.job for one in seen.candidates))
    assert [("busy", ("night",))] == [(one.rule, one.jobs) for one in seen.rules]
    assert ("night", ("night",)) == (seen.verdict.job, tuple(one.job for one in seen.verdict.candidates))
    assert "a person resumes it: `supervisorctl resume night`" == seen.next
    assert "queued behind another user's job." == seen.summary


def test_what_may_be_seen_is_called_by_its_user(views):
    """
    The reasons of others stay with them where only their rows are seen.
    """
    views.see("rows")
    seen = views.outward(ADA, WHY)

    assert [("root/night", ""), ("night", "as night"), (HIS, "")] == [
        (one.job, one.why) for one in seen.candidates
    ]
    assert ("root/day", "night", HIS) == seen.rules[0].jobs
    assert f"GPU 0 has {HIS}" == seen.waits_for[0]


def test_the_answer_about_a_hidden_job_is_none(views):
    """
    `why` about all leaves it out.
    """
    assert views.outward(BOB, WHY) is None
    assert (
        views.outward(ADA, api.JobRows(rows=(api.JobRow(name=HIS, state="queued", since_s=1.0),))).rows == ()
    )
    assert views.outward(ADA, api.PolicyReply(rules=(RULE,))).rules[0].jobs == ("night",)


@pytest.mark.parametrize(
    ("see", "place", "told"), [("rows", "root/day", "root/day"), ("none", None, "another user's job")]
)
def test_a_job_of_roots_is_called_so_in_every_row_and_sentence(views, see, place, told):
    """
    2026-11-29: `policy show` called it by its plain name, which for everybody else is a job of his own.
    """
    views.see(see)
    rule = RuleState(rule="disk", place="day", alarm="rule disk of day has no reading")
    reply = api.PolicyReply(rules=(rule,), settling="day is pausing; daybreak is no job.")
    seen = views.outward(ADA, reply)

    assert f"{told} is pausing; daybreak is no job." == seen.settling
    assert [place] == [one.place for one in seen.rules] or place is None
    assert all(f"rule disk of {told} has no reading" == one.alarm for one in seen.rules)


def test_an_answer_to_an_admin_with_jobs_of_his_own_says_whose_it_is(views):
    """
    His `day` is another one than root's; the rest of the words stays as it is.
    """
    error, hint = "cannot pause job `day`: today it is over", "`supervisorctl restart day`"
    seen = views.outward(ADA, wire.Refusal(id="r", job="day", error=error, hint=hint))

    assert ("cannot pause job `root/day`: today it is over", "root/day") == (seen.error, seen.job)
    assert "`supervisorctl restart root/day`" == seen.hint


def stored(key, at, event):
    return StoredEvent(seq=1, at=at, wall=1.0, job=key, event=event, state="x")


def admitted(reason):
    return Admitted(verdict=Verdict(kind="start", job=MINE, rule="queue", reason=reason), start_grace_s=1.0)


class TestEvents:
    def test_reasons_in_ones_own_events_name_no_hidden_job(self, views):
        """
        Sentences are cut; a command stays what it was, whatever a job is called.
        """
        seen = views.event(ADA, stored(MINE, 2.0, admitted(f"makes room for {HIS} and day")))
        spec = JobSpec(argv=("day", "night"), cwd="/")

        hidden = "another user's job"
        assert ("night", f"makes room for {hidden} and {hidden}") == (seen.job, seen.detail)
        assert "day night" == views.event(ADA, stored(MINE, 2.0, Submitted(id="j", spec=spec))).detail

    @pytest.mark.parametrize("see", ["rows", "none"])
    def test_what_happened_to_jobs_of_others_under_ones_name_is_not_ones_own(self, see):
        """
        2026-11-29: names are given to other people in time, and events of removed jobs went by the name.
        """
        access = Access(serves_all=True, own_uid=0)
        access.configure(RightsConfig(see=see))
        past = {HIS: PastJob(ADA.uid, since=-5.0)}
        views = Views(access, lambda: JOBS, past.get)

        def told(peer):
            seen = [views.event(peer, stored(HIS, at, admitted("secret"))) for at in (-9.0, -5.0, 1.0)]
            return ["" if one is None else one.detail or "row" for one in seen]

        other = "row" if see == "rows" else ""
        # Before that it was somebody's of whom nothing is known; from 1.0 on it is the present one.
        assert [other, other, "secret"] == told(BOB)
        assert [other, "secret", other] == told(ADA)
        assert ["secret"] * 3 == told(ROOT)

    def test_who_may_ask_for_the_events_of_a_job_that_is_no_more(self):
        """
        Whoever has the number of its user; to all others it never was.
        """
        past = {"ada/old": PastJob(ADA.uid, since=1.0)}
        views = Views(Access(serves_all=True, own_uid=0), lambda: JOBS, past.get)
        asked = api.EventsRequest(id="r", job="ada/old")

        views.check(ADA, asked, "ada/old")
        views.check(ROOT, asked, "ada/old")
        for key in ("ada/old", "uid-4000322/older"):
            with pytest.raises(UnknownJob):
                views.check(BOB, asked, key)


def test_root_is_told_all(views):
    """
    Its own jobs by their names, others' with their users.
    """
    assert WHY == views.outward(ROOT, WHY)


def test_paths_are_no_names(views):
    """
    A folder that is called like a user's job stays what it is.
    """
    text = f"cannot read `/data/{MINE}/x` and `{MINE}.old/y`; see ./{MINE}"
    seen = views.outward(ADA, wire.Refusal(id="r", job=MINE, error=text, hint=f"`supervisorctl why {MINE}`"))

    assert ("night", text, "`supervisorctl why night`") == (seen.job, seen.error, seen.hint)


def test_a_daemon_that_serves_one_user_changes_nothing():
    """
    The answer goes out as it was made.
    """
    views = Views(Access(serves_all=False), lambda: JOBS)

    assert views.outward(ROOT, WHY) is WHY


@pytest.mark.parametrize("kind", [api.JobRow, api.ShowReply, api.WhyReply])
def test_what_is_seen_of_others_is_written_down(views, kind):
    """
    A field that somebody adds to an answer is not seen by others, unless it is added here as well.
    """
    views.see("rows")
    full = {"row": api.JobRow(name=HIS, state="queued", since_s=1.0)} if kind is api.ShowReply else {}
    filled = {field.name: told(field, kind) for field in msgspec.structs.fields(kind)} | full
    message = kind(**filled)
    reply = api.JobRows(rows=(message,)) if kind is api.JobRow else message
    seen = views.outward(ADA, reply)
    seen = seen.rows[0] if kind is api.JobRow else seen

    assert SEEN[kind] == {name for name in kind.__struct_fields__ if getattr(seen, name) == SECRET}


#: A value that no field has by itself; structs take anything where they are made, not decoded.
SECRET = "secret"
SEEN = {
    api.JobRow: {
        "since_s", "depth", "bytes_freed", "pausable", "step", "num_steps", "epoch", "num_epochs",
        "steps_per_s", "eta_s", "cpu_pct", "rss_bytes", "checkpoint_step", "checkpoint_age_s", "wake_in_s",
        "restart_in_s", "late", "priority", "protected", "ended", "state", "user",
    },
    api.ShowReply: {
        "id", "created_wall", "num_gpus", "gpu_memory_bytes", "memory_bytes", "num_cpus", "depths",
        "limits", "totals",
    },
    api.WhyReply: {
        "id", "state", "summary", "for_s", "since_wall", "depth", "position", "line_length", "more",
    },
}  # fmt: skip


def told(field, kind):
    if field.name in ("name", "job"):
        return HIS
    return SECRET if field.name != "row" else None


def test_shares_of_hidden_users_are_hidden(views):
    """
    Neither what they had nor the weights that the settings name; an admin and who may see others read both.
    """
    shares = tuple(Share(user=user, slot_h=3.0) for user in ("", "uid-4000321", "uid-4000322"))
    settings = Settings(shares=SharesConfig(weights={"uid-4000322": 2.0}, max_priority=3))
    reply = api.PolicyReply(settings=msgspec.json.encode(settings).decode(), shares=shares)
    hidden = views.outward(ADA, reply)
    why = views.outward(ADA, replace(WHY, shares=shares))
    views.see("rows")
    seen = views.outward(ADA, reply)
    kept = msgspec.json.decode(hidden.settings, type=Settings)

    assert ["uid-4000321"] == [one.user for one in hidden.shares] == [one.user for one in why.shares]
    assert ({}, 3) == (kept.shares.weights, kept.shares.max_priority)
    assert ["root", "uid-4000321", "uid-4000322"] == [one.user for one in seen.shares]
    assert seen.settings == reply.settings
    assert not why.can_be_started
    assert views.outward(ROOT, WHY).can_be_started


class TestHints:
    """A hint is for a person who mistyped, and costs the others little."""

    @pytest.fixture
    def compared(self, monkeypatch):
        """How many names each hint was looked for among."""
        seen = []
        match = module.difflib.get_close_matches
        monkeypatch.setattr(
            module.difflib,
            "get_close_matches",
            lambda word, known, n: seen.append(len(known)) or match(word, known, n=n),
        )
        return seen

    def hint(self, views, said, num_named=1):
        request = api.PauseRequest(id="r", jobs=(said,) * num_named)
        with pytest.raises(UnknownJob) as unknown:
            views.check(ADA, request, f"uid-4000321/{said}")
        return unknown.value.hint

    def test_whoever_names_many_gets_none(self, views, compared):
        """
        A thousand names among five hundred jobs stopped the daemon for 40 s.
        """
        assert "did you mean `night`" in self.hint(views, "nihgt", num_named=3)
        assert "did you mean" not in self.hint(views, "nihgt", num_named=4)
        assert [1] == compared

    def test_it_is_looked_for_among_those_that_begin_alike(self, compared):
        """
        However many jobs a user has.
        """
        keys = [f"uid-4000321/{letter}{number}" for letter in "abcd" for number in range(100)]
        jobs = {key: job(key, ADA) for key in keys}
        views = Views(Access(serves_all=True, own_uid=0), lambda: jobs)

        assert "did you mean `d9`" in self.hint(views, "d9x")
        assert [100] == compared
