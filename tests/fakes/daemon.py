"""A daemon for tests of the client and the command line: the wire on real sockets, and no jobs behind it.

Covers: a ROUTER and a PUB socket that speak the protocol, watchers included; rows are what
the test sets. `answers` replaces the answer to one kind of request, also by bytes that are none.
Does not cover: what a request does to a job; a test says so with `change()`.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

import zmq
from msgspec.structs import replace

from supervisor import api
from supervisor.core.policy.explanation import RuleState
from supervisor.paths import Paths
from trainer_shim import protocol as wire

Answer = Callable[[Any], "list[wire.Message | bytes] | None"]


class FakeDaemon:
    """Serves from its own thread; every method may be called from the test's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = Paths.find(str(home))
        self.rows: dict[str, api.JobRow] = {}
        self.shows: dict[str, api.ShowReply] = {}
        self.alerts: tuple[str, ...] = ()
        self.events: list[api.Event] = []
        self.rules: list[RuleState] = []
        #: JSON of the policy's settings in force.
        self.settings = ""
        #: Recorded readings: Unix time of the first one, and the block.
        self.blocks: list[tuple[float, bytes]] = []
        self.requests: list[Any] = []
        #: Replaces the answer to requests of that class; None as a result: no answer.
        self.answers: dict[type, Answer] = {}
        #: Rows per message, to see that the client collects them.
        self.rows_per_message = 2
        #: Set when a subscriber has arrived; what is published earlier is lost to it.
        self.subscribed = threading.Event()
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; may be called again after stop()."""
        self.paths.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._watchers: dict[bytes, tuple[api.WatchRequest, float]] = {}
        self._wake_read, self._wake_write = os.pipe()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(self.paths.control_endpoint)
        # XPUB is PUB that tells when somebody subscribes.
        self._publisher = self._context.socket(zmq.XPUB)
        self._publisher.linger = 0
        self._publisher.bind(self.paths.events_endpoint)
        self._thread = threading.Thread(target=self._serve, name="fake-daemon")
        self._thread.start()

    def stop(self) -> None:
        """Go away, as a daemon that is restarted does."""
        if self._thread is None:
            return
        self._post(None)
        self._thread.join()
        self._thread = None
        self._context.destroy(linger=0)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def add(self, name: str, state: str, **fields: Any) -> api.JobRow:
        """Set a job's row before anybody asks."""
        fields.setdefault("since_s", 1.0)
        row = self.rows[name] = api.JobRow(name=name, state=state, **fields)
        return row

    def change(self, name: str, **fields: Any) -> None:
        """Change a row, and push it to who watches."""

        def task() -> None:
            row = self.rows[name] = replace(self.rows[name], **fields)
            self._push(row)

        self._post(task)

    def publish(self, event: api.Event, *, store: bool = True, send: bool = True) -> None:
        """Store an event and publish it; either can be left out."""

        if store:
            # At once, as a journal has it before anybody is told: a request that follows must see it.
            self.events.append(event)
        if send:
            self._post(lambda: self._publisher.send(wire.encode(event)))

    def received(self, kind: type, *, count: int = 1, within_s: float = 10.0) -> Any:
        """Return the newest request of that class, when `count` of them have come."""
        deadline = monotonic() + within_s
        while monotonic() < deadline:
            found = [request for request in self.requests if type(request) is kind]
            if len(found) >= count:
                return found[-1]
            sleep(0.005)
        raise AssertionError(f"no {count} {kind.__name__} within {within_s} s, but {self.requests}")

    def _post(self, task: Callable[[], None] | None) -> None:
        self._tasks.put(task)
        os.write(self._wake_write, b"!")

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        poller.register(self._publisher, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._wake_read in ready:
                os.read(self._wake_read, 1)
                task = self._tasks.get()
                if task is None:
                    return
                task()
            if self._publisher in ready:
                self._publisher.recv()
                self.subscribed.set()
            if self._router in ready:
                self._handle(*self._router.recv_multipart())

    def _handle(self, peer: bytes, frame: bytes) -> None:
        request = api.decode(frame)
        self.requests.append(request)
        answer = self.answers.get(type(request))
        # A verb that only takes jobs is accepted, without a line here.
        usual = getattr(self, f"_{type(request).__name__}", self._accept)
        replies = answer(request) if answer else usual(request)
        if isinstance(request, api.WatchRequest):
            self._watchers[peer] = (request, monotonic() + 10.0)
        for reply in replies or []:
            self._router.send_multipart([peer, reply if isinstance(reply, bytes) else wire.encode(reply)])

    def _push(self, row: api.JobRow) -> None:
        for peer, (request, until) in self._watchers.items():
            if monotonic() < until and (request.all or row.name in request.jobs):
                self._router.send_multipart([peer, wire.encode(api.JobRows(id=request.id, rows=(row,)))])

    def _unknown(self, request: Any, name: str, *, last: bool = True) -> wire.Refusal:
        return wire.Refusal(
            id=request.id,
            job=name,
            error=f"cannot find job `{name}`",
            hint="`supervisorctl status` lists all jobs",
            exit_code=2,
            last=last,
        )

    def _rows(self, request: Any) -> list[wire.Message]:
        names = request.jobs or tuple(self.rows)
        for name in names:
            if name not in self.rows:
                return [self._unknown(request, name)]
        rows = [self.rows[name] for name in names]
        step = self.rows_per_message
        pages = [tuple(rows[i : i + step]) for i in range(0, len(rows), step)] or [()]
        return [
            api.JobRows(
                id=request.id,
                rows=page,
                more=number < len(pages),
                alerts=self.alerts if number == len(pages) else (),
            )
            for number, page in enumerate(pages, start=1)
        ]

    _StatusRequest = _WatchRequest = _rows

    def _accept(self, request: Any) -> list[wire.Message]:
        names = request.jobs or tuple(self.rows)
        answers: list[wire.Message] = []
        for number, name in enumerate(names, start=1):
            last = number == len(names)
            if name in self.rows:
                state = self.rows[name].state
                answers.append(api.Accepted(id=request.id, job=name, state=state, last=last))
            else:
                answers.append(self._unknown(request, name, last=last))
        return answers or [api.Accepted(id=request.id, job="", state="", detail="no job it applies to")]

    def _ShowRequest(self, request: api.ShowRequest) -> list[wire.Message]:  # noqa: N802
        if request.job not in self.shows:
            return [self._unknown(request, request.job)]
        return [replace(self.shows[request.job], id=request.id)]

    def _RunRequest(self, request: api.RunRequest) -> list[wire.Message]:  # noqa: N802
        name = request.name or f"job-{len(self.rows) + 1}"
        self.add(name, "queued")
        return [api.Accepted(id=request.id, job=name, state="queued")]

    def _EventsRequest(self, request: api.EventsRequest) -> list[wire.Message]:  # noqa: N802
        found = [event for event in self.events if request.job in (None, event.job)]
        if request.after_seq < 0:
            found = found[-request.limit :]
        else:
            found = [event for event in found if event.seq > request.after_seq][: request.limit]
        return [api.EventsReply(id=request.id, events=tuple(found))]

    def _WhyRequest(self, request: api.WhyRequest) -> list[wire.Message]:  # noqa: N802
        if request.job is None:
            rows = [
                api.WhyReply(id=request.id, job=name, state=row.state, more=True)
                for name, row in self.rows.items()
            ]
            return [*rows, api.WhyReply(id=request.id)]
        if request.job not in self.rows:
            return [self._unknown(request, request.job)]
        return [api.WhyReply(id=request.id, job=request.job, state=self.rows[request.job].state)]

    def _PolicyRequest(self, request: api.PolicyRequest) -> list[wire.Message]:  # noqa: N802
        rules = [api.PolicyReply(id=request.id, rules=(rule,), more=True) for rule in self.rules]
        return [*rules, api.PolicyReply(id=request.id, settings=self.settings)]

    def _SamplesRequest(self, request: api.SamplesRequest) -> list[wire.Message]:  # noqa: N802
        left = [
            (wall, block) for wall, block in self.blocks if request.after_wall < wall < request.before_wall
        ]
        page = left[: self.rows_per_message]
        next_wall = page[-1][0] if len(page) < len(left) else None
        blocks = tuple(block for _, block in page)
        return [api.SamplesReply(id=request.id, blocks=blocks, next_wall=next_wall)]

    def _ReloadRequest(self, request: api.ReloadRequest) -> list[wire.Message]:  # noqa: N802
        return [api.Accepted(id=request.id, job="", state="", detail="2 job files read")]

    def _VersionRequest(self, request: api.VersionRequest) -> list[wire.Message]:  # noqa: N802
        return [api.VersionReply(id=request.id, version="0.1.0", pid=4711, num_jobs=len(self.rows))]
