"""What the owner of a machine writes down: rules, and the limits around them.

Covers: the shape of the `[policy]`, `[queue]` and `[shares]` settings and the rules, with
units and bounds. Does not cover: reading them (config.py), applying them (policy.py).

A rule is short when all its conditions are; it is over when all its levels are
clear, or one of its circumstances (clock, program, battery) is over; in between
nothing changes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from supervisor.core.jobs.treatment import AtDeadline

__all__ = ["Condition", "PolicyConfig", "QueueConfig", "Rule", "Selector", "Settings", "SharesConfig"]

_Seconds = Annotated[float, Meta(ge=0, le=30 * 86400)]
_RuleName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z",
        extra={"words": "a text of 1 to 40 small letters, digits and dashes, the first no dash"},
    ),
]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One of three: a metric with two thresholds, a window of time, a program that runs."""

    #: A name of core/readings/metrics.py, with `above` and `clear_below`, or `below` and `clear_above`.
    metric: str = ""
    above: float | None = None
    clear_below: float | None = None
    below: float | None = None
    clear_above: float | None = None
    #: Local time, e.g. "mon-fri 09:00-18:00" or "22:00-06:00".
    clock: str = ""
    #: Name of a program as `ps -o comm` shows it; not one of ours.
    program: str = ""


class Selector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Which jobs: those that match everything that is said; nothing said: all."""

    #: Shell patterns, e.g. "night-*".
    names: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """When jobs make room, how much of it, and when they come back."""

    name: _RuleName
    #: For people: what this rule is there for; "": nobody said.
    about: str = ""
    when: Annotated[tuple[Condition, ...], Meta(min_length=1, max_length=8)]
    #: It must be short for that long before a job yields, seconds.
    pause_after_s: _Seconds
    #: So long, without a break, where the job that would yield came back less than `flap_window_s` ago;
    #: less than `pause_after_s`: no longer than that.
    pause_again_after_s: _Seconds = 0.0
    #: It must be clear for that long before a job returns, seconds.
    resume_after_s: _Seconds
    #: What a job gives back; auto: the cheapest that gives back what this metric measures.
    depth: Literal["auto", "hold", "offload", "exit"] = "auto"
    jobs: Selector = Selector()
    #: A paused job is moved one depth deeper when the rule is still short after that long; None: never.
    escalate_after_s: _Seconds | None = None
    #: A pause that reaches no boundary in that time is late, seconds.
    deadline_s: _Seconds = 300.0
    at_deadline: AtDeadline = "wait"
    enabled: bool = True


class PolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When jobs yield by themselves and come back."""

    enabled: Annotated[
        bool, Meta(description="Whether rules are in force; without them paused jobs come back.")
    ] = True
    default_rules: Annotated[
        bool, Meta(description="Whether the rules below hold where no rule of the same name replaces them.")
    ] = True
    settle_s: Annotated[
        float, Meta(ge=0, le=3600, description="Time after every verdict in which no other is made. Seconds.")
    ] = 15.0
    min_run_s: Annotated[
        float,
        Meta(ge=0, le=86400, description="A job that started less than that ago is left alone. Seconds."),
    ] = 60.0
    easing_short_s: Annotated[
        float, Meta(ge=0, le=3600, description="A shortage whose mean over this time ... Seconds.")
    ] = 5.0
    easing_long_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="... is less than over this time is easing: no verdict; 0: none is. Seconds.",
        ),
    ] = 30.0
    margin_pct: Annotated[
        float, Meta(ge=0, le=90, description="A job returns only if it leaves this much below the threshold.")
    ] = 10.0
    flap_window_s: Annotated[
        float,
        Meta(
            ge=0,
            le=7 * 86400,
            description="A pause that soon after a return is a flap; as long without cancels one. Seconds.",
        ),
    ] = 600.0
    max_backoff: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Each flap doubles the time before a return, at most so many times over.",
        ),
    ] = 16
    sample_history_mib: Annotated[
        float,
        Meta(ge=0, le=4096, description="Room for recorded readings, which `policy simulate` replays. MiB."),
    ] = 64.0


class QueueConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a queued job starts."""

    max_running: Annotated[int, Meta(ge=0, le=10000, description="Jobs that run at once; 0: no limit.")] = 0
    ageing_s: Annotated[
        float,
        Meta(
            ge=0,
            le=30 * 86400,
            description="So many seconds of waiting count as one point of priority; 0: none do.",
        ),
    ] = 3600.0
    preempt: Annotated[
        bool, Meta(description="Whether a queued job may pause running ones of lower priority.")
    ] = False


class SharesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose job is next, where the daemon serves all users (root's): who has had least for his weight."""

    weights: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^(group:)?[^\s:]{1,64}\Z")],
            Annotated[float, Meta(ge=0.001, le=1e6)],
        ],
        Meta(
            max_length=1000,
            description='Parts that users have a right to, from 0.001 to 1000000: { "ada" = 2, '
            '"group:trainers" = 1.5 }. Of a user who is not named the most of his groups, else 1.',
        ),
    ] = {}
    half_life_s: Annotated[
        float,
        Meta(
            ge=60,
            le=365 * 86400,
            description="After that long what somebody had counts half as much. Seconds.",
        ),
    ] = 86400.0
    slot_cpus: Annotated[
        float,
        Meta(
            ge=0.1,
            le=10000,
            description="So many CPUs count as one slot, as a GPU does; each job counts as one at least.",
        ),
    ] = 8.0
    max_priority: Annotated[
        int,
        Meta(
            ge=-10000,
            le=10000,
            description="The most that a priority counts against jobs of others, unless an admin gave it.",
        ),
    ] = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the policy is told: rules in the order of their importance."""

    policy: PolicyConfig = PolicyConfig()
    queue: QueueConfig = QueueConfig()
    shares: SharesConfig = SharesConfig()
    rules: tuple[Rule, ...] = ()
