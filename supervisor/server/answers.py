"""Answers about the policy: why a job is where it is, how near each rule is, what was recorded.

Covers: cutting to what fits into messages. Does not cover: the answers themselves
(core/policy/explain.py), what is printed (cli/).
"""

from __future__ import annotations

import msgspec

from supervisor import api
from supervisor.core.jobs import cuda_context
from supervisor.core.jobs.job import Job
from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import Verdict
from supervisor.core.policy.explanation import Explanation, RuleState
from supervisor.core.readings.blocks import pack
from supervisor.core.replacing import replace
from supervisor.errors import Refused
from supervisor.server.request_context import RequestContext, parted
from supervisor.server.router import Delivery
from supervisor.server.rows import SAVING, UNSTORED, stage
from trainer_shim import protocol

__all__ = ["policy", "samples", "why", "why_queued"]

#: As many as somebody reads; thousands would not fit into a message.
_MAX_CANDIDATES = 40
_MAX_NAMES = 100

#: Blocks of readings in one message; the sizes of single ones are bounded where they are written.
_PAGE_BYTES = protocol.MAX_FRAME_BYTES - 8192
_PAGE = 32


def why(context: RequestContext, delivery: Delivery, request: api.WhyRequest) -> None:
    """Answer about one job in full, about all of them in short."""
    if request.job is not None:
        job = context.engine.job(request.job)
        context.send(delivery.identity, _why(context, job, context.policy_loop.explain(job.name), request.id))
        return
    explanations = list(context.policy_loop.explain_all()) if context.engine.jobs else []
    for explanation in explanations:
        answer = _why(context, context.engine.job(explanation.job), explanation, request.id)
        verdict = None if answer.verdict is None else replace(answer.verdict, candidates=())
        short = replace(answer, verdict=verdict, candidates=(), rules=answer.rules[:1], shares=())
        context.send(delivery.identity, replace(short, more=True))
    context.send(delivery.identity, api.WhyReply(id=request.id))


def why_queued(context: RequestContext, name: str) -> str:
    """Return what a new job waits for, where it has not been started at once."""
    job = context.engine.find(name)
    if job is None or job.state is not JobState.QUEUED:
        return ""
    try:
        return "; ".join(context.policy_loop.explain(name).waits_for[:1])
    except Refused:
        # Nothing has been measured yet.
        return ""


def policy(context: RequestContext, delivery: Delivery, request: api.PolicyRequest) -> None:
    """Answer with every rule at every place, and with the settings in force."""
    rules = [_with_fewer_names(state) for state in context.policy_loop.rule_states()]
    for part in parted(rules):
        context.send(delivery.identity, api.PolicyReply(id=request.id, rules=part, more=True))
    settings = msgspec.json.encode(context.engine.config.settings).decode()
    if len(settings) > _PAGE_BYTES:
        settings = ""
    last = api.PolicyReply(
        id=request.id,
        settling=context.policy_loop.settling(),
        settings=settings,
        shares=context.policy_loop.shares(),
    )
    context.send(delivery.identity, last)


def samples(context: RequestContext, delivery: Delivery, request: api.SamplesRequest) -> None:
    """Answer with as many blocks of readings as fit into one message."""
    found = context.journal.recorded(
        after_wall=request.after_wall, before_wall=request.before_wall, limit=_PAGE
    )
    blocks: list[bytes] = []
    next_wall, room = None, _PAGE_BYTES
    for stored in found:
        room -= len(stored.block)
        if room < 0:
            break
        blocks.append(stored.block)
        next_wall = stored.first
    is_last = len(blocks) == len(found) < _PAGE
    fresh = context.policy_loop.fresh(after_wall=request.after_wall, before_wall=request.before_wall)
    if is_last and fresh:
        block = pack(fresh)
        # Where it does not fit it is among the stored ones in a minute.
        blocks += [block] if len(block) <= room else []
    reply = api.SamplesReply(id=request.id, blocks=tuple(blocks), next_wall=None if is_last else next_wall)
    context.send(delivery.identity, reply)


def _why(context: RequestContext, job: Job, explanation: Explanation, request: str) -> api.WhyReply:
    now_in = stage(job, context.shims.peer(job))
    next_ = explanation.next
    if unstored := context.unstored(job):
        now_in = UNSTORED[unstored]
        next_ = "there is room on the journal's disk: `supervisorctl status` tells which"
    if now_in == SAVING and job.state is not JobState.RUNNING:
        # The core does not know that it has reached its boundary.
        next_ = "its checkpoint becomes durable"
    verdict = explanation.verdict
    return api.WhyReply(
        id=request,
        job=explanation.job,
        state=explanation.state,
        summary=explanation.summary,
        for_s=explanation.for_s,
        since_wall=context.clock.wall() - (context.clock.now() - job.since),
        depth=job.depth,
        by=explanation.by,
        by_kind=explanation.by_kind,
        reason=explanation.reason,
        went_on=explanation.went_on,
        stage=now_in,
        verdict=None if verdict is None else _with_fewer_candidates(verdict),
        rules=tuple(_with_fewer_names(state) for state in explanation.rules),
        waits_for=explanation.waits_for,
        next=next_,
        deadline_in_s=explanation.deadline_in_s,
        wakes_in_s=explanation.wakes_in_s,
        position=explanation.position,
        line_length=explanation.line_length,
        shares=explanation.shares,
        can_be_started=explanation.can_be_started,
        num_flaps=explanation.num_flaps,
        wait_factor=explanation.wait_factor,
        candidates=explanation.candidates[:_MAX_CANDIDATES],
        problem=job.problem,
        context=cuda_context.words(job),
    )


def _with_fewer_candidates(verdict: Verdict) -> Verdict:
    first = verdict.candidates[:_MAX_CANDIDATES]
    return replace(verdict, candidates=first, num_candidates=len(verdict.candidates))


def _with_fewer_names(state: RuleState) -> RuleState:
    return replace(state, jobs=state.jobs[:_MAX_NAMES])
