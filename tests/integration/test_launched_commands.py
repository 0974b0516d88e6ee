"""What a launched command finds when it starts, and who is reached when it is stopped.

Covers: log, environment, descriptors, signals, reasons, trees of real processes.
Does not cover: the launcher's contract, which its fake obeys too.
"""

import os
import select
import signal
import stat
from pathlib import Path

import msgspec
import pytest

from supervisor.core.jobs.job import Exit
from supervisor.system.procfs import read_stat
from tests.fakes.launcher_worlds import COMMAND, GUARD_S, RealWorld, ended, started, until_true


@pytest.fixture
def real(tmp_path):
    world = RealWorld(tmp_path)
    yield world
    world.clean_up()


class TestLaunchedCommands:
    """Only real processes can show these."""

    def end_of(self, real, spec):
        launcher = real.launcher()
        launcher.launch(spec)
        try:
            return ended(launcher).exit
        finally:
            launcher.close()

    def test_output_is_appended_to_a_private_log(self, real):
        """
        Both streams go to the log, behind what is there; others cannot read it.
        """
        spec = real.spec(script="echo out; echo err >&2")
        spec.log.parent.mkdir(exist_ok=True)
        self.end_of(real, spec)
        self.end_of(real, real.spec(incarnation=2, script="echo again", log=spec.log))

        assert spec.log.read_text() == "out\nerr\nagain\n"
        assert stat.S_IMODE(spec.log.stat().st_mode) == 0o600

    def test_the_command_gets_its_environment_and_nothing_else(self, real):
        """
        Two hundred variables arrive, with odd values, and none of ours.
        """
        env = {f"NAME_{number}": "=a b\n" * number for number in range(200)} | {"EURO": "\u20ac\udcff"}
        program = f"{os.environ['PATH'].split(':')[0]}:/usr/bin:/bin"
        spec = real.spec(argv=("env", "-0"), env=env | {"PATH": program})
        self.end_of(real, spec)
        seen = dict(entry.split(b"=", 1) for entry in spec.log.read_bytes().split(b"\0")[:-1])

        assert seen == {os.fsencode(k): os.fsencode(v) for k, v in spec.env.items()}

    def test_the_command_is_as_the_shell_was_that_asked(self, real):
        """
        Umask, niceness, CPUs and limits, as `run` sends them; what is not allowed is said, and it runs.
        """
        cpu = min(os.sched_getaffinity(0))
        script = "umask; nice; taskset -cp $$ | sed 's/.*: //'; ulimit -n; ulimit -c"
        words = f"umask={0o027} nice=7 cpus={cpu} limit.7=321:400 limit.4=0:0 cpus=99999"
        spec = real.spec(script=script, shell=words)
        self.end_of(real, spec)
        refused, *lines = spec.log.read_text().splitlines()

        assert ["0027", "7", str(cpu), "321", "0"] == lines
        assert "cannot set cpus=99999 as in the shell" in refused

    @pytest.mark.parametrize("name", ["nice", "umask", "cpus", "limit.7"])
    def test_a_number_that_no_system_knows_keeps_no_command_from_running(self, real, name):
        """
        2026-11-29: with a niceness of twelve digits the keeper's child ended with 127 and said nothing.
        """
        number = "9" * 30
        spec = real.spec(script="echo ran", shell=f"{name}={number}" + ":0" * (name == "limit.7"))
        self.end_of(real, spec)
        refused, ran = spec.log.read_text().splitlines()

        assert "ran" == ran
        assert f"cannot set {name}={number}" in refused

    @pytest.mark.parametrize("earlier", ["old output\n", "without an end", ""])
    @pytest.mark.parametrize("was_rotated", [False, True])
    def test_what_an_earlier_job_printed_is_set_apart(self, real, earlier, was_rotated):
        """
        2026-11-29: a new job under the name of a removed one showed its output as if it were its own.
        """
        spec = real.spec(script="echo new", log_heading="here a new job begins")
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        spec.log.write_text(earlier)
        if was_rotated:
            spec.log.with_name(f"{spec.log.name}.1").write_text("older")
        self.end_of(real, spec)
        heading = "\nhere a new job begins\n" if earlier or was_rotated else ""

        assert f"{earlier}{heading}new\n" == spec.log.read_text()

    def test_no_secret_is_on_disk_or_in_a_command_line(self, real):
        """
        Environment values are only in the memory of the command and its keeper.
        """
        launcher = real.launcher()
        spec = real.spec(script=COMMAND)
        launcher.launch(msgspec.structs.replace(spec, env=spec.env | {"TOKEN": "hush-hush"}))
        started(launcher)
        keeper = msgspec.json.decode((spec.run_dir / "claim").read_bytes())["pid"]
        shown = b"".join(Path(f"/proc/{keeper}/{name}").read_bytes() for name in ("cmdline", "environ"))
        shown += b"".join(path.read_bytes() for path in spec.run_dir.iterdir())
        launcher.close()

        assert b"hush-hush" not in shown

    def test_the_command_starts_with_a_clean_slate(self, real):
        """
        No blocked or ignored signals, no open descriptors but three, a session
        of its own, the folder that was asked for.
        """
        signals = 'grep -E "Sig(Blk|Ign)" /proc/self/status'
        # No pipe behind ls: the shell itself would hold its ends for a moment.
        script = signals + "; ls /proc/$$/fd; pwd; ps -o sid= -p $$; echo $$"
        inherited = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(inherited, True)
        spec = real.spec(script=script)
        self.end_of(real, spec)
        os.close(inherited)
        blocked, ignored, *descriptors, folder, session, own = spec.log.read_text().splitlines()

        assert int(blocked.split()[1], 16) == 0
        # Bits 31 and 32 belong to the C library and cannot be set by anybody.
        assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0
        assert descriptors == ["0", "1", "2"]
        assert folder == str(real.tmp_path)
        assert session.strip() == own

    @pytest.mark.parametrize(
        ("argv", "reason"),
        [
            ((), "the command is empty"),
            (("no-such-command",), "no such command `no-such-command`"),
            (("./no-such-file",), "no such command `./no-such-file`"),
            (("/",), "`/` is a folder"),
            (("./plain.txt",), "`{cwd}/./plain.txt` is not executable"),
            (("./broken",), "`{cwd}/./broken`: Exec format error"),
        ],
        ids=str,
    )
    def test_why_a_command_cannot_start(self, real, argv, reason):
        """
        The reason names what was looked for, as it was asked for.
        """
        (real.tmp_path / "plain.txt").write_text("text")
        (real.tmp_path / "broken").write_bytes(b"\x7fno program")
        (real.tmp_path / "broken").chmod(0o755)

        assert self.end_of(real, real.spec(argv=argv)) == Exit(
            error="cannot start: " + reason.format(cwd=real.tmp_path)
        )

    def test_a_variable_without_a_name_is_told(self, real):
        """
        No program can be given one; the job says so, instead of an exit code that means nothing.
        """
        spec = real.spec(script="true")
        spec.env[""] = "x"

        assert "illegal environment variable name" in str(self.end_of(real, spec))

    def test_a_log_folder_that_is_gone_is_named(self, real):
        """
        A job whose output has no place to go is not started.
        """
        log = real.tmp_path / 'a "folder"' / "output.log"

        assert self.end_of(real, real.spec(log=log)) == Exit(
            error=f"cannot start: cannot write log `{log}`: No such file or directory"
        )

    def test_a_run_folder_that_cannot_be_made_is_an_end(self, real):
        """
        Not even a keeper can be started: that is told like any other end.
        """
        (real.tmp_path / "file").write_text("")
        spec = real.spec(run_dir=real.tmp_path / "file" / "run")
        end = self.end_of(real, spec)
        real.specs.remove(spec)

        assert end.error == f"cannot start: no keeper for `{spec.run_dir}`: Not a directory"

    def test_commands_are_found_as_the_job_would_find_them(self, real):
        """
        PATH and working directory are the job's, not the daemon's.
        """
        program = real.tmp_path / "bin" / "mine"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nexit 42\n")
        program.chmod(0o755)

        by_path = self.end_of(real, real.spec("a", argv=("mine",), env={"PATH": "nowhere:bin"}))
        by_folder = self.end_of(real, real.spec("b", argv=("bin/mine",), env={}))

        assert [Exit(code=42), Exit(code=42)] == [by_path, by_folder]

    def test_the_whole_tree_is_reached(self, real):
        """
        Also a child in a session of its own whose parent has gone; but not the
        keeper, who writes down the end.
        """
        script = (
            "setsid sh -c 'sleep 600 & echo $! > far' & wait; sleep 600 & echo $! > near; read x < $ORDERS"
        )
        launcher = real.launcher()
        launcher.launch(real.spec(script=script))
        started(launcher)
        files = [real.tmp_path / name for name in ("far", "near")]
        until_true(lambda: all(file.exists() and file.read_text() for file in files))
        children = [os.pidfd_open(int(file.read_text())) for file in files]
        launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=True)

        assert ended(launcher).exit == Exit(signal=9)
        for child in children:
            assert select.select([child], [], [], GUARD_S)[0]
            os.close(child)
        assert (real.specs[0].run_dir / "exit.json").exists()
        launcher.close()

    def test_processes_that_detached_themselves_leave_no_zombies(self, real):
        """
        Trackers and `git gc` make a session of their own and outlive the command. They come to its keeper,
        and to the daemon when that is killed; one that runs for a year may not keep a dead process for each.
        """
        launcher = real.launcher()
        pid = real.tmp_path / "pid"
        script = f"setsid sh -c 'echo $$ > {pid}; read x < $ORDERS' & until test -s {pid}; do :; done"
        launcher.launch(real.spec(script=script))
        ended(launcher)
        child = int(pid.read_text())
        keeper = msgspec.json.decode((real.specs[0].run_dir / "claim").read_bytes())["pid"]
        was_with_keeper = read_stat(child).parent == keeper
        os.kill(keeper, signal.SIGKILL)
        until_true(lambda: read_stat(child).parent == os.getpid())
        os.kill(child, signal.SIGKILL)
        until_true(lambda: read_stat(child).state == "Z")
        launcher.launch(real.spec(incarnation=2, script="true"))
        ended(launcher)
        launcher.drain()
        is_gone = read_stat(child) is None
        launcher.close()

        assert was_with_keeper
        assert is_gone

    def test_what_a_command_leaves_behind_can_still_be_stopped(self, real):
        """
        Old ranks must not live on beside those of the next incarnation.
        """
        launcher = real.launcher()
        launcher.launch(real.spec(script="sleep 600 & echo $! > left; read code < $ORDERS; exit $code"))
        started(launcher)
        left = real.tmp_path / "left"
        until_true(lambda: left.exists() and left.read_text())
        child = os.pidfd_open(int(left.read_text()))
        real.finish(real.specs[0], 0)
        ended(launcher)
        launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=True)

        assert select.select([child], [], [], GUARD_S)[0]
        os.close(child)
        launcher.close()

    def test_a_signal_to_the_command_spares_its_children(self, real):
        """
        Data-loader workers outlive the first, polite signal.
        """
        launcher = real.launcher()
        launcher.launch(real.spec(script="sleep 600 & echo $! > left; read code < $ORDERS"))
        started(launcher)
        left = real.tmp_path / "left"
        until_true(lambda: left.exists() and left.read_text())
        launcher.signal("job-1", 1, signal.SIGTERM, whole_tree=False)
        ended(launcher)
        child = os.pidfd_open(int(left.read_text()))
        is_spared = not select.select([child], [], [], 0)[0]
        launcher.signal("job-1", 1, signal.SIGKILL, whole_tree=True)
        os.close(child)
        launcher.close()

        assert is_spared
