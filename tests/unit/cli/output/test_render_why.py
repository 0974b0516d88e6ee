"""What `why` and `policy` say to people: pure, from fixed answers."""

import time

import pytest
from msgspec.structs import replace

from supervisor import api
from supervisor.cli.output.render_policy import changes, report_lines, rule_lines, share_lines, timeline_lines
from supervisor.cli.output.render_why import short_why_lines, why_lines
from supervisor.cli.output.text import width_of
from supervisor.core.jobs.states import Depth
from supervisor.core.jobs.verdict import Candidate, Evidence, Verdict
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.explanation import ConditionState, RuleState, Share, WentOn
from supervisor.core.policy.rules import PolicyConfig, Settings
from supervisor.core.policy.simulation import Happening, JobReport, SimulationReport
from supervisor.core.readings.sample import Missing

WALL = time.mktime((2026, 11, 22, 14, 5, 0, 0, 0, -1))
NOW = RuleState(
    rule="cpu-foreign",
    is_on=True,
    side="clear",
    conditions=(
        ConditionState(
            what="cpu_foreign_pct", unit="%", reading=12.0, short="> 50", clear="< 20", side="clear"
        ),
    ),
    for_s=180.0,
    held_s=60.0,
    hold_s=180.0,
    jobs=("night", "day"),
)
PAUSED = api.WhyReply(
    job="night",
    state="paused",
    depth="hold",
    for_s=178.0,
    since_wall=WALL - 178,
    by="cpu-foreign",
    by_kind="rule",
    reason="cpu_foreign_pct 83 % > 50 % for 31 s",
    verdict=Verdict(
        kind="pause",
        job="night",
        rule="cpu-foreign",
        reason="cpu_foreign_pct 83 % > 50 % for 31 s",
        depth="hold",
        evidence=(Evidence(what="cpu_foreign_pct", reading=83.0, unit="%", threshold="> 50", for_s=31.0),),
        candidates=(
            Candidate(job="night", why="priority 0, frees 25 % of the CPUs", is_chosen=True),
            Candidate(job="day", why="priority 5, frees 25 % of the CPUs"),
            Candidate(job="shown", why="it is protected", is_eligible=False),
        ),
    ),
    rules=(NOW,),
    waits_for=("rule cpu-foreign is on",),
    next="cpu_foreign_pct < 20 for 180 s",
    position=2,
    line_length=3,
    num_flaps=1,
    wait_factor=2.0,
)


def test_the_answer_reads_like_one():
    """
    Where it is and since when, who wanted it, what was seen, who else was considered, what has to happen.
    """
    assert [
        "night is paused (hold) since 14:02:02 (2m 58s) by rule cpu-foreign.",
        "It saw: cpu_foreign_pct 83 % > 50 % for 31 s.",
        "It chose night: priority 0, frees 25 % of the CPUs.",
        "day came after it: priority 5, frees 25 % of the CPUs",
        "shown was left alone: it is protected",
        (
            "Now: rule cpu-foreign is on; cpu_foreign_pct is 12 % (short > 50, clear < 20), "
            "clear for 60 s of 3m 00s."
        ),
        "It is number 2 of 3 that wait to go on.",
        "It was paused soon after a return, once; it waits 2 times as long.",
        "It waits: rule cpu-foreign is on.",
        "To go on: cpu_foreign_pct < 20 for 180 s.",
    ] == [line.strip() for line in why_lines(PAUSED, now_wall=WALL)]


def test_a_persons_pause_is_told_with_who_and_why():
    """
    No rule has anything to do with it.
    """
    answer = api.WhyReply(
        job="night",
        state="paused",
        depth="exit",
        for_s=5.0,
        since_wall=WALL - 86400 * 2,
        by="ada",
        by_kind="person",
        reason="for the demo",
        next="a person resumes it: `supervisorctl resume night`",
    )

    assert [
        "night is paused (exit) since 2026-11-20 14:05 (5.0 s) by ada: for the demo.",
        "To go on: a person resumes it: `supervisorctl resume night`.",
    ] == why_lines(answer, now_wall=WALL)


