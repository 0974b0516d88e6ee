"""Commands that change jobs: run, pause, resume, stop, kill, restart, checkpoint, remove; and wait."""

from __future__ import annotations

import os
from time import monotonic
from typing import Any, get_args

import click

from supervisor import api
from supervisor.cli.commands.goals import WaitOutcome
from supervisor.cli.commands.results import Result, print_results, result_of
from supervisor.cli.commands.waiting import Interrupted, Wait, Waited, wait_for
from supervisor.cli.options import (
    DURATION,
    SIZE,
    connect,
    every_option,
    jobs_argument,
    json_option,
    limits,
    meant_jobs,
    parse_labels,
    paths,
    treatment,
    waitable,
)
from supervisor.cli.output.screen import hint, tell
from supervisor.cli.output.text import clean
from supervisor.client import Answers, Client, new_id
from supervisor.core.jobs.states import Depth, JobState
from supervisor.core.jobs.treatment import MAX_PRIORITY, AtDeadline
from supervisor.errors import SupervisorError

__all__ = ["checkpoint", "kill", "pause", "remove", "restart", "resume", "run", "set_job", "stop", "wait"]

#: Ended by SIGINT, as shells say it.
_EXIT_INTERRUPTED = 130

#: Whether these are reached shows only beside what was before.
_COMPARING = frozenset({"restart", "checkpoint"})


@click.command(
    context_settings={"allow_interspersed_args": False},
    short_help="Start a command as a new job, as this shell would.",
)
@click.option("--name", metavar="NAME", help="Name of the job; without it the next free job-N.")
@click.option("--checkpoints", metavar="DIR", type=click.Path(), help="Where its checkpoints go.")
@every_option
@click.option("--restart", type=click.Choice(["never", "on-failure"]), default="never", show_default=True)
@click.option("--cwd", metavar="DIR", type=click.Path(), help="Run it in this folder, not the present one.")
@treatment
@limits
@click.option(
    "--env",
    metavar="NAME=VALUE",
    multiple=True,
    callback=parse_labels,
    help="Set a variable for it, besides those of this shell.",
)
@click.option("--nice", type=click.IntRange(-20, 19), help="Its niceness; that of this shell.")
@click.option(
    "--log-max",
    "log_max_bytes",
    type=SIZE,
    metavar="SIZE",
    help="Cut its log when it is longer; 0: never. As the settings say, 64M.",
)
@click.option(
    "--log-files", type=click.IntRange(0, 1000), metavar="N", help="Older files of its log that are kept; 2."
)
@click.option(
    "--keep-children",
    is_flag=True,
    help="What it started besides outlives a pause to exit, a stop and a kill.",
)
@json_option
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, /, *, argv: tuple[str, ...], as_json: bool, **spec: Any) -> None:
    """Start a command as a new job, with environment, umask, limits, niceness and CPUs of this shell."""
    from supervisor.cli.commands.new_command import earlier_checkpoints, run_request

    request = run_request(argv, **spec)
    earlier = earlier_checkpoints(request)
    with connect(ctx) as client:
        accepted = client.run(request)
    result = result_of(accepted)
    print_results([result], as_json=as_json)
    if result.error:
        raise result.problem()
    if accepted.detail and accepted.state == JobState.QUEUED:
        _hint_queued(ctx, accepted.job)
    else:
        hint(f"`supervisorctl logs -f {accepted.job}` follows it, `supervisorctl status` shows how far it is")
    if earlier is not None:
        hint(
            f"it goes on from the newest checkpoint in {earlier}; for a new run choose another name or folder"
        )


