"""`why`: the question that this whole program has to be able to answer."""

from __future__ import annotations

import sys
import time

import click

from supervisor.cli.options import connect, job_argument, json_option
from supervisor.cli.output.render_why import short_why_lines, why_lines
from supervisor.cli.output.screen import data, hint, print_json, screen, tell
from supervisor.core.jobs.states import Depth, JobState

__all__ = ["why"]


@click.command(short_help="Tell why a job is where it is, and how it goes on.")
@job_argument(required=False)
@json_option
@click.pass_context
def why(ctx: click.Context, *, job: str | None, as_json: bool) -> None:
    """Tell why a job is where it is, and what has to happen for it to go on; without JOB of all, in short."""
    with connect(ctx) as client:
        answers = client.why(job)
    if as_json:
        print_json(answers)
        return
    if job is None:
        facts = screen(sys.stdout)
        for line in short_why_lines(answers, width=facts.width, colour=facts.colour) if answers else ():
            data(line)
        if not answers:
            tell("no jobs; `supervisorctl run -- python train.py` starts one")
        return
    (answer,) = answers
    for line in why_lines(answer, now_wall=time.time(), width=screen(sys.stdout).width):
        data(line)
    if answer.state == JobState.QUEUED and answer.waits_for and answer.can_be_started:
        hint(f"you may start it all the same: `supervisorctl resume {answer.job}`")
    waits_for_turn = answer.depth == Depth.EXIT and not answer.can_be_started
    if answer.by_kind == "rule" and answer.state == JobState.PAUSED and not waits_for_turn:
        hint(f"you may overrule it: `supervisorctl resume {answer.job}`")
