"""A log is shown from its last lines on, whatever happens to the file."""

from __future__ import annotations

import pytest

from supervisor.cli.output.tail import Tail
from supervisor.errors import Refused


def rest(tail):
    return b"".join(iter(tail.more, b""))


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("filler", [1, 100_000])
def test_the_last_lines_are_the_last_lines(tmp_path, ending, filler):
    """
    However long the lines are, and whether or not the last one is finished.
    """
    path = tmp_path / "log"
    lines = [b"%d" % i + b"x" * filler for i in range(5)]
    path.write_bytes(b"\n".join(lines) + ending)

    for count in range(7):
        with Tail(path) as tail:
            tail.skip_to_last(count)
            expected = b"\n".join(lines[5 - min(count, 5) :]) + (ending if count else b"")
            assert expected == rest(tail)
    with Tail(path) as tail:
        tail.skip_to_last(None)
        assert path.read_bytes() == rest(tail)


def test_a_followed_log_survives_truncation_and_rotation(tmp_path):
    """
    `logs -f` shows what is written next, whatever happens to the file.
    """
    path = tmp_path / "log"
    with Tail(path) as tail:
        tail.skip_to_last(10)
        assert b"" == rest(tail)
        path.write_bytes(b"one\ntwo\n")
        assert b"one\ntwo\n" == rest(tail)
        path.write_bytes(b"new\n")
        assert b"new\n" == rest(tail)
        with path.open("ab") as old:
            path.rename(tmp_path / "log.1")
            assert b"" == rest(tail)
            old.write(b"last of the old\n")
            old.flush()
            path.write_bytes(b"first of the new\n")
            assert b"last of the old\nfirst of the new\n" == rest(tail)


def test_a_log_that_may_not_be_read_says_so(tmp_path):
    """
    The reason is named, and whose log it is.
    """
    with pytest.raises(Refused, match="Is a directory"), Tail(tmp_path) as tail:
        tail.more()