@click.command(short_help="Checkpoint jobs, then make them give back what is short.")
@jobs_argument()
@click.option(
    "--depth", type=click.Choice([one.value for one in Depth]), default="hold", show_default=True,
    help="What to give back: compute; GPU memory too; everything.",
)  # fmt: skip
@click.option("--for", "for_s", type=DURATION, metavar="TIME", help="Resume by itself after 30s, 10m, 2h ...")
@click.option("--reason", metavar="TEXT", default="", help="Shown to whoever asks why it is paused.")
@click.option(
    "--deadline",
    "deadline_s",
    type=DURATION,
    metavar="TIME",
    help="Without a batch boundary in that time it is late.",
)
@click.option(
    "--at-deadline", type=click.Choice(get_args(AtDeadline)), default="wait", show_default=True,
    help="What is done when it is late.",
)  # fmt: skip
@waitable
@json_option
@click.pass_context
def pause(ctx: click.Context, /, *, jobs: tuple[str, ...], everyone: str | None, **options: Any) -> int:
    """Checkpoint jobs at their next batch boundary, then make them give back what is short."""
    meant = meant_jobs(jobs, everyone)
    request = api.PauseRequest(
        id=new_id(),
        jobs=meant.jobs,
        all=meant.all,
        all_users=meant.all_users,
        depth=Depth(options.pop("depth")),
        for_s=options.pop("for_s"),
        reason=options.pop("reason"),
        deadline_s=options.pop("deadline_s"),
        at_deadline=options.pop("at_deadline"),
    )
    return _change(ctx, "pause", request, **options)


def _verb(kind: type[api.JobsRequest], name: str, text: str) -> click.Command:
    """Return a command that takes jobs and waits, and nothing else."""

    @click.command(name, help=text, short_help=text)
    @jobs_argument()
    @waitable
    @json_option
    @click.pass_context
    def verb(ctx: click.Context, /, *, jobs: tuple[str, ...], everyone: str | None, **options: Any) -> int:
        meant = meant_jobs(jobs, everyone)
        request = kind(id=new_id(), jobs=meant.jobs, all=meant.all, all_users=meant.all_users)
        return _change(ctx, name, request, **options)

    return verb


resume = _verb(api.ResumeRequest, "resume", "Let paused jobs go on; start a queued one now.")
stop = _verb(api.StopRequest, "stop", "End jobs after a checkpoint; `restart` goes on from it.")
kill = _verb(api.KillRequest, "kill", "End jobs at once, without a checkpoint.")


@click.command(short_help="Start the commands of jobs anew, from their checkpoints.")
@jobs_argument()
@click.option("--env-from-here", is_flag=True, help="With the environment of this shell from now on.")
@waitable
@json_option
@click.pass_context
def restart(
    ctx: click.Context, /, *, jobs: tuple[str, ...], everyone: str | None, env_from_here: bool, **options: Any
) -> int:
    """Start the commands of jobs anew, from their checkpoints."""
    from supervisor.cli.commands.new_command import check_environment
    from supervisor.core.jobs.treatment import inherited

    env = inherited(os.environ) if env_from_here else None
    check_environment(env or {})
    meant = meant_jobs(jobs, everyone)
    request = api.RestartRequest(
        id=new_id(), jobs=meant.jobs, all=meant.all, all_users=meant.all_users, env=env
    )
    return _change(ctx, "restart", request, **options)


checkpoint = _verb(
    api.CheckpointRequest, "checkpoint", "Checkpoint jobs at their next batch boundary and go on."
)


@click.command()
@jobs_argument()
@json_option
@click.pass_context
def remove(ctx: click.Context, *, jobs: tuple[str, ...], everyone: str | None, as_json: bool) -> int:
    """Forget jobs that are over. Their checkpoints stay."""
    meant = meant_jobs(jobs, everyone)
    request = api.RemoveRequest(id=new_id(), jobs=meant.jobs, all=meant.all, all_users=meant.all_users)
    return _change(ctx, "remove", request, wait=False, timeout=None, as_json=as_json)


