"""Drop-in job files: what they may say, and every way in which they can be wrong."""

import pytest
from msgspec.structs import replace

from supervisor.core.jobs.job import JobSpec
from supervisor.core.jobs.treatment import JobLimits
from supervisor.errors import ConfigError
from supervisor.settings.jobfile import EXAMPLES, NAME, JobFile, read_job_file

BASE = {"PATH": "/bin", "LANG": "C"}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "night-run.toml"


def refusal(file):
    with pytest.raises(ConfigError) as caught:
        read_job_file(file, BASE)
    assert caught.value.hint
    assert str(file) in str(caught.value)
    return f"{caught.value} ({caught.value.hint})"


def test_two_lines_are_enough(file):
    """
    A command and where to run it; words are split as a shell would.
    """
    file.write_text('command = "python train.py --name \'two words\'"\ncwd = "/work"\n')

    assert JobSpec(
        argv=("python", "train.py", "--name", "two words"), cwd="/work", env=BASE, source=str(file)
    ) == replace(read_job_file(file, BASE), source_digest="")


def test_an_edit_can_be_told_from_a_change_around_the_file(file):
    """
    The daemon's own environment is no edit of the file.
    """
    file.write_text('command = "x"\ncwd = "/"\n')
    first, second = read_job_file(file, BASE), read_job_file(file, BASE | {"NEW": "1"})
    file.write_text('command = "x"\ncwd = "/tmp"\n')

    assert first.source_digest == second.source_digest != read_job_file(file, BASE).source_digest


def test_everything_that_can_be_said(file):
    """
    Its environment goes above the daemon's.
    """
    file.write_text(
        'command = ["python", "train.py"]\ncwd = "/work"\ncheckpoints = "/ckpt"\nrestart = "on-failure"\n'
        "max_restarts = 5\nrestart_delay_s = 2\npriority = -3\nprotected = true\ngpus = 2\n"
        "gpu_memory_gib = 20\nmemory_gib = 0.5\ncpus = 4\nlog_max_bytes = 0\nlog_files = 5\n"
        "memory_max_gib = 0.5\ncpu_weight = 50\n"
        'every = "1h30m"\n[env]\nLANG = "de"\nX = ""\n'
        '[labels]\nteam = "vision"\n'
    )

    assert JobSpec(
        argv=("python", "train.py"),
        cwd="/work",
        env={"PATH": "/bin", "LANG": "de", "X": ""},
        checkpoints="/ckpt",
        restart="on-failure",
        max_restarts=5,
        restart_delay_s=2.0,
        source=str(file),
        user="ada",
        priority=-3,
        protected=True,
        labels={"team": "vision"},
        num_gpus=2,
        gpu_memory_bytes=20 << 30,
        memory_bytes=1 << 29,
        num_cpus=4.0,
        log_max_bytes=0,
        log_files=5,
        every_s=5400.0,
        limits=JobLimits(memory_max_bytes=1 << 29, cpu_weight=50),
    ) == replace(read_job_file(file, BASE, user="ada"), source_digest="")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('comand = "x"\ncwd = "/"', "unknown key `comand` (did you mean `command`?)"),
        ('cwd = "/"', "command is missing; it is a text in quotes, or a list"),
        ('command = "x"', "cwd is missing; it is a text in quotes"),
        ('command = ""\ncwd = "/"', "command: it is empty"),
        ('command = "  "\ncwd = "/"', "command: it is empty"),
        (
            'command = []\ncwd = "/"',
            "command is an empty list, and may only be a text in quotes, or a list of at least 1",
        ),
        ('command = [1]\ncwd = "/"', "command[1] is 1, and may only be a text in quotes (line 1)"),
        ('command = "it\'s"\ncwd = "/"', "command: No closing quotation (write it as a list of words)"),
        ('command = "x"\ncwd = "work"', "cwd: `work` is not absolute"),
        ('command = "x"\ncwd = ""', "cwd: `` is not absolute"),
        (
            'command = "x"\ncwd = "/"\nrestart = "always"',
            'restart is "always", and may only be "never" or "on-failure" (line 3)',
        ),
        (
            'command = "x"\ncwd = "/"\nmax_restarts = -1',
            "max_restarts is -1, and may only be a whole number from 0 to 1000 (line 3)",
        ),
        ('command = "x"\ncwd = "/"\nevery = "0.5s"', "every: `0.5s` is too often: 1s is the least"),
        ('command = "x"\ncwd = "/"\nevery = 0.2', "every: `0.2` is too often: 1s is the least"),
        ('command = "x"\ncwd = "/"\nevery = "often"', "every: `often` is not a time such as 90, 30s, 10m"),
        ('command = "x"\ncwd = "/"\nevery = ""', "every: `` is not a time"),
        ('command = "x"\ncwd = "/"\nevery = nan', "every: `nan` is not a time"),
        ('command = "x"\ncwd = "/"\nevery = "11000d"', "every: `11000d` is not between 0 and 10 years"),
        ('command = "x"\ncwd = "/"\nevery = true', "every is true, and may only be"),
        ('command = "x"\ncwd = "/"\n[env]\nN = 1', "env"),
        ("command = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(file, text, says):
    """
    With file, key and what to do.
    """
    file.write_text(text)

    assert says in refusal(file)


@pytest.mark.parametrize("key", JobFile.__struct_fields__)
def test_the_hint_is_about_the_key_that_is_wrong(file, key):
    """
    2026-11-29: whatever was wrong, the hint was the same smallest job file.
    """
    good = {"command": 'command = "x"', "cwd": 'cwd = "/"'}
    file.write_text("\n".join((good | {key: f"{key} = {{ x = 1979-05-27 }}"}).values()))
    told = refusal(file)
    file.write_text("\n".join((good | {key: EXAMPLES[key]}).values()))

    assert f"(for example: {EXAMPLES[key]})" in told
    assert read_job_file(file, BASE).argv


def test_a_niceness_is_said_in_the_command(file):
    """
    `run` has an option for it; here the hint says how.
    """
    file.write_text('command = "x"\ncwd = "/"\nnice = 99999999999\n')

    assert "unknown key `nice` (begin the command with it, from -20 to 19: command = [" in refusal(file)


@pytest.mark.parametrize(
    ("words", "every_s"), [("90", 90.0), ('"90"', 90.0), ("1.5", 1.5), ('"1d"', 86400.0)]
)
def test_how_often_it_saves_is_said_as_on_the_command_line(file, words, every_s):
    """
    A number is seconds.
    """
    file.write_text(f'command = "x"\ncwd = "/"\nevery = {words}\n')

    assert every_s == read_job_file(file, BASE).every_s


def test_a_file_that_is_gone_or_no_text_is_refused(file):
    """
    An editor may just be writing it.
    """
    gone = refusal(file)
    file.write_bytes(b"\xff\xfe")

    assert "cannot read" in gone
    assert "not valid TOML" in refusal(file)


@pytest.mark.parametrize("name", ["two words", ".hidden", "-dash", "x" * 65, "a\u00e4", "a\n"])
def test_a_file_whose_name_is_no_job_name_is_refused(tmp_path, name):
    """
    Before it is even read.
    """
    assert "is not a job name" in refusal(tmp_path / f"{name}.toml")


@pytest.mark.parametrize("name", ["a", "job-3", "Run_2.b", "x" * 64, "0"])
def test_good_names(name):
    """
    What fits in a path, a log line and a shell without quotes.
    """
    assert NAME.fullmatch(name)