def test_what_stands_in_a_jobs_own_words_cannot_steer_a_terminal():
    """
    Reasons and names come from people and scripts.
    """
    lines = why_lines(replace(PAUSED, reason="\x1b[2J", problem="a\nb\x07"), now_wall=WALL)

    assert all(line.isprintable() for line in lines)


def test_all_jobs_in_short():
    """
    A line a job: the rule or the person, and what it waits for.
    """
    running = api.WhyReply(job="day", state="running", for_s=60.0, next="nothing asks it to yield")
    lines = short_why_lines([PAUSED, running])

    assert ["NAME", "STATE", "SINCE", "WHY"] == lines[0].split()
    assert "rule cpu-foreign: cpu_foreign_pct 83 % > 50 % for 31 s; rule cpu-foreign is on" in lines[1]
    assert lines[2].endswith("nothing asks it to yield")


WORDY = replace(
    PAUSED,
    job="a-training-with-quite-a-long-name-" + "x" * 30,
    reason=" ".join(f"word-{number}" for number in range(40)),
    problem="\u8a13\u7df4 " * 40 + "y" * 130,
    next="last",
)
RUNS = api.WhyReply(job="day", state="running", for_s=60.0, next="nothing asks it to yield")


@pytest.mark.parametrize("width", [*range(20, 100, 7), 60, 80, 200, 400])
def test_nothing_of_why_is_lost_and_no_line_is_too_wide(width):
    """
    2026-11-29: at 60 columns `why` ended in three dots, and why is what was asked.
    """
    for answers in ([PAUSED, RUNS], [RUNS, WORDY], [RUNS]):
        plain = "".join("".join(short_why_lines(answers)).split())
        lines = short_why_lines(answers, width=width)

        assert width >= max(map(width_of, lines))
        assert sorted(plain) == sorted("".join("".join(lines).split()))
    for answer in (PAUSED, WORDY):
        whole, narrow = why_lines(answer, now_wall=WALL), why_lines(answer, now_wall=WALL, width=width)

        assert width >= max(map(width_of, narrow))
        assert "".join("".join(whole).split()) == "".join("".join(narrow).split())


def test_why_stands_beside_where_there_is_room_and_below_where_not():
    """
    A column of single words is none.
    """
    beside = short_why_lines([PAUSED, RUNS], width=80)
    below = short_why_lines([PAUSED, RUNS], width=60)

    assert beside[0].endswith("WHY")
    assert [" " * beside[0].index("WHY")] == list({line[: beside[0].index("WHY")] for line in beside[2:-1]})
    assert ["NAME   STATE           SINCE", "  WHY", "night  paused (hold)  2m 58s"] == below[:3]
    assert ["day    running          60 s", "  nothing asks it to yield"] == below[-2:]


BOB = Share(user="bob", slot_h=3.204, num_slots=2.0, num_waiting=4, is_jobs=True)
SHARES = (Share(user="ada", weight=2.0, slot_h=0.8, is_next=True), BOB)


def test_why_tells_what_a_user_has_had_and_whose_turn_is_next():
    """
    Beside the others, as far as they may be seen; nothing where there is one user.
    """
    waits = replace(PAUSED, state="queued", shares=SHARES)
    alone = replace(waits, shares=(replace(BOB, is_next=True),))
    said = "bob's jobs have had 3.2 of the 4 slot hours that count (weight 1 of 3), and have 2 slots now; "

    assert f"{said}the next turn is ada's." in why_lines(waits, now_wall=WALL)
    of_him = said.replace(" of the 4", "").replace(" of 3", "")
    assert f"{of_him}the next turn is bob's." in why_lines(alone, now_wall=WALL)
    for width in (60, 200):
        assert width >= max(map(width_of, why_lines(waits, now_wall=WALL, width=width)))
    assert "slot" not in "".join(why_lines(PAUSED, now_wall=WALL))