@click.command("set", short_help="Change how jobs are treated, and how often they save.")
@jobs_argument()
@click.option(
    "--priority",
    type=click.IntRange(-MAX_PRIORITY, MAX_PRIORITY),
    help="Higher yields later and returns earlier.",
)
@click.option("--protect/--no-protect", "protected", default=None, help="Whether rules leave it alone.")
@click.option(
    "--label", "labels", metavar="KEY=VALUE", multiple=True, callback=parse_labels,
    help="Add a label; an empty value takes it away.",
)  # fmt: skip
@every_option
@click.option("--no-every", is_flag=True, help="Save only when that is asked, or the script does.")
@json_option
@click.pass_context
def set_job(
    ctx: click.Context, /, *, jobs: tuple[str, ...], everyone: str | None, as_json: bool, **changes: Any
) -> int:
    """Change how jobs are treated by rules and in the queue, and how often they save."""
    if changes["every_s"] is not None and changes["no_every"]:
        raise click.UsageError("cannot take both --every and --no-every")
    values = (changes["priority"], changes["protected"], changes["every_s"])
    if not (changes["labels"] or changes["no_every"]) and values == (None, None, None):
        raise click.UsageError("cannot tell what to change: give --priority, --protect, --label or --every")
    meant = meant_jobs(jobs, everyone)
    request = api.SetRequest(
        id=new_id(),
        jobs=meant.jobs,
        all=meant.all,
        all_users=meant.all_users,
        priority=changes["priority"],
        protected=changes["protected"],
        labels=changes["labels"],
        every_s=changes["every_s"],
        no_every=changes["no_every"],
    )
    return _change(ctx, "set", request, wait=False, timeout=None, as_json=as_json)


