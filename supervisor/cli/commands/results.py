"""What became of a request about each job, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supervisor import api
from supervisor.cli.output.screen import as_row, data, print_json
from supervisor.cli.output.text import clean
from supervisor.client import refusal
from supervisor.errors import NotStored, SupervisorError
from trainer_shim import protocol

__all__ = ["Result", "print_results", "result_of"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request about one job; the row of `--json`."""

    job: str
    state: str = ""
    detail: str = ""
    error: str = ""
    hint: str = ""
    exit_code: int = 0

    def problem(self) -> SupervisorError:
        """Return it as the error that the command ends with."""
        return refusal(
            protocol.Refusal(error=self.error, hint=self.hint, job=self.job, exit_code=self.exit_code)
        )


def result_of(answer: api.Accepted | protocol.Refusal) -> Result:
    """Return what an answer of the daemon says."""
    if isinstance(answer, protocol.Refusal):
        return Result(job=answer.job, error=answer.error, hint=answer.hint, exit_code=answer.exit_code or 1)
    if not answer.stored:
        return Result(
            job=answer.job,
            state=answer.state,
            error=f"cannot say yet what becomes of job `{answer.job}`: the request is taken, but the daemon "
            f"{answer.detail}",
            hint="it is carried out as soon as that is mended (`kill` at once), and lost if the daemon ends "
            "before; `supervisorctl status` shows both",
            exit_code=NotStored.exit_code,
        )
    return Result(job=answer.job, state=answer.state, detail=answer.detail)


def print_results(results: Sequence[Result], *, as_json: bool) -> None:
    """Print the rows, or a line for each that went well."""
    if as_json:
        print_json([as_row(result) for result in results])
        return
    for result in results:
        if result.error:
            continue
        # A detail that begins with the state already says it.
        words = [result.detail] if result.detail.startswith(result.state) else [result.state, result.detail]
        said = "; ".join(word for word in words if word)
        line = clean(" ".join(word for word in (result.job, said) if word))
        if line:
            data(line)
