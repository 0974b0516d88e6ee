"""`why` and `policy` as whole commands, against a daemon that says what a test sets."""

import json
import time

import msgspec
import pytest
from msgspec.structs import replace

from supervisor import api
from supervisor.core.policy.default_rules import DEFAULT_RULES
from supervisor.core.policy.explanation import ConditionState, RuleState
from supervisor.core.policy.rules import Settings
from supervisor.core.readings.blocks import pack
from supervisor.core.readings.sample import Gpu, GpuProcess, JobUse, Sample
from tests.e2e.test_cli_output import ctl, daemon, home  # noqa: F401  # fixtures

BUSY = """
[policy]
default_rules = false
settle_s = 5
min_run_s = 0
[[rules]]
name = "busy"
when = [{ metric = "cpu_foreign_pct", above = 50, clear_below = 20 }]
pause_after_s = 20
resume_after_s = 60
"""


def afternoon():
    """An hour in which others used the CPU for ten minutes, and one job always ran."""
    begin = time.time() - 3600
    return [
        Sample(
            at=begin + second,
            wall=begin + second,
            num_cpus=4.0,
            cpu_foreign_pct=85.0 if 1200 <= second < 1800 else 4.0,
            jobs={"night": JobUse(cpu_pct=100.0, rss_bytes=2.0**30, num_processes=1)},
        )
        for second in range(0, 3600, 5)
    ]


@pytest.fixture
def recorded(daemon):  # noqa: F811
    samples = afternoon()
    daemon.blocks = [(samples[i].wall, pack(samples[i : i + 100])) for i in range(0, len(samples), 100)]
    daemon.settings = msgspec.json.encode(Settings(rules=DEFAULT_RULES)).decode()
    return daemon


def test_a_day_is_replayed_against_other_rules(recorded, home, tmp_path):  # noqa: F811
    """
    Who would have yielded, when and for how long; and a picture of it.
    """
    (tmp_path / "new.toml").write_text(BUSY)
    done = ctl(home, "policy", "simulate", "--config", "new.toml", "--png", "a.png", cwd=tmp_path)

    assert 0 == done.returncode, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    assert [["night", "pause"], ["night", "resume"]] == [
        line[2:4] for line in words if len(line) > 3 and line[2] == "night"
    ]
    assert b"\x89PNG" == (tmp_path / "a.png").read_bytes()[:4]

    plain = ctl(home, "policy", "simulate", "--config", "new.toml", "--json", cwd=tmp_path)
    (report,) = json.loads(plain.stdout)

    assert (1, 0) == (report["jobs"]["night"]["num_pauses"], report["jobs"]["night"]["num_flaps"])
    assert 500 < report["jobs"]["night"]["paused_s"] < 800


def test_recorded_readings_can_be_taken_away_and_replayed_without_a_daemon(recorded, home, tmp_path):  # noqa: F811
    """
    The same file gives the same answer anywhere.
    """
    (tmp_path / "new.toml").write_text(BUSY)
    exported = ctl(home, "policy", "export", "day.csv", cwd=tmp_path)
    recorded.stop()
    replay = ["policy", "simulate", "--samples", "day.csv", "--config", "new.toml", "--json"]
    done = ctl(home, *replay, cwd=tmp_path)

    assert (0, "720 samples\n") == (exported.returncode, exported.stderr)
    assert 1 == json.loads(done.stdout)[0]["jobs"]["night"]["num_pauses"]


def test_since_reaches_into_a_block_of_readings(recorded, home, tmp_path):  # noqa: F811
    """
    They are kept in blocks; half of the hour is half of the readings, wherever a block begins.
    """
    exported = ctl(home, "policy", "export", "--since", "1850s", "half.csv", cwd=tmp_path)

    assert int(exported.stderr.split()[0]) in range(360, 371)


