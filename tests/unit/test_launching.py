"""What a job is started with: words of a shell that no system could follow."""

import pytest

from supervisor.cli.commands.new_command import shell_words
from supervisor.launching import shell_fault


@pytest.mark.parametrize(
    "words",
    [
        "nice=20",
        "nice=-21",
        f"nice={'9' * 30}",
        "nice=",
        "umask=-1",
        f"umask={0o1000}",
        f"cpus={2**31}",
        "cpus=-1",
        "cpus=1,",
        f"limit.7={2**64}:0",
        "limit.7=5",
        "limit.=5:5",
        f"limit.{2**31}=1:1",
        "umask=18 nice=x",
        "colour=1",
        "nice",
    ],
)
def test_a_word_that_no_system_could_follow_is_named(words):
    """
    2026-11-29: it reached the process that starts the command, and overflowed there.
    """
    assert f"`{words.split()[-1][:40]}" in shell_fault(words)


@pytest.mark.parametrize(
    "words", ["", "umask=18 nice=-20 cpus=0,1 limit.7=1024:4096 limit.4=-1:-1", shell_words(19)]
)
def test_what_a_shell_has_is_taken(words):
    """
    Also what it has not at all: a daemon's own start says nothing.
    """
    assert "" == shell_fault(words)