@pytest.mark.parametrize("width", [60, 200, None])
def test_policy_shows_a_line_for_each_user(width):
    """
    Who had least for his weight first.
    """
    assert [
        ["USER", "WEIGHT", "SLOT", "HOURS", "SLOTS", "WAITING", "TURN"],
        ["ada", "2", "0.8", "0", "0", "next"],
        ["bob", "1", "3.2", "2", "4", "-"],
    ] == [line.split() for line in share_lines(SHARES, width=width)]


LOST = replace(
    NOW,
    rule="gpu-hot",
    place="GPU-8f2c1a77-0b1d-4c5e-9a3f-0123456789ab",
    conditions=(
        ConditionState(what="gpu_temperature_c", reading=Missing("it is lost"), short="> 88"),
        ConditionState(what="mon-fri 09:00-18:00", reading=1.0),
    ),
    missing="it is lost",
    held_s=0.0,
    jobs=tuple(f"job-{number}" for number in range(9)),
)


def test_rules_are_shown_with_their_readings():
    """
    What is on keeps its line without a reading; a GPU goes by the first part of its UUID.
    """
    off = RuleState(rule="night-only", is_enabled=False)
    rising = replace(NOW, is_on=False, held_s=12.0, hold_s=45.0)
    lines = rule_lines([NOW, LOST, off, rising])

    for word in ("cpu-foreign", "cpu_foreign_pct", "12 %", "> 50", "< 20", "on, clear for 60 s of 3m 00s"):
        assert word in lines[1]
    assert ["gpu-hot", "GPU-8f2c1a77", "gpu_temperature_c", "missing"] == lines[2].split()[:4]
    assert "on, no reading" in lines[2]
    assert "job-3 and 5 more" in lines[2]
    assert ["mon-fri", "09:00-18:00", "yes"] == lines[3].split()[:3]
    assert "disabled" in lines[4]
    assert "off, short for 12 s of 45 s" in lines[5]


def test_rules_with_nothing_to_look_at_share_a_line_with_the_reason():
    """
    On a machine without GPUs three rows of dashes would hide the rules that count; one whose
    reading has just gone missing is no such rule.
    """
    reading = Missing("there is no driver")
    blind = [
        RuleState(rule=name, conditions=(ConditionState(what="x", reading=reading),), missing=reading.why)
        for name in ("gpu-hot", "gpu-foreign-memory")
    ]
    gone = replace(LOST, is_on=False, alarm="rule gpu-hot has no reading")
    lines = rule_lines([*blind, NOW, gone], width=55)

    assert ["RULE", "cpu-foreign", "gpu-hot"] == [line.split()[0] for line in lines[:-2] if line[0] != " "]
    assert ["not watched: gpu-hot, gpu-foreign-memory: there is no", "  driver"] == lines[-2:]


def of_disk(job, free_gib=40.0, **fields):
    condition = ConditionState(what="disk_free_gib", unit="GiB", reading=free_gib, short="< 5", clear="> 8")
    fields = {"conditions": (condition,), "near_pct": 0.0} | fields
    return RuleState(rule="disk-full", place=job, jobs=(job,), **fields)


def test_jobs_that_write_to_one_disk_share_a_row():
    """
    The same reading stands there once, with the number of jobs; one whose disk has another is told apart.
    """
    same = [of_disk(f"job-{number}", 40.0 + number / 1e6) for number in range(6)]
    lines = rule_lines([*same[:3], of_disk("far", 7.0, near_pct=33.0), *same[3:]])

    assert 3 == len(lines)
    assert ["disk-full", "6", "jobs", "disk_free_gib", "40", "GiB"] == lines[1].split()[:6]
    assert lines[1].endswith("job-0 job-1 job-2 job-3 and 2 more")
    assert ["disk-full", "far"] == lines[2].split()[:2]


