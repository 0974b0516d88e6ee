"""What one peer can make the daemon hold is bounded, and others are answered meanwhile.

Covers: endless messages, half ones, answers that nobody takes, connections without end where few descriptors
are to be had, floods of expensive questions, files without end, shims that repeat themselves.
Does not cover: what such peers say (test_hostile_peers.py).
"""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import zmq

from supervisor import api
from supervisor.client import Client, new_id
from supervisor.server.router import Router
from supervisor.server.zmtp import MAX_PARTS, Wire, framed
from tests.harness import PYTHON, ROOT, RunningDaemon, until
from tests.trainers.flooding import LAST
from trainer_shim import protocol as wire

MIB = 1 << 20
#: Connections that half of 1024 descriptors allow.
MOST = 480
NUM_JOBS = 100


@pytest.fixture(scope="module")
def daemon():
    """One with few descriptors, for all attacks, with jobs that wait for GPUs that are not there."""
    few = ("sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh")
    with RunningDaemon(inside=few) as running:
        for number in range(NUM_JOBS):
            running.command(f"waits-{number}", "true", num_gpus=1)
        until(lambda: len(running.client.why()) == NUM_JOBS)
        yield running


def rss_bytes(daemon):
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


def num_files(daemon):
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


def num_open(peers):
    """Return how many of these were not hung up on; others that the daemon still has do not count."""
    looks = select.poll()
    for peer in peers:
        looks.register(peer, select.POLLRDHUP)
    return len(peers) - len(looks.poll(0))


def grown_bytes(daemon):
    """How long the journal and the daemon's log are by now."""
    journal = daemon.paths.journal
    files = (journal, journal.with_name(journal.name + "-wal"), daemon.home / "daemon.log")
    return sum(file.stat().st_size for file in files)


def connected(daemon, *, greets=True):
    """A peer that speaks for itself."""
    path = str(daemon.paths.run_dir / "control.sock")
    peer = socket.socket(socket.AF_UNIX)
    # A full backlog is waited for without a timeout only.
    peer.connect(path)
    peer.settimeout(30)
    if greets:
        peer.sendall(Wire(b"DEALER").opening)
    return peer


@contextmanager
def modest(daemon, *, more_bytes):
    """Meanwhile the daemon takes no more memory than that, and afterwards it is the same one."""
    before, pid = rss_bytes(daemon), daemon.client.version().pid
    highest = [before]
    over = threading.Event()

    def watch():
        while not over.wait(0.02):
            highest.append(rss_bytes(daemon))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    grown = max(highest) - before
    assert grown < more_bytes, f"grown by {grown / MIB:.0f} MiB"
    assert pid == daemon.client.version().pid


def pushed(peer, data, *, limit_bytes):
    """How many bytes of the same again and again were taken before it hung up."""
    sent = 0
    try:
        while sent < limit_bytes:
            sent += peer.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return sent
    return sent


@pytest.mark.parametrize("part", [b"", bytes(50_000)], ids=["empty", "large"])
def test_a_message_of_endless_parts_is_not_kept(daemon, part):
    """
    libzmq would keep every part until the last one comes; one connection took 735 MB that way.
    """
    with modest(daemon, more_bytes=8 * MIB), connected(daemon) as endless:
        sent = pushed(endless, framed(part, 1) * MAX_PARTS, limit_bytes=64 * MIB)
        assert daemon.row("waits-0").state == "queued"

    assert sent < 2 * MIB


@pytest.mark.parametrize(
    "question",
    [framed(wire.encode(api.StatusRequest(id="x", all=True))), framed(b"\x04PING\0\x0a" + bytes(16), 4)],
    ids=["requests", "heartbeats"],
)
def test_who_asks_and_takes_no_answer_is_not_listened_to(tmp_path, question):
    """
    It is not hung up on either: its questions wait with itself.
    """
    router = Router(f"ipc://{tmp_path}/control", f"ipc://{tmp_path}/events")
    answer = api.Accepted(id="x", job="a", state="running", detail="d" * 10_000)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(f"{tmp_path}/control")
        deaf.setblocking(False)
        rest, taken_bytes, num_stuck = Wire(b"DEALER").opening, 0, 0
        while num_stuck < 20 and taken_bytes < 64 * MIB:
            try:
                sent = deaf.send(rest)
            except BlockingIOError:
                num_stuck += 1
            else:
                rest = rest[sent:] or question * 1000
                taken_bytes, num_stuck = taken_bytes + sent, 0
            for delivery in router.receive():
                router.send(delivery.identity, answer)
        router.close()

    assert num_stuck == 20
    assert taken_bytes < 4 * MIB


