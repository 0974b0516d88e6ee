"""The table of states, looked at as a whole."""

import pytest

from supervisor.core.jobs.states import FINAL, TRANSITIONS, JobState, Kind, accepts, next_state
from supervisor.errors import InvalidTransition


def reachable(start):
    seen, todo = set(), [start]
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo += TRANSITIONS[state].values()
    return seen


def test_every_state_has_a_row_and_can_be_reached():
    """
    No state is a dead letter.
    """
    assert set(JobState) == set(TRANSITIONS) == reachable(JobState.QUEUED)


@pytest.mark.parametrize("state", JobState)
def test_from_every_state_a_job_can_come_to_its_end(state):
    """
    Whatever has happened, a job can be completed, failed or stopped, and started again.
    """
    assert set(JobState) == reachable(state)
    assert reachable(state) >= FINAL


def test_every_kind_of_event_is_used():
    """
    What no row mentions has no business in the list.
    """
    assert set(Kind) == {kind for row in TRANSITIONS.values() for kind in row}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("kind", Kind)
def test_an_event_without_a_row_is_refused_with_what_is_possible(state, kind):
    """
    The refusal names the job, the verb and the state; its hint names what may be typed instead.
    """
    if accepts(state, kind):
        assert TRANSITIONS[state][kind] is next_state("job-1", state, kind)
        return
    with pytest.raises(InvalidTransition, match=f"job `job-1`: it is {state}") as caught:
        next_state("job-1", state, kind)
    assert f"a {state} job accepts: " in caught.value.hint
    assert "supervisorctl show job-1" in caught.value.hint


def test_only_what_a_person_can_type_is_offered():
    """
    A completed job can be restarted; nobody can type `ended-ok`.
    """
    with pytest.raises(InvalidTransition) as completed:
        next_state("a", JobState.COMPLETED, Kind.RESUME)
    with pytest.raises(InvalidTransition) as paused:
        next_state("a", JobState.PAUSED, Kind.LAUNCH)

    assert "cannot resume job `a`: it is completed" == str(completed.value)
    assert "accepts: restart." in completed.value.hint
    assert "accepts: pause, resume, stop." in paused.value.hint
