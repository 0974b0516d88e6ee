"""One synchronous client: the only way to the daemon for the command line and the web page.

Covers: connecting, asking, waiting for answers, watching jobs, following events; what the
daemon refuses comes out as an error of `supervisor.errors`.
Does not cover: what is printed, and what a waiting command waits for (cli/).

Nothing here retries a request that changes something: an answer that does not
come leaves it open whether the daemon took it, and the error says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import zmq

from supervisor import api
from supervisor.core.policy.explanation import RuleState, Share
from supervisor.errors import NoDaemon, Refused, Unanswered
from supervisor.frames import decode, encode, next_event, not_an_answer, refusal
from supervisor.paths import Paths
from supervisor.set_aside import SetAside
from trainer_shim import protocol
from trainer_shim.safe_files import Unsafe
from trainer_shim.server_check import SOCKET_FOLDER, Server

__all__ = ["Answers", "Client", "Policy", "Status", "Watch", "new_id", "refusal"]

#: A listening socket takes a connection at once; longer means that nobody serves it.
CONNECT_S: Final = 0.3
#: A daemon that is busy with a slow disk still answers within that time.
ANSWER_S: Final = 5.0
#: While an answer is awaited, look this often whether somebody still listens.
_LOOK_S: Final = 0.5
#: The daemon forgets a watcher that was silent for 10 s.
_WATCH_REPEAT_S: Final = 2.0
#: Without an event for that long, ask for what a lost connection may have swallowed.
_EVENT_SILENCE_S: Final = 3.0
_BUSY: Final = "it is busy, stopped (SIGSTOP) or of another version; its log says more"
#: As many stored events as one request may ask for.
_EVENTS_PAGE: Final = 1000

Answers = list[api.Accepted | protocol.Refusal]

T = TypeVar("T")


class Status(NamedTuple):
    """Rows of jobs, and what the daemon itself has to complain about."""

    rows: list[api.JobRow]
    alerts: list[str]
    #: What it could not use and does without: files, jobs, sensors; empty: nothing.
    aside: list[SetAside]


class Policy(NamedTuple):
    """Every rule at every place, and what is in force."""

    rules: list[RuleState]
    #: What has to show its effect first, or ""; JSON of `core.rules.Settings`; what each user had.
    settling: str
    settings: str
    shares: tuple[Share, ...] = ()


_LOOK_LATER = "`supervisorctl status` shows what it took, when it is back"
_CHANGING = (api.JobsRequest, api.RunRequest, api.ReloadRequest)
_LOOKING = (api.StatusRequest, api.WatchRequest)


def new_id() -> str:
    """Return an id that no other request has."""
    return os.urandom(8).hex()


class Client:
    """A connection to the daemon. Use it from one thread, as a context manager.

    Making one raises NoDaemon when nobody listens and Refused when the socket may not be
    used. Every method raises NoDaemon when no answer comes in time, UsageError for a request that cannot be
    sent, and the daemon's refusals as refusal() says.
    """

    def __init__(self, paths: Paths, *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S) -> None:
        self._start_hint = paths.start_hint
        # A command that a job runs, in a user namespace of its own, knows the folder as the job's shim does.
        self._server = Server(paths.control_endpoint, os.environ.get(SOCKET_FOLDER, ""))
        self._events_endpoint = paths.events_endpoint
        self._connect_s = connect_s
        self._answer_s = answer_s
        #: The last request changes something, so without an answer nobody knows whether it was done.
        self._may_change = False
        self._look()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        # Nothing is queued for a daemon that is away: a watch repeated meanwhile would arrive many times.
        self._socket.set(zmq.IMMEDIATE, 1)
        self._socket.set(zmq.RECONNECT_IVL, 10)  # Soon again, where somebody fills the daemon's queue.
        self._socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.connect(self._server.endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; what was asked stands."""
        self._context.destroy(linger=0)

    @property
    def socket_path(self) -> str:
        """The socket that is looked at."""
        return self._server.endpoint.removeprefix("ipc://")

    def run(self, request: api.RunRequest) -> api.Accepted:
        """Start a command as a new job."""
        return self._expect(request, api.Accepted)

    def ask_jobs(
        self, request: api.JobsRequest | api.ReloadRequest, say: Callable[[str], object] = str
    ) -> Answers:
        """Ask something of several jobs, or files; returns one answer for each, refusals included."""
        self._send(request)
        answers: Answers = []
        while True:
            reply = self._receive(request.id)
            if not isinstance(reply, api.Accepted | protocol.Refusal):
                raise not_an_answer(reply)
            if isinstance(reply, api.Accepted) and reply.under_way:
                say(reply.detail)
                continue
            answers.append(reply)
            if reply.last:
                return answers

    def status(self, jobs: tuple[str, ...] = ()) -> Status:
        """Return the rows of the jobs named, or of all."""
        request = api.StatusRequest(id=new_id(), jobs=jobs, all=not jobs)
        self._send(request)
        status = Status([], [], [])
        while True:
            reply = self._take(request.id, api.JobRows)
            status.rows.extend(reply.rows)
            status.alerts.extend(reply.alerts)
            status.aside.extend(reply.aside)
            if not reply.more:
                return status

    def show(self, job: str) -> api.ShowReply:
        """Return everything about one job."""
        return self._expect(api.ShowRequest(id=new_id(), job=job), api.ShowReply)

    def why(self, job: str | None = None) -> list[api.WhyReply]:
        """Return why a job is where it is, or of all jobs in short."""
        request = api.WhyRequest(id=new_id(), job=job)
        self._send(request)
        answers: list[api.WhyReply] = []
        while True:
            reply = self._take(request.id, api.WhyReply)
            if reply.job:
                answers.append(reply)
            if not reply.more:
                return answers

    def policy(self) -> Policy:
        """Return the rules with their readings now, and the settings in force."""
        request = api.PolicyRequest(id=new_id())
        self._send(request)
        rules: list[RuleState] = []
        while True:
            reply = self._take(request.id, api.PolicyReply)
            rules.extend(reply.rules)
            if not reply.more:
                return Policy(rules, reply.settling, reply.settings, reply.shares)

    def samples(self, *, after_wall: float, before_wall: float) -> Iterator[bytes]:
        """Yield blocks of recorded readings that begin in between, oldest first."""
        at: float | None = after_wall
        while at is not None:
            request = api.SamplesRequest(id=new_id(), after_wall=at, before_wall=before_wall)
            reply = self._expect(request, api.SamplesReply)
            yield from reply.blocks
            at = reply.next_wall

    def reload(self, say: Callable[[str], object] = str) -> api.Accepted:
        """Make the daemon read its configuration and drop-in files now; long ones are told of meanwhile."""
        *first, last = self.ask_jobs(api.ReloadRequest(id=new_id()), say)
        if isinstance(last, api.Accepted):
            return last
        errors = [refusal(one) for one in (*first, last) if isinstance(one, protocol.Refusal)]
        raise ExceptionGroup("cannot use all files", errors) if first else errors[0]

    def version(self) -> api.VersionReply:
        """Return what the daemon is."""
        return self._expect(api.VersionRequest(id=new_id()), api.VersionReply)

    def events(self, *, job: str | None = None, after_seq: int = -1, limit: int = 100) -> list[api.Event]:
        """Return stored events after that number, oldest first; with -1 the newest `limit`."""
        request = api.EventsRequest(id=new_id(), job=job, after_seq=after_seq, limit=limit)
        self._send(request)
        events: list[api.Event] = []
        while True:
            reply = self._take(request.id, api.EventsReply)
            events.extend(reply.events)
            if not reply.more:
                return events

    def follow(self, *, job: str | None = None, limit: int = 100) -> Iterator[api.Event]:
        """Return the newest `limit` events, then each new one as it comes, once and in order; never ends.

        It subscribes before it asks for the stored ones, and asks again after a gap or a silence:
        so none is lost between the two, and none while the daemon is away.
        """
        with self._context.socket(zmq.SUB) as subscriber:
            subscriber.linger = 0
            subscriber.subscribe(b"")
            subscriber.connect(self._events_endpoint)
            stored = self.events(job=job, limit=limit)
            yield from stored
            seen = stored[-1].seq if stored else 0
            while True:
                event = next_event(subscriber, _EVENT_SILENCE_S)
                if event is not None and event.seq <= seen:
                    continue
                is_next = event is not None and event.seq == seen + 1
                fresh = [event] if event is not None and is_next else self._missed(seen, job, event)
                for each in fresh:
                    seen = each.seq
                    if job in (None, each.job):
                        yield each

    def _missed(self, seen: int, job: str | None, event: api.Event | None) -> list[api.Event]:
        """Return what is stored after `seen`, and the published event that showed the gap."""
        try:
            page = found = self.events(job=job, after_seq=seen, limit=_EVENTS_PAGE)
            while len(page) == _EVENTS_PAGE:
                page = self.events(job=job, after_seq=page[-1].seq, limit=_EVENTS_PAGE)
                found = found + page
        except NoDaemon:
            return []
        newest = found[-1].seq if found else seen
        return [*found, event] if event is not None and event.seq > newest else found

    def watch(self, jobs: tuple[str, ...] = ()) -> Watch:
        """Return the rows of these jobs, and again whenever one changes."""
        return Watch(self, jobs)

    def _look(self, *, is_busy: bool = False) -> None:
        """Raise at once when nobody can answer, or somebody who may not be told anything.

        ZeroMQ itself would wait for ever, and send to whoever is there. One that is known to be busy
        need not take a connection.
        """
        path = self.socket_path
        limit_s = 0.0 if is_busy else self._connect_s
        try:
            self._server.check(limit_s=limit_s)
        except Unsafe as error:
            as_user = "; ask another user's daemon as that user (`sudo -u USER supervisorctl ...`)"
            raise Refused(
                f"cannot trust who listens on the socket `{path}`: {error.strerror}",
                hint=error.hint + (as_user if os.geteuid() == 0 else ""),
            ) from None
        except BlockingIOError:
            if is_busy:
                return
            raise NoDaemon(
                f"cannot reach the daemon: it does not take the connection on `{path}` "
                f"within {self._connect_s:g} s",
                hint=_BUSY,
            ) from None
        except PermissionError:
            raise Refused(
                f"cannot reach the daemon: no permission to use the socket `{path}`",
                hint="is it another user's daemon? `--home` or TRAINING_SUPERVISOR_HOME choose yours",
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            raise NoDaemon(
                f"cannot reach the daemon: there is no socket `{path}`", hint=self._start_hint
            ) from None
        except OSError as error:
            raise NoDaemon(
                f"cannot reach the daemon: nobody listens on the socket `{path}` ({error})",
                hint=self._start_hint,
            ) from None

    def _expect(self, request: api.Request, kind: type[T]) -> T:
        self._send(request)
        return self._take(request.id, kind)

    def _take(self, request: str, kind: type[T]) -> T:
        reply = self._receive(request)
        if isinstance(reply, protocol.Refusal):
            raise refusal(reply)
        if not isinstance(reply, kind):
            raise not_an_answer(reply)
        return reply

    def _send(self, request: api.Request) -> None:
        frame = encode(request)
        self._may_change = isinstance(request, _CHANGING) and not isinstance(request, _LOOKING)
        if not self._socket.poll(int(self._answer_s * 1000), zmq.POLLOUT):
            raise NoDaemon(
                f"cannot reach the daemon: {self._silence('does not take the connection')}", hint=_BUSY
            )
        self._socket.send(frame)

    def _receive(self, request: str) -> Any:
        """Return the next answer to this request; answers to earlier ones are dropped."""
        deadline = monotonic() + self._answer_s
        while (left_s := deadline - monotonic()) > 0:
            if not self._socket.poll(int(min(left_s, _LOOK_S) * 1000) + 1):
                self._still_there()
                continue
            reply = decode(self._socket.recv_multipart())
            # A refusal without an id: the daemon could not even read the request.
            if reply.id == request or (isinstance(reply, protocol.Refusal) and not reply.id):
                return reply
        if self._may_change:
            raise Unanswered(
                f"cannot tell what became of the request: {self._silence('did not answer')}", hint=_LOOK_LATER
            )
        raise NoDaemon(f"cannot reach the daemon: {self._silence('did not answer')}", hint=_BUSY)

    def _still_there(self) -> None:
        try:
            self._look(is_busy=True)
        except NoDaemon as error:
            raise (Unanswered if self._may_change else NoDaemon)(
                "cannot tell what became of the request: the daemon went away before it answered",
                hint=f"{_LOOK_LATER}. {error.hint}",
            ) from None

    def _silence(self, what: str) -> str:
        return f"it listens on `{self.socket_path}` but {what} within {self._answer_s:g} s"


class Watch:
    """Rows of some jobs, and again whenever one of them changes, across restarts of the daemon."""

    def __init__(self, client: Client, jobs: tuple[str, ...]) -> None:
        self._client = client
        self._request = api.WatchRequest(id=new_id(), jobs=jobs, all=not jobs)
        self._frame = encode(self._request)
        self._repeat_at = monotonic()
        self._heard_at = monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds without a word from the daemon; it answers every few seconds while it is there."""
        return monotonic() - self._heard_at

    def poll(self, timeout_s: float) -> list[api.JobRow]:
        """Return the rows that arrived, waiting for at most that long; raises what the daemon refuses."""
        socket = self._client._socket  # noqa: SLF001  # One connection has one owner; this is its other half.
        deadline = monotonic() + timeout_s
        while True:
            now = monotonic()
            if now >= self._repeat_at:
                self._repeat(socket, now)
            wake_at = min(deadline, self._repeat_at)
            if socket.poll(max(0, int((wake_at - now) * 1000) + 1)):
                reply = decode(socket.recv_multipart())
                rows = self._rows(reply)
                if rows:
                    return rows
            if monotonic() >= deadline:
                return []

    def _repeat(self, socket: zmq.Socket[bytes], now: float) -> None:
        self._repeat_at = now + _WATCH_REPEAT_S
        try:
            socket.send(self._frame, zmq.NOBLOCK)
        except zmq.Again:
            # Not connected (yet): look again soon.
            self._repeat_at = now + 0.1

    def _rows(self, reply: Any) -> list[api.JobRow]:
        if reply.id != self._request.id:
            return []
        self._heard_at = monotonic()
        if isinstance(reply, protocol.Refusal):
            raise refusal(reply)
        return list(reply.rows) if isinstance(reply, api.JobRows) else []