def test_a_file_is_checked_before_it_is_put_in_force(recorded, home, tmp_path):  # noqa: F811
    """
    What it would change, or what is wrong with it: with the rule, the key, and exit code 2.
    """
    (tmp_path / "new.toml").write_text('[[rules]]\nname = "gpu-hot"\nenabled = false\n')
    (tmp_path / "bad.toml").write_text(BUSY.replace("clear_below = 20", "clear_below = 70"))
    good = ctl(home, "policy", "check", "new.toml", cwd=tmp_path)
    bad = ctl(home, "policy", "check", "bad.toml", cwd=tmp_path)
    none = ctl(home, "policy", "check", "no.toml", cwd=tmp_path)

    assert (0, True) == (good.returncode, "rule gpu-hot: enabled: true -> false" in good.stdout)
    assert (2, "") == (bad.returncode, bad.stdout)
    assert "rule `busy`, when: clear_below: 70 is not below above = 50" in bad.stderr
    assert (2, True) == (none.returncode, "there is no such file" in none.stderr)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("/dev/null", "it is not a file that can be read as a whole"),
        (".", "it is a folder"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_what_is_there_is_not_said_to_be_missing(home, tmp_path, file, says):  # noqa: F811
    """
    2026-11-28: `/dev/null` "does not exist".
    """
    (tmp_path / "loop").symlink_to("loop")
    for command in (["check", file], ["simulate", "--config", file]):
        done = ctl(home, "policy", *command, cwd=tmp_path)

        assert (2, "") == (done.returncode, done.stdout)
        assert f"cannot read `{file}`: {says}" in done.stderr


def test_conditions_that_can_never_be_met_do_not_pass(home, tmp_path):  # noqa: F811
    """
    All of them, each with what would be right; a replay only warns of them.
    """
    (tmp_path / "new.toml").write_text(
        BUSY.replace("above = 50", "above = 150")
        + '[[rules]]\nname = "game"\nwhen = [{ program = "/usr/games/steam" }]\n'
        + "pause_after_s = 1\nresume_after_s = 1\n"
    )
    (tmp_path / "day.csv").write_text("wall,cpu_foreign_pct\n1700000000,9\n")
    done = ctl(home, "policy", "check", "new.toml", cwd=tmp_path)
    replay = ctl(home, "policy", "simulate", "--config", "new.toml", "--samples", "day.csv", cwd=tmp_path)

    assert (2, "") == (done.returncode, done.stdout)
    assert "cannot use `new.toml`: rule `busy`, when" in done.stderr
    assert "no program is called `/usr/games/steam`" in done.stderr
    assert "`steam`" in done.stderr
    assert (0, 2) == (replay.returncode, replay.stderr.count("warning: cannot use"))


def test_a_replay_of_what_was_exported_invents_no_pause(recorded, home, tmp_path):  # noqa: F811
    """
    2026-11-28: who only draws on a GPU computed on it after the export.
    """
    card = Gpu(uuid="G", processes=(GpuProcess(9, 1 << 20, computes=False), GpuProcess(8, 1 << 30, "night")))
    use = JobUse(cpu_pct=100.0, rss_bytes=2.0**30, num_processes=1, gpu_bytes={"G": 1 << 30})
    samples = [replace(one, cpu_foreign_pct=4.0, gpus=(card,), jobs={"night": use}) for one in afternoon()]
    recorded.blocks = [(samples[i].wall, pack(samples[i : i + 100])) for i in range(0, len(samples), 100)]
    ctl(home, "policy", "export", "day.csv", cwd=tmp_path)
    runs = [
        json.loads(ctl(home, "policy", "simulate", *more, "--json", cwd=tmp_path).stdout)[0]["timeline"]
        for more in ([], ["--samples", "day.csv"])
    ]

    assert [[], []] == runs


def test_labels_are_not_taken_away_by_a_slip(daemon, home):  # noqa: F811
    """
    2026-11-28: `--label team` deleted the label; `--label team=` still does.
    """
    daemon.add("night", "running")
    slip = ctl(home, "set", "night", "--label", "team")
    told = [type(request) for request in daemon.requests]
    meant = ctl(home, "set", "night", "--label", "team=")

    assert (2, True) == (slip.returncode, "`team` is not of the form key=value" in slip.stderr)
    assert api.SetRequest not in told
    assert (0, {"team": ""}) == (meant.returncode, daemon.requests[-1].labels)
    assert 2 == ctl(home, "run", "--label", "team", "--", "true").returncode


def test_rules_and_answers_are_shown(daemon, home):  # noqa: F811
    """
    As tables for people and as lists of objects for programs.
    """
    daemon.add("night", "running")
    daemon.rules = [RuleState(rule="busy", conditions=(ConditionState(what="x", short="> 1"),))]
    shown = ctl(home, "policy", "show")
    listed = json.loads(ctl(home, "policy", "show", "--json").stdout)

    assert (0, "busy") == (shown.returncode, shown.stdout.splitlines()[1].split()[0])
    assert "busy" == listed[0]["rule"]
    assert ctl(home, "why", "night").stdout.startswith("night is running since ")
    assert "night" in ctl(home, "why").stdout
    assert "night" == json.loads(ctl(home, "why", "night", "--json").stdout)[0]["job"]
    assert 2 == ctl(home, "why", "nobody").returncode


def test_nothing_recorded_is_no_answer(daemon, home):  # noqa: F811
    """
    It says so, and what can be done.
    """
    daemon.settings = msgspec.json.encode(Settings()).decode()
    done = ctl(home, "policy", "simulate")

    assert (1, "") == (done.returncode, done.stdout)
    assert "nothing was recorded in that time" in done.stderr
    assert "--samples" in done.stderr
