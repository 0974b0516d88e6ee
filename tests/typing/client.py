"""The client of the daemon as a program of ours uses it; type-checked, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

from supervisor import api
from supervisor.client import Answers, Client, Policy, Status, Watch, new_id, refusal
from supervisor.errors import NoDaemon, SupervisorError
from supervisor.paths import Paths
from trainer_shim import protocol


def looking(paths: Paths) -> list[str]:
    with Client(paths, connect_s=1.0, answer_s=2.0) as client:
        assert_type(client, Client)
        assert_type(client.status(), Status)
        assert_type(client.status(("night",)).rows, list[api.JobRow])
        assert_type(client.show("night"), api.ShowReply)
        assert_type(client.why(), list[api.WhyReply])
        assert_type(client.policy(), Policy)
        assert_type(client.policy().settling, str)
        assert_type(client.samples(after_wall=0.0, before_wall=1.0), Iterator[bytes])
        assert_type(client.version(), api.VersionReply)
        assert_type(client.events(job="night", limit=10), list[api.Event])
        return [client.socket_path, *(event.job for event in client.follow())]


def acting(client: Client) -> list[str]:
    run = api.RunRequest(id=new_id(), argv=("train",), cwd="/", env={})
    assert_type(client.run(run), api.Accepted)
    assert_type(client.reload(print), api.Accepted)
    answers = client.ask_jobs(api.PauseRequest(id=new_id(), jobs=("night",), reason="lunch"))
    assert_type(answers, Answers)
    assert_type(answers[0], api.Accepted | protocol.Refusal)
    client.close()
    return [str(refusal(one)) if isinstance(one, protocol.Refusal) else one.job for one in answers]


def waiting(client: Client) -> float:
    watch = client.watch(("night",))
    assert_type(watch, Watch)
    try:
        assert_type(watch.poll(0.5), list[api.JobRow])
    except NoDaemon as error:
        assert_type(error.hint, str)
    except SupervisorError as error:
        return error.exit_code
    return watch.silent_s


def wrong(client: Client) -> None:
    client.show(None)  # type: ignore[arg-type]
    client.status("night")  # type: ignore[arg-type]
    client.samples(0.0, 1.0)  # type: ignore[call-arg]
    client.run(api.StatusRequest(id="1"))  # type: ignore[arg-type]
    client.ask_jobs(api.RunRequest(id="1", argv=(), cwd="/", env={}))  # type: ignore[arg-type]
    client.pause("night")  # type: ignore[attr-defined]
