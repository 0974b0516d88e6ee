"""Where a job's checkpoints go when nobody says so."""

from supervisor.core.jobs.job import JobSpec
from supervisor.engine import Engine
from supervisor.last_look import LastLook
from supervisor.paths import Paths
from supervisor.ports import World
from tests.fakes.clock import FakeClock
from tests.fakes.journal import FakeJournal
from tests.fakes.launcher import FakeLauncher, FakeMachine


def engine(tmp_path):
    world = World(FakeClock(), FakeJournal(), FakeLauncher(FakeMachine()), None, None, lambda *_: None)
    return Engine(world, Paths(tmp_path, tmp_path, tmp_path), LastLook(), on_stored=lambda _row: None)


def test_a_run_without_a_name_never_shares_checkpoints(tmp_path):
    """
    Two daemons number from 1: `job-1` of one does not go on from the checkpoints of the other's.
    """
    spec = JobSpec(argv=("train",), cwd="/work")
    first, second = (engine(tmp_path).submit(None, spec) for _ in range(2))

    assert first.name == second.name == "job-1"
    assert first.spec.checkpoints != second.spec.checkpoints
    assert first.spec.checkpoints.startswith("/work/checkpoints/job-1-")


def test_a_named_run_goes_on_from_the_checkpoints_of_its_name(tmp_path):
    """
    The same name in the same folder is the same run.
    """
    job = engine(tmp_path).submit("night", JobSpec(argv=("train",), cwd="/work"))

    assert "/work/checkpoints/night" == job.spec.checkpoints