def test_half_messages_of_many_do_not_add_up(daemon):
    """
    All peers together have a bound as well, which 460 with 125 KB each are beyond; whoever holds most goes.

    2026-11-29: with 110 KB from 400 it grew by 33 to 43 MiB, as the allocator liked, and 40 were allowed.
    What is held is counted exactly, and all of it would be 55 MiB.
    """
    part, num_peers = framed(bytes(65_000), 1), 460
    said = part + part[:60_000]
    with modest(daemon, more_bytes=48 * MIB), ExitStack() as stack:
        peers = [stack.enter_context(connected(daemon)) for _ in range(num_peers)]
        assert all(peer.recv(1) for peer in peers)  # The daemon greets whom it has taken.
        for peer in peers:
            with suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(said)
        assert daemon.row("waits-0").state == "queued"
        until(lambda: num_open(peers) * len(said) <= 32 * MIB)
        assert num_open(peers) > 100


def test_connections_without_end_shut_nobody_out(daemon):
    """
    1,200 of one process where 1024 descriptors are allowed: libzmq would have ended the daemon. A person
    who comes after them is answered, and told who it is.
    """
    with modest(daemon, more_bytes=32 * MIB), ExitStack() as stack:
        for _ in range(1200):
            stack.enter_context(connected(daemon, greets=False))
        said = daemon.ctl("status", "waits-0")
        files = num_files(daemon)
        answers = daemon.row("waits-0").state

    assert 0 == said.code, said
    assert f"almost all of the {MOST} connections that may be open are" in said.err
    assert f"by process {os.getpid()}" in said.err
    assert "queued" == answers
    assert MOST < files < MOST + 64
    until(lambda: num_files(daemon) < 64, lambda: num_files(daemon))


def test_where_no_descriptor_is_left_a_newcomer_takes_the_place_of_another():
    """
    libzmq ends the process that cannot accept a connection.
    """
    with (
        RunningDaemon(inside=("sh", "-c", 'ulimit -n 44 && exec "$@"', "sh")) as running,
        ExitStack() as stack,
    ):
        pid = running.pid
        for _ in range(60):
            stack.enter_context(connected(running, greets=False))
        said = until(lambda: "almost all of the 44 files" in (last := running.ctl("status")).err and last)
        answers = running.client.version().pid

    assert 0 == said.code
    assert pid == answers


def test_a_flood_of_expensive_questions_keeps_others_waiting_for_one_of_them(daemon):
    """
    `why` about all jobs is the most expensive one. Whoever asks hundreds of times waits for himself, with as
    many connections as he likes; a person who comes then is answered long before the last of them.
    """
    num_each = 25
    with zmq.Context() as context, ExitStack() as stack:
        floods = [stack.enter_context(context.socket(zmq.DEALER)) for _ in range(40)]

        def answered():
            number = 0
            for flood in floods:
                while flood.poll(0):
                    number += not api.decode(flood.recv()).more
            return number

        for flood in floods:
            flood.linger = flood.sndhwm = flood.rcvhwm = 0
            flood.connect(daemon.paths.control_endpoint)
            for _ in range(num_each):
                flood.send(wire.encode(api.WhyRequest(id=new_id())))
        until(lambda: all(flood.poll(0) for flood in floods))
        left = num_each * len(floods) - answered()
        # From this process, whose connection stands: a command takes its time to start.
        row = daemon.row("waits-0")
        meanwhile = answered()

    assert "queued" == row.state
    assert meanwhile < left // 2


def test_a_job_file_without_end_holds_nobody_up(daemon):
    """
    A hole of 600 MB was read whole, and took 5 s. It is told by name, like one that is only too long.
    """
    with modest(daemon, more_bytes=8 * MIB):
        for name, size in (("hole", 600_000_000), ("long", 300_000)):
            file = daemon.paths.jobs_dir / f"{name}.toml"
            file.touch()
            os.truncate(file, size)
        slowest_s = 0.0

        def told():
            nonlocal slowest_s
            begin = time.monotonic()
            alerts = daemon.client.status(("waits-0",)).alerts
            slowest_s = max(slowest_s, time.monotonic() - begin)
            return sum("longer than 256 KiB" in alert for alert in alerts) == 2

        until(told)
    assert slowest_s < 2