def test_jobs_that_differ_in_what_a_rule_does_keep_their_rows():
    """
    The same reading may mean two things: one was there when it became short, the other has just come.
    """
    lines = rule_lines(
        [of_disk("old", 4.0, is_on=True, for_s=90.0), of_disk("new", 4.0, held_s=2.0, hold_s=10.0)]
    )

    assert ["old", "new"] == [line.split()[1] for line in lines[1:]]


def test_a_rule_that_reads_nothing_of_many_jobs_is_named_once():
    """
    The line with the reason stays one that can be read.
    """
    blind = [of_disk(f"job-{number}", missing="not measured yet") for number in range(6)]

    assert ["not watched: disk-full of job-0 job-1 job-2 job-3 and 2 more: not measured yet"] == rule_lines(
        blind
    )


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (Settings(rules=DEFAULT_RULES), []),
        (Settings(rules=DEFAULT_RULES[1:]), [f"rule {DEFAULT_RULES[0].name}: gone"]),
        (
            Settings(rules=(replace(DEFAULT_RULES[0], pause_after_s=77.0), *DEFAULT_RULES[1:])),
            [f"rule {DEFAULT_RULES[0].name}: pause_after_s: {DEFAULT_RULES[0].pause_after_s:g} -> 77"],
        ),
        (
            Settings(rules=DEFAULT_RULES, policy=PolicyConfig(enabled=False)),
            ["[policy] enabled: true -> false"],
        ),
    ],
    ids=["nothing", "gone", "changed", "section"],
)
def test_what_a_file_would_change_is_told_key_by_key(after, says):
    """
    Before it is put in force.
    """
    assert says == changes(Settings(rules=DEFAULT_RULES), after)


RAN = api.WhyReply(job="night", state="running", for_s=5.0, since_wall=WALL - 5)


@pytest.mark.parametrize(
    ("went_on", "says"),
    [
        (WentOn("ada", "person", "let it go on"), "ada let it go on."),
        (WentOn("queue", "rule", "started it", "it fits"), "The queue started it: it fits."),
        (
            WentOn("busy", "rule", "let it go on", "rule busy is over, and it fits"),
            "Rule busy let it go on: rule busy is over, and it fits.",
        ),
        (WentOn(did="its time was over"), "Its time was over."),
    ],
)
def test_who_let_it_go_on_is_one_sentence(went_on, says):
    """
    And no verdict of long ago speaks for it.
    """
    assert says == why_lines(replace(RAN, went_on=went_on, verdict=PAUSED.verdict), now_wall=WALL)[1]
    assert 1 == len(why_lines(RAN, now_wall=WALL))


def test_why_after_a_preemption_names_who_was_chosen_and_for_whom():
    """
    The queue is no rule; the ranking is that of whom it could have asked.
    """
    verdict = replace(
        PAUSED.verdict, rule="queue", evidence=(), reason="makes room for high, of higher priority"
    )
    answer = replace(PAUSED, by="queue", rules=(), verdict=verdict)
    lines = why_lines(answer, now_wall=WALL)

    assert "night is paused (hold) since 14:02:02 (2m 58s) by the queue." == lines[0]
    assert "It saw: makes room for high, of higher priority." == lines[1]
    assert "It chose night: priority 0, frees 25 % of the CPUs." == lines[2]
    assert "the queue: " in short_why_lines([answer])[1]


def test_what_happens_inside_the_state_stands_with_it():
    """
    Also in short; a pause that is under way has a next, and waits for nothing to go on.
    """
    answer = replace(
        RAN, state="pausing", depth="hold", stage="saving", next="its checkpoint becomes durable"
    )

    assert [
        "night is pausing (hold), saving, since 14:04:55 (5.0 s).",
        "Next: its checkpoint becomes durable.",
    ] == why_lines(answer, now_wall=WALL)
    assert short_why_lines([answer])[1].endswith("saving")


