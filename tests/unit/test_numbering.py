"""`job-N` for jobs without a name: counted for each user, and never given twice."""

import pytest

from supervisor.numbering import Numbering


@pytest.fixture
def stored():
    return {"next_job_number": "4", "next_job_number.ada": "2", "starts.ada/job-9": "1", "next_job": "x"}


def test_each_user_counts_for_himself(stored):
    """
    It goes on where the journal stands, for a user who is new at one.
    """
    numbering = Numbering(stored, stored.update)

    assert ["job-4", "ada/job-2", "bob/job-1", "job-5"] == [
        numbering.next_key(user, ()) for user in ("", "ada", "bob", "")
    ]
    assert {
        "next_job_number": "6",
        "next_job_number.ada": "3",
        "next_job_number.bob": "2",
    }.items() <= stored.items()


def test_a_name_that_somebody_chose_is_left_out(stored):
    """
    `--name job-2` is taken, by its own user only.
    """
    numbering = Numbering(stored, stored.update)

    assert "ada/job-3" == numbering.next_key("ada", {"ada/job-2", "job-3"})


def test_the_next_daemon_goes_on(stored):
    """
    What was removed meanwhile is not given again.
    """
    Numbering(stored, stored.update).next_key("ada", ())

    assert "ada/job-3" == Numbering(stored, stored.update).next_key("ada", ())
