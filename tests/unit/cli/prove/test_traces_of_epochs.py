"""What two traces say where a pause is the last step of an epoch, or of the run."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from supervisor.cli.prove.cause import find_cause
from supervisor.cli.prove.traces import TraceDifference, compare, run_of
from trainer_shim.trace import End, Paused, Step, TracedLook, TracedMetric, TracedStart

NUM_EPOCHS, NUM_STEPS = 3, 2
#: Step and epoch of every boundary: each epoch has its steps and its end, which has the step of the last one.
WHERES = [
    (1, 0), (2, 0), (2, 1),
    (3, 1), (4, 1), (4, 2),
    (5, 2), (6, 2), (6, 3),
]  # fmt: skip


@dataclass
class Script:
    """
    Reports the epoch at its head, a loss in each step and a weight at its end, and does it all again
    in a new process as far as the loop does.
    """

    pauses: dict[tuple[int, int], str] = field(default_factory=dict)
    losses: dict[int, str] = field(default_factory=dict)
    batches: dict[int, str] = field(default_factory=dict)
    rng: dict[tuple[int, int], str] = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)
    looks: tuple[tuple[int, int], ...] = ()
    has_data: bool = True

    def records(self):
        yield TracedStart(step=0, epoch=0)
        yield TracedMetric(step=1, name="epoch", value="0")
        for before, where in pairwise([(0, 0), *WHERES]):
            step, epoch = where
            is_end = step == before[0]
            if is_end:
                yield TracedMetric(step=step, name="weight", value=self.weights.get(step, f"w{step}"))
            else:
                yield TracedMetric(step=step, name="loss", value=self.losses.get(step, f"l{step}"))
            batch = "" if is_end or not self.has_data else self.batches.get(step, f"b{step}")
            yield Step(step=step, epoch=epoch, batch=batch, rng={"torch": self.rng.get(where, "t")})
            if where in self.pauses or where in self.looks:
                yield TracedLook(step=step, epoch=epoch, state={"w": f"{where}"})
            if where in self.pauses:
                yield Paused(step=step, epoch=epoch, depth=self.pauses[where])
            if self.pauses.get(where) == "exit":
                yield TracedStart(step=step, epoch=epoch, state={"w": f"{where}"})
            has_begun_anew = self.pauses.get(where) == "exit" and epoch < NUM_EPOCHS
            if has_begun_anew or (is_end and epoch < NUM_EPOCHS):
                yield TracedMetric(step=step, name="epoch", value=f"{epoch}")
        yield End(step=6, epoch=3, state={"w": self.losses.get(6, "end")})

    def run(self):
        return run_of(self.records())


def cause_of(paused):
    again = Script(looks=tuple(paused.pauses), has_data=paused.has_data)
    return find_cause(Script(has_data=paused.has_data).run(), paused.run(), again.run()).text


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("depth", ["exit", "hold"])
def test_a_pause_at_any_boundary_is_no_difference_by_itself(where, depth):
    """
    The loop of a new process reports the head of its epoch again, also where only its end is left.
    """
    found = compare(Script().run(), Script(pauses={where: depth}).run())

    assert [] == found.numbers
    assert found.is_identical


def test_a_number_behind_a_pass_that_a_pause_changed_is_a_difference_of_its_step():
    """
    What is reported behind the last batch of an epoch stands behind a pause there.
    """
    paused = Script(pauses={(4, 1): "exit"}, weights={4: "x"})
    found = compare(Script().run(), paused.run())

    assert [TraceDifference("weight", "w4", "x", step=4)] == found.numbers
    assert "after the pause at step 4 (exit), and so are generators" in cause_of(paused)


@pytest.mark.parametrize("depth", ["exit", "hold", "offload"])
@pytest.mark.parametrize("where", [(2, 0), (2, 1), (4, 1), (4, 2)])
def test_data_that_changes_in_the_next_epoch_is_found_in_its_first_step(where, depth):
    """
    The boundary behind the last step of an epoch is the epoch's end, which has no data.
    """
    paused = Script(pauses={where: depth}, batches={where[0] + 1: "x"}, losses={where[0] + 1: "x"})

    assert cause_of(paused).startswith(
        f"the data is another already in the first step after the pause at step {where[0]} ({depth})"
    )


def test_data_that_changes_in_a_later_step_is_not_called_the_same():
    """
    Prefetched batches come as they were; the ones behind them do not.
    """
    paused = Script(pauses={(2, 0): "exit"}, batches={4: "x"}, losses={4: "x"})

    assert "the data is another in step 4, which comes after the pause at step 2" in cause_of(paused)


@pytest.mark.parametrize("moved", [(4, 2), (5, 2)])
def test_a_generator_that_moves_between_two_epochs_is_found(moved):
    """
    At the end of the epoch itself, or in the first step of the next one.
    """
    paused = Script(pauses={(4, 1): "exit"}, rng={moved: "x"}, losses={5: "x"})

    assert (
        "the generator `torch` stands elsewhere already in the first step after the pause at step 4"
        in cause_of(paused)
    )


def test_what_differs_on_the_same_data_of_the_next_epoch_was_not_handed_over():
    """
    The data of the first step of the next epoch was compared, and is said to be.
    """
    paused = Script(pauses={(4, 1): "exit"}, losses={5: "x"})

    assert "the same after the pause at step 4 (exit), and so are data and generators" in cause_of(paused)


def test_a_loop_whose_data_does_not_go_through_the_shim_is_told_of_generators_only():
    """
    Nobody has seen that its data is the same.
    """
    paused = Script(pauses={(4, 1): "exit"}, losses={5: "x"}, has_data=False)

    assert cause_of(paused).endswith("(exit), and so are generators; no batch came by shim.batches()")


@pytest.mark.parametrize("where", [(6, 2), (6, 3)])
def test_behind_the_last_step_of_the_run_there_is_no_step_to_look_at(where):
    """
    Only the state, or what is reported behind the last pass, can differ.
    """
    paused = Script(pauses={where: "exit"})
    records = [*paused.records()][:-1]
    other = run_of([*records, End(step=6, epoch=3, state={"w": "x"})])
    again = Script(looks=(where,)).run()

    assert find_cause(Script().run(), other, again).text == (
        "only what comes after the pause at step 6 (exit) differs, and no step came after it"
    )


@pytest.mark.parametrize(
    ("depths", "blamed"), [(("exit", "hold"), "exit"), (("hold", "exit"), "exit"), (("hold", "hold"), "hold")]
)
def test_of_two_pauses_without_a_step_between_them_the_deeper_one_is_likely(depths, blamed):
    """
    One that loaded something explains more than one at which the process only waited.
    """
    paused = Script(pauses={(2, 0): depths[0], (2, 1): depths[1]}, batches={3: "x"}, losses={3: "x"})

    assert f"after the pause at step 2 ({blamed})" in cause_of(paused)


def test_an_exit_stays_a_suspect_when_other_pauses_came_after_it():
    """
    What it lost may show late: nothing is loaded where a run only holds.
    """
    paused = Script(pauses={(2, 0): "exit", (3, 1): "hold"}, batches={4: "x"}, losses={4: "x"})

    assert "in the first step after the pauses at steps 2 (exit) and 3 (hold)" in cause_of(paused)
