"""What a run folder says: the words of whoever owns it, who may write anything there."""

import pytest

from supervisor.core.jobs.job import Exit
from supervisor.launcher import records

MOST = 2**31 - 1


@pytest.mark.parametrize("text", [f'{{"code":{MOST + 1}}}', '{"code":-1}', f'{{"signal":{10**30}}}'])
def test_an_end_with_a_number_that_no_process_ends_with_is_damaged(tmp_path, text):
    """
    It would go into the journal, and into no message to whoever asks.
    """
    (tmp_path / "exit.json").write_text(text)
    (tmp_path / "heir-exit.json").write_text(text)

    with pytest.raises(records.DamagedRecord):
        records.read_exit(tmp_path)
    assert records.read_heir_exit(tmp_path) is None


@pytest.mark.parametrize(
    "of", [{"pid": MOST + 1}, {"pid": -1}, {"start_ticks": 2**63}, {"boot_id": f'"{"x" * 65}"'}]
)
def test_a_process_that_there_cannot_be_is_damaged(tmp_path, of):
    """
    The same holds for it; who is to go on, and who keeps it, is not known then.
    """
    values = {"pid": 1, "start_ticks": 1, "boot_id": '"x"'} | of
    text = ",".join(f'"{name}":{value}' for name, value in values.items())
    for name in ("process.json", "heir.json", "claim"):
        (tmp_path / name).write_text(f"{{{text}}}")

    with pytest.raises(records.DamagedRecord):
        records.read_process(tmp_path)
    assert records.read_heir(tmp_path) is None
    assert records.read_keeper(tmp_path) is None


def test_why_a_command_could_not_be_started_is_told_in_so_many_words(tmp_path):
    """
    Each `status` of its user has them.
    """
    words = "cannot start: " + "x" * 100_000
    (tmp_path / "exit.json").write_text(f'{{"error":"{words}"}}')

    assert Exit(error=words[:4997] + "...") == records.read_exit(tmp_path)