@click.command(short_help="Wait until jobs are over, or paused, or running.")
@jobs_argument()
@click.option(
    "--for", "goal", type=click.Choice(["completed", "paused", "running", "over"]), default="completed",
    show_default=True, help="What to wait for; every one of them ends when the job is over.",
)  # fmt: skip
@click.option("--timeout", type=DURATION, metavar="TIME", help="Give up after 30s, 10m, 2h ...")
@json_option
@click.pass_context
def wait(
    ctx: click.Context,
    *,
    jobs: tuple[str, ...],
    everyone: str | None,
    goal: str,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Wait until jobs are over; succeeds when all of them completed, or did what --for says."""
    meant = meant_jobs(jobs, everyone)
    with connect(ctx) as client:
        # Those of others are told as USER/NAME.
        names = meant.jobs or tuple(
            row.name for row in client.status().rows if meant.all_users or "/" not in row.name
        )
        try:
            waited = wait_for(client, names, Wait(goal, timeout, asked_at=monotonic()))
        except Interrupted:
            tell("interrupted: nothing was changed, the jobs go on")
            return _EXIT_INTERRUPTED
    results = [_seen(job, verdict, waited) for job, verdict in waited.verdicts.items()]
    if waited.pending:
        late = _timed_out(waited, timeout, "raise --timeout, or ask again later; the jobs go on")
        print_results([*results, *_unreached(waited, late)], as_json=as_json)
        raise late
    print_results(results, as_json=as_json)
    for result in results:
        if result.exit_code:
            hint(_facts(result.job))
    return max((result.exit_code for result in results), default=0)


def _seen(job: str, verdict: WaitOutcome, waited: Waited) -> Result:
    return Result(
        job=job, state=waited.rows[job].state, detail=verdict.text, exit_code=0 if verdict.ok else 1
    )


def _change(
    ctx: click.Context,
    verb: str,
    request: api.JobsRequest,
    *,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Ask, wait where wanted, print a line a job, and end with everything that went wrong."""
    if timeout is not None and not wait:
        raise click.UsageError("cannot use --timeout without --wait")
    with connect(ctx) as client:
        compares = wait and verb in _COMPARING
        before = {row.name: row for row in client.status().rows} if compares else {}
        asked_at = monotonic()
        answers = client.ask_jobs(request)
        results = [result_of(answer) for answer in answers]
        late: list[SupervisorError] = []
        if verb == "restart":
            for result in results:
                _tell_queued(ctx, result, is_printed=not wait and not as_json)
        if wait:
            plan = Wait(verb, timeout, asked_at, before)
            try:
                results, late = _wait_for(client, answers, plan)
            except Interrupted as interrupted:
                pending = ", ".join(f"`{job}`" for job in interrupted.waited.pending)
                how = "`supervisorctl status` shows how it goes on"
                tell(f"interrupted: the {verb} request stands for {pending}; {how}")
                return _EXIT_INTERRUPTED
    print_results(results, as_json=as_json)
    told = {str(error) for error in late}
    errors = [result.problem() for result in results if result.error and result.error not in told] + late
    if errors:
        raise ExceptionGroup(f"cannot {verb} all jobs", errors)
    return 0


def _tell_queued(ctx: click.Context, result: Result, *, is_printed: bool) -> None:
    """Say what a job waits for that was to start anew."""
    if result.error or not result.detail:
        return
    if not is_printed:
        tell(clean(f"{result.job} {result.state}; {result.detail}"))
    _hint_queued(ctx, result.job)


def _hint_queued(ctx: click.Context, job: str) -> None:
    # Where there are others, that is for admins.
    is_for_all = paths(ctx).serves_all and os.geteuid() != 0
    now = "" if is_for_all else f"`supervisorctl resume {job}` starts it now, "
    hint(f"it starts by itself when that is over; {now}`supervisorctl why {job}` tells more")


def _wait_for(client: Client, answers: Answers, plan: Wait) -> tuple[list[Result], list[SupervisorError]]:
    # A kill is carried out all the same where it cannot be stored.
    under_way = [
        answer
        for answer in answers
        if isinstance(answer, api.Accepted) and (answer.stored or plan.goal == "kill")
    ]
    refused = [result_of(answer) for answer in answers if answer not in under_way]
    asked = [answer.job for answer in under_way if answer.job]
    waited = wait_for(client, asked, plan)
    reached = [_reached(plan.goal, job, verdict, waited) for job, verdict in waited.verdicts.items()]
    if not waited.pending:
        return reached + refused, []
    late = _timed_out(waited, plan.timeout_s, f"the {plan.goal} request stands")
    return reached + refused + _unreached(waited, late), [late]


def _unreached(waited: Waited, late: SupervisorError) -> list[Result]:
    """Return a row for each job that is still waited for; the one error tells of all of them."""
    states = {job: waited.rows[job].state if job in waited.rows else "" for job in waited.pending}
    return [
        Result(job=job, state=state, error=str(late), hint=late.hint, exit_code=late.exit_code)
        for job, state in states.items()
    ]


def _timed_out(waited: Waited, timeout_s: float | None, stands: str) -> SupervisorError:
    doing = ", ".join(f"`{job}` is {state}" for job, state in waited.pending.items())
    first = next(iter(waited.pending))
    return SupervisorError(
        f"cannot wait any longer: after {timeout_s or 0:g} s {doing}",
        hint=f"{stands}; `supervisorctl show {first}` tells what it waits for",
    )


def _facts(job: str) -> str:
    return f"`supervisorctl show {job}` has the facts, `supervisorctl logs {job}` what it printed"


def _reached(verb: str, job: str, verdict: WaitOutcome, waited: Waited) -> Result:
    state = waited.rows[job].state
    if verdict.ok:
        return Result(job=job, state=state, detail=verdict.text)
    way_out = f"; `supervisorctl kill {job}` ends it without a checkpoint"
    return Result(
        job=job,
        state=state,
        error=f"cannot {verb} job `{job}`: {clean(verdict.text).removeprefix(f'cannot {verb}: ')}",
        hint=_facts(job) + (way_out if verb == "stop" and state == JobState.RUNNING else ""),
        exit_code=1,
    )
