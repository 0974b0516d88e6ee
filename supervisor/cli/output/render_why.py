"""The answer to `why`, in words. Pure: what the daemon says in, lines out.

Does not cover: what is true (the daemon's policy says it), `--json`, which takes the same data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from supervisor.api import WhyReply
from supervisor.cli.output.text import Column, clean, duration, number, whole_table, wrapped
from supervisor.core import windows
from supervisor.core.jobs.states import JobState
from supervisor.core.jobs.verdict import QUEUE, QUEUE_IN_WORDS, Verdict
from supervisor.core.policy.explanation import RuleState, Share, WentOn
from supervisor.core.readings.sample import Missing, Reading

__all__ = ["hours", "measured", "reading_of", "short_why_lines", "why_lines"]

#: Fewer candidates are listed one by one.
_MAX_OTHERS = 6

#: Of what does not fit into a line.
_INDENT = "  "

_COLUMNS = (Column("NAME"), Column("STATE"), Column("SINCE", right=True), Column("WHY"))


def why_lines(answer: WhyReply, *, now_wall: float, width: int | None = None) -> list[str]:
    """Return a few sentences: where it is and by whom, what was seen, what has to happen."""
    said = (_first(answer, now_wall), *_grounds(answer), *_prospects(answer))
    lines = [clean(line) for line in said if line]
    if width is None:
        return lines
    return [part for line in lines for part in wrapped(line, width, indent=_INDENT)]


def short_why_lines(
    answers: Sequence[WhyReply], *, width: int | None = None, colour: bool = False
) -> list[str]:
    """Return a table with a line a job, more where one has no room: nothing is left out."""
    rows = [
        (clean(one.job), clean(_state(one)), duration(one.for_s), clean(_in_short(one))) for one in answers
    ]
    return whole_table(_COLUMNS, rows, width=width, colour=colour)


def reading_of(reading: Reading, unit: str) -> str:
    """Return a reading with its unit, or why there is none."""
    if isinstance(reading, Missing):
        return f"missing ({reading.why})"
    return f"{number(reading)} {unit}".rstrip()


def measured(rule: RuleState) -> Iterable[str]:
    """Return a clause for each condition of a rule as it is now."""
    for condition in rule.conditions:
        reading = condition.reading
        if condition.short:
            limits = f"short {condition.short}, clear {condition.clear}"
            yield f"{condition.what} is {reading_of(reading, condition.unit)} ({limits})"
        elif isinstance(reading, Missing):
            yield f"{condition.what}: {reading_of(reading, '')}"
        else:
            yield windows.circumstance(condition.what, "" if reading else "not")


def _state(answer: WhyReply) -> str:
    return f"{answer.state} ({answer.depth})" if answer.depth else answer.state


def _first(answer: WhyReply, now_wall: float) -> str:
    since = time.localtime(answer.since_wall)
    today = time.localtime(now_wall)
    form = "%H:%M:%S" if since[:3] == today[:3] else "%Y-%m-%d %H:%M"
    by = f" by {_who(answer)}" if answer.by else ""
    why = f": {answer.reason}" if answer.reason and answer.by_kind == "person" else ""
    when = f"since {time.strftime(form, since)} ({duration(answer.for_s)})"
    within = [words for words in (answer.context, answer.stage) if words]
    context = f", {', '.join(dict.fromkeys(within))}," if within else ""
    return f"{answer.job} is {_state(answer)}{context} {when}{by}{why}."


def _grounds(answer: WhyReply) -> Iterable[str]:
    """What led here."""
    if answer.problem:
        yield f"Problem: {answer.problem}."
    if answer.went_on is not None:
        yield _came_to_run(answer.went_on)
    verdict = answer.verdict
    if verdict is not None and answer.state in (JobState.PAUSED, JobState.PAUSING):
        yield f"It saw: {_seen(verdict)}."
        yield from _ranking(verdict, answer.job)


def _who(one: WhyReply | WentOn) -> str:
    if one.by_kind == "person":
        return one.by
    return QUEUE_IN_WORDS if one.by == QUEUE else f"rule {one.by}"


def _came_to_run(went_on: WentOn) -> str:
    words = f"{_who(went_on)} {went_on.did}" if went_on.by else went_on.did
    # A name is not made a sentence of: it stays what it is.
    words = words if went_on.by_kind == "person" else words[:1].upper() + words[1:]
    return f"{words}: {went_on.why}." if went_on.why else f"{words}."


def _seen(verdict: Verdict) -> str:
    clauses = []
    for one in verdict.evidence:
        where = f" of {one.place}" if one.place else ""
        if not one.threshold:
            clauses.append(f"{windows.circumstance(one.what)}{where}, for {duration(one.for_s)}")
            continue
        unit = f" {one.unit}" if one.unit else ""
        value = reading_of(one.reading, one.unit)
        clauses.append(f"{one.what}{where} {value} {one.threshold}{unit} for {duration(one.for_s)}")
    return " and ".join(clauses) or verdict.reason


def _ranking(verdict: Verdict, job: str) -> Iterable[str]:
    candidates = verdict.candidates
    mine = next((one for one in candidates if one.is_chosen), None)
    if mine is not None:
        yield f"It chose {mine.job}: {mine.why}."
    others = [one for one in candidates if not one.is_chosen]
    for one in others[:_MAX_OTHERS]:
        word = "came after it" if one.is_eligible else "was left alone"
        yield f"  {one.job} {word}: {one.why}"
    # The daemon may know of more than fit into its answer.
    untold = max(0, verdict.num_candidates - len(candidates))
    more = untold + len(others[_MAX_OTHERS:])
    if more:
        them = f"the first {len(candidates)}" if untold else "them"
        yield f"  and {more} more; `supervisorctl why {job} --json` lists {them}"


def _prospects(answer: WhyReply) -> Iterable[str]:
    """What is so now, and what has to happen."""
    for rule in answer.rules:
        place = f" of {rule.place}" if rule.place else ""
        state = "on" if rule.is_on else "off"
        yield f"Now: rule {rule.rule}{place} is {state}; {', '.join(measured(rule))}{_held(rule)}."
        if rule.missing:
            yield f"It keeps what it was while there is no reading: {rule.missing}."
    if answer.position is not None and answer.line_length > 1:
        yield f"It is number {answer.position} of {answer.line_length} that wait to go on."
    yield from _share_words(answer.shares)
    if answer.num_flaps:
        often = "once" if answer.num_flaps == 1 else f"{answer.num_flaps} times in a row"
        longer = f"; it waits {answer.wait_factor:g} times as long" if answer.wait_factor > 1 else ""
        yield f"It was paused soon after a return, {often}{longer}."
    if answer.wakes_in_s is not None:
        yield f"It resumes by itself in {duration(answer.wakes_in_s)}."
    if answer.deadline_in_s is not None:
        left = answer.deadline_in_s
        late = "The pause is late" if left <= 0 else f"The pause is late in {duration(left)}"
        yield f"{late}."
    for text in answer.waits_for:
        yield f"It waits: {text}."
    if answer.next and answer.next not in answer.waits_for:
        # A frozen job waits to go on as well.
        goes = answer.state in (JobState.QUEUED, JobState.PAUSED) or answer.position is not None
        yield f"{'To go on' if goes else 'Next'}: {answer.next}."


def _share_words(shares: Sequence[Share]) -> Iterable[str]:
    """Say what the user of a job has had beside others, and whose turn it is; nothing for a single user."""
    mine = next((one for one in shares if one.is_jobs), None)
    if mine is None:
        return
    all_h, weights = sum(one.slot_h for one in shares), sum(one.weight for one in shares)
    is_alone = len(shares) == 1
    of_all = "" if is_alone else f" of the {hours(all_h)}"
    of_weights = "" if is_alone else f" of {number(weights)}"
    text = (
        f"{mine.user}'s jobs have had {hours(mine.slot_h)}{of_all} slot hours that count (weight "
        f"{number(mine.weight)}{of_weights}), and have {number(mine.num_slots)} slots now"
    )
    following = next((one.user for one in shares if one.is_next), "")
    yield f"{text}; the next turn is {following}'s." if following else f"{text}."


def hours(value: float) -> str:
    """Return slot hours as people read them: seconds are nothing."""
    return number(round(value, 2))


def _held(rule: RuleState) -> str:
    if not rule.hold_s or not rule.held_s:
        return ""
    word = "clear" if rule.is_on else "short"
    return f", {word} for {duration(rule.held_s)} of {duration(rule.hold_s)}"


def _in_short(answer: WhyReply) -> str:
    by = _who(answer) if answer.by else ""
    words = [": ".join(word for word in (by, answer.reason) if word), answer.problem]
    if answer.state in (JobState.QUEUED, JobState.PAUSED):
        words += answer.waits_for[:1]
    words.append(answer.stage or answer.next)
    return "; ".join(dict.fromkeys(word for word in words if word))