def test_many_long_job_files_hold_nobody_up():
    """
    Of 199 KB each, twenty at once took the loop for ten seconds; they are read one after the other, and
    others are answered in between, who see some of them there and others not yet. All are jobs at the end,
    and `reload` answers when all are read.
    """
    command = "true " + "a" * 199_000
    with RunningDaemon() as running:
        seen = set()
        for number in range(4):
            drop_in = running.paths.jobs_dir / f".long-{number}.toml"
            drop_in.write_text(f'command = "{command}"\ncwd = "/"\ngpus = 1\n')
            assert drop_in.stat().st_size > 190_000
            drop_in.rename(drop_in.with_name(f"long-{number}.toml"))

        def are_there():
            seen.add(len(running.client.status().rows))
            return 4 in seen

        until(are_there)
        (running.paths.jobs_dir / "bad.toml").write_text("command = 1")
        said = running.ctl("reload")

    assert len(seen) >= 3, seen
    assert (2, 1) == (said.code, said.err.count("bad.toml")), said


def test_reload_waits_as_long_as_files_are_being_read():
    """
    2026-11-29: of 20 long files it gave up after 5 s, with "cannot tell what became of the request".
    """
    command = "true " + "a" * 199_000
    begin = time.monotonic()
    shlex.split(command)
    one_s = time.monotonic() - begin
    # A file is followed by as long a rest.
    answer_s = 2 + 5 * one_s
    num_files = 3 + round(answer_s / (2 * one_s))
    said = []
    with RunningDaemon() as running:
        for number in range(num_files):
            drop_in = running.paths.jobs_dir / f"long-{number}.toml"
            drop_in.write_text(f'command = "{command}"\ncwd = "/"\ngpus = 1\n')
        with Client(running.paths, answer_s=answer_s) as client:
            begin = time.monotonic()
            answer = client.reload(said.append)
            took_s = time.monotonic() - begin
        there = running.names()

    assert answer.stored
    assert num_files == len(there)
    assert took_s > answer_s, "the files are too short to prove anything"
    assert len(said) >= 2
    assert all(re.fullmatch(r"the daemon reads its files; \d+ files? so far", one) for one in said), said


def test_subscriptions_are_not_kept_without_bound(daemon):
    """
    Long ones and many are an end of the connection; the one that commands use is neither.
    """
    path = str(daemon.paths.run_dir / "events.sock")
    with modest(daemon, more_bytes=8 * MIB):
        for _ in range(100):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(path)
            peer.settimeout(30)
            peer.sendall(Wire(b"SUB").opening)
            with suppress(OSError):
                for number in range(MAX_PARTS):
                    peer.sendall(framed(b"\x01" + b"%02d" % number + bytes(60_000)))
            # It says its greeting first, then nothing more.
            with suppress(OSError):
                while peer.recv(1 << 16):
                    pass
            peer.close()


@pytest.mark.parametrize(
    "word", ["checkpointed", "answered", "yielded", "cannot-yield", "heartbeat", "hello", "nobody"]
)
def test_a_shim_that_repeats_itself_does_not_fill_the_journal(daemon, word):
    """
    Reports of checkpoints took 129 MB in ten seconds. The newest one counts, whatever came before it, and
    others are answered meanwhile.
    """
    job, flood_s = f"floods-{word}", 1.0
    before_bytes = grown_bytes(daemon)
    daemon.command(job, PYTHON, str(ROOT / "tests/trainers/flooding.py"), word, f"{flood_s}")
    slowest_s = 0.0

    def is_over():
        nonlocal slowest_s
        begin = time.monotonic()
        row = daemon.row(job)
        slowest_s = max(slowest_s, time.monotonic() - begin)
        return row.checkpoint_step == LAST

    until(is_over, lambda: [daemon.row(job), daemon.job_log(job)])
    stored = len(daemon.events(job))
    more_bytes = grown_bytes(daemon) - before_bytes
    daemon.ask(api.KillRequest, job)
    daemon.until(job, "stopped")

    assert stored < 40
    assert more_bytes < MIB
    assert slowest_s < 2


def test_who_has_greeted_is_not_let_go_by_a_daemon_that_is_busy(tmp_path):
    """
    2026-11-29: of 4,000 shims that came at once, some were gone before the daemon had listened to them. Who
    says nothing still is.
    """
    router = Router(f"ipc://{tmp_path}/control", f"ipc://{tmp_path}/events")
    with ExitStack() as stack:
        stack.callback(router.close)
        peers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for peer in peers:
            peer.connect(f"{tmp_path}/control")
        peers[0].sendall(Wire(b"DEALER").opening)
        # It has accepted and read, and come no further.
        until(lambda: router._connections.poll() and router.has_more())
        for connection in router._connections.all.values():
            connection.heard_at -= 3600
        router.look_after()
        left = [connection.wire for connection in router._connections.all.values()]
        received = list(router.receive())

        assert [True] == [wire.is_ready for wire in left]
        assert [] == received
