"""Between what peers say and what is inside: names on the way in, what each may see on the way out.

Covers: names of a request as keys, answers and events cut to the rights of who gets them, jobs by the names
that he knows them by.
Does not cover: who he is and what he may (access.py), putting answers together (looking.py, answers.py).

Each message to a peer passes here, whoever made it: what is not said to be seen by others is not seen.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any, Final, TypeVar

import msgspec

from supervisor import api
from supervisor.core.jobs import names
from supervisor.core.jobs.events import Submitted
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.verdict import Candidate
from supervisor.core.policy.explanation import RuleState, Share
from supervisor.core.policy.rules import Settings
from supervisor.core.replacing import replace
from supervisor.errors import UnknownJob, UsageError
from supervisor.past_jobs import PastJob
from supervisor.ports import StoredEvent
from supervisor.server.access import Access
from supervisor.server.event_rows import event_message
from supervisor.server.router import Peer
from trainer_shim import protocol

__all__ = ["Views"]

#: Requests about one job.
_OF_ONE: Final = (api.ShowRequest, api.WhyRequest, api.EventsRequest)

#: What may be a key in a sentence; no part of a path.
_WORD: Final = re.compile(r"(?<![\w/.@-])[A-Za-z0-9_][\w.-]*+(?:/[\w.-]++)?+(?![\w/@-])")
#: Fields that are names, and not words with names in them: they are told as such.
_NO_WORDS: Final = frozenset({"job", "jobs", "place", "name", "id", "rule", "user"})
#: So many names of a request are told the nearest one, of so many that begin most like it.
_MAX_HINTED: Final = 3
_MAX_COMPARED: Final = 100
_HIDDEN: Final = "another user's job"

T = TypeVar("T")


class Views:
    """What a message is inside, and for each peer. Used from the loop's thread only."""

    def __init__(
        self,
        access: Access,
        jobs: Callable[[], Mapping[str, Job]],
        past: Callable[[str], PastJob | None] = lambda _: None,
    ) -> None:
        """Take who may what, all jobs by key as they are when it is called, and those that were removed."""
        self._access = access
        self._jobs = jobs
        self._past = past

    # --- on the way in ------------------------------------------------------------------------

    def inward(self, peer: Peer, message: Any) -> Any:
        """Return a request with keys for names; raises UsageError for a new job under another's name."""
        if isinstance(message, api.JobsRequest):
            return replace(message, jobs=tuple(self._access.key(peer, said) for said in message.jobs))
        if isinstance(message, api.RunRequest) and message.name is not None:
            key = self._access.key(peer, message.name)
            if names.user_of(key) != self._access.user(peer):
                raise UsageError(
                    f"cannot name a job `{message.name}`: it would be another user's",
                    hint="a name has no `/`; without one it is yours",
                )
            return replace(message, name=key)
        if isinstance(message, _OF_ONE) and message.job is not None:
            return replace(message, job=self._access.key(peer, message.job))
        return message

    def check(self, peer: Peer, message: Any, key: str = "") -> None:
        """Raise Refused unless he may ask that; UnknownJob for a job that he may not even know of."""
        job: Job | PastJob | None = self._jobs().get(key)
        if key and not self._access.is_admin(peer):
            is_past = job is None and isinstance(message, api.EventsRequest)
            job = self._past(key) if is_past else job
            may_know = job is not None and (not is_past or self._access.owns(peer, key, job))
            if not may_know or self._access.sight(peer, key, job) == "none":
                said = self._access.shown(peer, key)
                # Whoever names hundreds that are not there must not keep the others waiting for a hint.
                is_hinted = len(getattr(message, "jobs", ())) <= _MAX_HINTED
                raise UnknownJob(said, nearest=self._nearest(peer, said) if is_hinted else "")
        self._access.check(peer, message, key, job)

    def _nearest(self, peer: Peer, said: str) -> str:
        known = [self._access.shown(peer, job.name) for job in self.seen(peer, self._jobs().values())]
        # To compare takes a tenth of a millisecond a name.
        known.sort(key=lambda name: _num_alike(name, said), reverse=True)
        return next(iter(difflib.get_close_matches(said, known[:_MAX_COMPARED], n=1)), "")

    def seen(self, peer: Peer, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs that he may know of."""
        return [job for job in jobs if self._access.sight(peer, job.name, job) != "none"]

    # --- on the way out -----------------------------------------------------------------------

    def outward(self, peer: Peer, message: Any) -> Any:
        """Return a message as this peer may have it; None where there is nothing for him in it.

        Events are cut before they are messages (`event`), which do not say of which job of a name they are.
        """
        if not self._access.serves_all:
            return message
        match message:
            case api.JobRows():
                return self._rows(peer, message)
            case api.ShowReply():
                return self._show(peer, message)
            case api.WhyReply():
                return self._why(peer, message)
            case api.PolicyReply(rules=rules):
                seen = _some(self._rule(peer, one) for one in rules)
                shares, settings = self._shares(peer, message.shares), self._settings(peer, message.settings)
                return self._told(peer, replace(message, rules=seen, shares=shares, settings=settings))
            case api.Accepted() | protocol.Refusal():
                return self._of_request(peer, message)
            case api.VersionReply() if not self._access.is_admin(peer):
                num_jobs = len(self.seen(peer, self._jobs().values()))
                return replace(message, alerts=(), num_denied=0, num_jobs=num_jobs)
            case _:
                return message

    def _of_request(
        self, peer: Peer, message: api.Accepted | protocol.Refusal
    ) -> api.Accepted | protocol.Refusal:
        job = self._access.shown(peer, message.job) if message.job else ""
        if isinstance(message, api.Accepted):
            told: api.Accepted = self._told(peer, replace(message, job=job))
            return told
        # It names the job that was asked about only, and what is hidden has to read as what is not there.
        user, key = self._access.user(peer), message.job

        def called(text: str) -> str:
            if user and key and not names.user_of(key):
                text = _WORD.sub(lambda found: job if found[0] == key else found[0], text)
            return _without(user, text)

        return replace(message, job=job, error=called(message.error), hint=called(message.hint))

    def _sight(self, peer: Peer, key: str) -> str:
        return self._access.sight(peer, key, self._jobs().get(key))

    def _rows(self, peer: Peer, message: api.JobRows) -> api.JobRows:
        rows = _some(self._row(peer, row) for row in message.rows)
        if self._access.is_admin(peer):
            return replace(message, rows=rows)
        # They name files, folders and jobs of all.
        return replace(message, rows=rows, alerts=(), aside=())

    def _row(self, peer: Peer, row: api.JobRow) -> api.JobRow | None:
        match self._sight(peer, row.name):
            case "none":
                return None
            case "rows":
                return self.of_another(peer, row)
            case _:
                return self.whole(peer, row)

    def is_whole(self, peer: Peer, job: Job) -> bool:
        """Say whether he may have the whole line of a job, of those that he may know of."""
        return self._access.sight(peer, job.name, job) == "all"

    def of_another(self, peer: Peer, row: api.JobRow) -> api.JobRow:
        """Return the line of a job that is not his: the same for each who may see no more of it."""
        return _row_of_another(row, self._access.shown(peer, row.name))

    def whole(self, peer: Peer, row: api.JobRow) -> api.JobRow:
        """Return a line with the names that he uses."""
        before = (row.name, row.stage, row.reason, row.problem)
        name, *words = self._access.shown(peer, row.name), *(self._text(peer, text) for text in before[1:])
        if (name, *words) == before:
            return row
        stage, reason, problem = words
        return replace(row, name=name, stage=stage, reason=reason, problem=problem)

    def _show(self, peer: Peer, message: api.ShowReply) -> api.ShowReply | None:
        key = message.row.name
        row = self._row(peer, message.row)
        if row is None:
            return None
        if self._sight(peer, key) == "rows":
            return _show_of_another(message, row)
        is_close = self._access.is_admin(peer) or self._access.owns(peer, key, self._jobs().get(key))
        return replace(message, row=row, env_names=message.env_names if is_close else ())

    def _why(self, peer: Peer, message: api.WhyReply) -> api.WhyReply | None:
        if not message.job:
            return message
        key, shown = message.job, self._access.shown(peer, message.job)
        match self._sight(peer, key):
            case "none":
                return None
            case "rows":
                return _why_of_another(message, shown)
        verdict = message.verdict
        if verdict is not None:
            candidates = self._candidates(peer, verdict.candidates)
            verdict = replace(verdict, job=shown, candidates=candidates)
        whole = replace(
            message,
            job=shown,
            verdict=verdict,
            candidates=self._candidates(peer, message.candidates),
            rules=_some(self._rule(peer, one) for one in message.rules),
            shares=self._shares(peer, message.shares),
            can_be_started=message.can_be_started and self._access.may_start(peer),
        )
        told: api.WhyReply = self._told(peer, whole)
        return told

    def _shares(self, peer: Peer, shares: tuple[Share, ...]) -> tuple[Share, ...]:
        sees_all, own = self._access.sees_others(peer), self._access.user(peer)
        seen = (one for one in shares if sees_all or one.user == own)
        return tuple(replace(one, user=self._access.named(one.user)) for one in seen)

    def _settings(self, peer: Peer, settings: str) -> str:
        """Return them without the users that they name, where he may know of nobody else."""
        if not settings or self._access.sees_others(peer):
            return settings
        said = msgspec.json.decode(settings, type=Settings)
        return msgspec.json.encode(replace(said, shares=replace(said.shares, weights={}))).decode()

    def _candidates(self, peer: Peer, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        found = []
        for one in candidates:
            sight = self._sight(peer, one.job)
            why = one.why if sight == "all" else ""
            if sight != "none":
                found.append(replace(one, job=self._access.shown(peer, one.job), why=why))
        return tuple(found)

    def _rule(self, peer: Peer, rule: RuleState) -> RuleState | None:
        is_job = rule.place in self._jobs()
        if is_job and self._sight(peer, rule.place) == "none":
            return None
        jobs = tuple(self._access.shown(peer, key) for key in rule.jobs if self._sight(peer, key) != "none")
        place = self._access.shown(peer, rule.place) if is_job else rule.place
        return replace(rule, jobs=jobs, place=place)

    def event(self, peer: Peer, event: StoredEvent) -> api.Event | None:
        """Return something that happened as this peer may have it; None where it is nothing for him."""
        message = event_message(event)
        if not self._access.serves_all:
            return message
        sight = self._access.sight(peer, event.job, self._then(event.job, event.at))
        if sight == "none":
            return None
        # A command is no sentence, and what is called like a job in it is none.
        is_command = isinstance(event.event, Submitted)
        detail = message.detail if is_command else self._text(peer, message.detail)
        shown = self._access.shown(peer, event.job)
        return replace(message, job=shown, detail=detail if sight == "all" else "")

    def _then(self, key: str, at: float) -> Job | PastJob | None:
        """Return the job of that key that something happened to then; None where nothing is known of it."""
        job = self._jobs().get(key)
        if job is not None and at >= job.created_at:
            return job
        past = self._past(key)
        return past if past is not None and at >= past.since else None

    # --- words --------------------------------------------------------------------------------

    def _told(self, peer: Peer, value: Any) -> Any:
        """Return a message, or what is in it, with the names in its sentences as this peer knows them."""
        if isinstance(value, str):
            return self._text(peer, value)
        if isinstance(value, tuple):
            return tuple(self._told(peer, one) for one in value)
        if isinstance(value, msgspec.Struct):
            record: Any = value
            fields = [name for name in value.__struct_fields__ if name not in _NO_WORDS]
            return replace(record, **{name: self._told(peer, getattr(record, name)) for name in fields})
        return value

    def _text(self, peer: Peer, text: str) -> str:
        user = self._access.user(peer)
        return _WORD.sub(lambda found: self._word(peer, user, found[0]), text) if user else text

    def _word(self, peer: Peer, user: str, said: str) -> str:
        word = said.rstrip(".")
        if word.startswith(f"{user}/"):
            return _without(user, said)
        if word not in self._jobs():
            return said
        told = _HIDDEN if self._sight(peer, word) == "none" else self._access.shown(peer, word)
        return told + said[len(word) :]


# Of another user's job: its state, progress and use. All else may hold paths, names or words, and a field
# that somebody adds is not seen until it stands here.


def _row_of_another(row: api.JobRow, name: str) -> api.JobRow:
    return api.JobRow(
        name=name,
        user=row.user,
        state=row.state,
        since_s=row.since_s,
        depth=row.depth,
        bytes_freed=row.bytes_freed,
        pausable=row.pausable,
        step=row.step,
        num_steps=row.num_steps,
        epoch=row.epoch,
        num_epochs=row.num_epochs,
        steps_per_s=row.steps_per_s,
        eta_s=row.eta_s,
        cpu_pct=row.cpu_pct,
        rss_bytes=row.rss_bytes,
        checkpoint_step=row.checkpoint_step,
        checkpoint_age_s=row.checkpoint_age_s,
        wake_in_s=row.wake_in_s,
        restart_in_s=row.restart_in_s,
        late=row.late,
        priority=row.priority,
        protected=row.protected,
        ended=row.ended,
    )


def _show_of_another(shown: api.ShowReply, row: api.JobRow) -> api.ShowReply:
    return api.ShowReply(
        id=shown.id,
        row=row,
        argv=(),
        cwd="",
        created_wall=shown.created_wall,
        num_gpus=shown.num_gpus,
        gpu_memory_bytes=shown.gpu_memory_bytes,
        memory_bytes=shown.memory_bytes,
        num_cpus=shown.num_cpus,
        limits=shown.limits,
        totals=shown.totals,
        depths=shown.depths,
    )


def _why_of_another(told: api.WhyReply, job: str) -> api.WhyReply:
    return api.WhyReply(
        id=told.id,
        job=job,
        state=told.state,
        summary=told.state,
        for_s=told.for_s,
        since_wall=told.since_wall,
        depth=told.depth,
        position=told.position,
        line_length=told.line_length,
        more=told.more,
    )


def _without(user: str, text: str) -> str:
    """Return words with a user's own jobs as he calls them."""
    return _WORD.sub(lambda found: found[0].removeprefix(f"{user}/"), text) if user else text


def _num_alike(one: str, other: str) -> int:
    """Return with how many characters both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _some(found: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(one for one in found if one is not None)