def test_more_than_were_sent_are_counted():
    """
    2026-11-28: of 300 candidates 40 came, and "34 more" was said; of 300 jobs 100, and "96 more".
    """
    others = tuple(Candidate(job=f"job-{number}", why="priority 0") for number in range(40))
    verdict = replace(PAUSED.verdict, candidates=others, num_candidates=300)
    (more,) = [one for one in why_lines(replace(PAUSED, verdict=verdict), now_wall=WALL) if " more" in one]
    few = replace(verdict, candidates=others[:9], num_candidates=0)
    (less,) = [one for one in why_lines(replace(PAUSED, verdict=few), now_wall=WALL) if " more" in one]
    jobs = tuple(f"job-{number}" for number in range(100))
    (_, line) = rule_lines([replace(NOW, jobs=jobs, num_jobs=300)])

    assert "and 294 more; `supervisorctl why night --json` lists the first 40" == more.strip()
    assert "and 3 more; `supervisorctl why night --json` lists them" == less.strip()
    assert line.endswith("job-3 and 296 more")


DEFAULTS = [
    RuleState(
        rule=rule.name,
        conditions=tuple(
            ConditionState(what=one.metric, reading=12.0, short="> 50", clear="< 20") for one in rule.when
        ),
        jobs=("night", "day"),
    )
    for rule in DEFAULT_RULES
]


def test_sixty_columns_leave_out_nothing_that_a_rule_looks_at():
    """
    Metric, reading and thresholds stand on a line of their own; a wide terminal has one line for all.
    """
    narrow, wide = rule_lines(DEFAULTS, width=60), rule_lines(DEFAULTS, width=200)

    assert max(map(len, narrow)) <= 60
    assert ["RULE", "STATE", "JOBS"] == narrow[0].split()
    assert ["METRIC", "NOW", "PAUSES", "AT", "CLEARS", "AT"] == narrow[1].split()
    assert ["host-memory", "off,", "0", "%", "near", "night", "day"] == narrow[2].split()
    for rule in DEFAULT_RULES:
        for condition in rule.when:
            assert [condition.metric, "12", ">", "50", "<", "20"] in [line.split() for line in narrow]
    assert 1 + sum(len(rule.when) for rule in DEFAULT_RULES) == len(wide)
    assert "METRIC" in wide[0]
    assert "RULE" in rule_lines(DEFAULTS, width=60, colour=True)[0]


def test_gpus_that_are_lost_for_one_reason_share_a_row():
    """
    Eight GPUs and three rules are three rows; one that is on among others that are off is told apart.
    """
    blind = [
        replace(LOST, rule=rule, place=f"GPU-{number}", is_on=False, alarm="lost", jobs=(f"j{number}",))
        for rule in ("gpu-hot", "gpu-busy")
        for number in range(8)
    ]
    lines = [line for line in rule_lines([*blind, replace(blind[0], is_on=True)]) if line[0] != " "]

    assert [
        ["gpu-hot", "8", "GPUs"],
        ["gpu-busy", "8", "GPUs"],
        ["gpu-hot", "GPU-0", "gpu_temperature_c"],
    ] == [line.split()[:3] for line in lines[1:]]
    assert "j0 j1 j2 j3 and 4 more" in lines[1]


def test_a_trial_fits_on_sixty_columns():
    """
    Every verdict with its rule and its reason, and for each job how often it was paused and in vain.
    """
    verdict = Happening(
        WALL, "night", "pause", "gpu-foreign-process", "cpu_foreign_pct 81 % > 50 %", Depth.HOLD
    )
    day = JobReport(name="night", paused_s=80000.0, ran_s=80000.0, queued_s=80000.0, needless_s=4000.0)
    report = SimulationReport(duration_s=1.0, num_samples=1, jobs={"night": day}, timeline=[verdict])
    timeline, jobs = timeline_lines([verdict], width=60), report_lines(report, width=60)

    assert max(map(len, timeline + jobs)) <= 60
    assert "  gpu-foreign-process  cpu_foreign_pct 81 % > 50 %" == timeline[3]
    assert {"PAUSED", "PAUSES", "FLAPS", "LATE", "NEEDLESS"} <= {*jobs[0].split()}
    assert 2 == len(timeline_lines([verdict], width=200))
