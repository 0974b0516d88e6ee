"""What two traces say about each other, and why they differ."""

from dataclasses import dataclass, field

import pytest

from supervisor.cli.prove.cause import find_cause, stray_generators, unseeded
from supervisor.cli.prove.traces import TraceDifference, compare, run_of
from trainer_shim import trace
from trainer_shim.trace import End, Paused, Returned, Said, Step, TracedLook, TracedMetric, TracedStart

NUM_STEPS = 6
RNG = {"python": "p", "torch": "t"}


@dataclass
class Script:
    """
    A run as a test describes it: everything that is not named is as in every other run.
    """

    losses: dict[int, str] = field(default_factory=dict)
    batches: dict[int, str] = field(default_factory=dict)
    rng: dict[int, dict[str, str]] = field(default_factory=dict)
    final: dict[str, str] = field(default_factory=dict)
    pauses: dict[int, str] = field(default_factory=dict)
    looks: dict[int, dict[str, str]] = field(default_factory=dict)
    restored: dict[int, dict[str, str]] = field(default_factory=dict)
    notes: dict[int, list[str]] = field(default_factory=dict)
    #: Reported again by a process that began after this step, before its first batch.
    again: dict[int, list[TracedMetric]] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    num_steps: int = NUM_STEPS

    def records(self):
        yield TracedStart(step=0, epoch=0)
        for text in self.said:
            yield Said(text=text)
        for step in range(1, self.num_steps + 1):
            yield TracedMetric(step=step, name="loss", value=self.losses.get(step, f"{step}"))
            batch = self.batches.get(step, f"b{step}")
            yield Step(step=step, epoch=0, batch=batch, rng={**RNG, **self.rng.get(step, {})})
            state = {"w": f"{step}"}
            if step in self.pauses or step in self.looks:
                saved = self.looks.get(step, state)
                yield TracedLook(step=step, epoch=0, state=saved, notes=self.notes.get(step, []))
            if step in self.pauses:
                yield Paused(step=step, epoch=0, depth=self.pauses[step])
            if self.pauses.get(step) == "offload":
                yield Returned(step=step, epoch=0, state=self.restored.get(step, saved))
            if self.pauses.get(step) == "exit":
                yield TracedStart(step=step, epoch=0, state=self.restored.get(step, saved))
            yield from self.again.get(step, [])
        yield End(step=self.num_steps, epoch=1, state={"w": "1", "t": "float32[2] ab", **self.final})

    def run(self):
        return run_of(self.records())


PLAIN = Script().run()


def cause_of(paused, again=None):
    looks = {step: {"w": f"{step}"} for step in paused.pauses}
    return find_cause(PLAIN, paused.run(), (again or Script(looks=looks)).run())


def test_equal_runs_are_identical_and_counted():
    """
    The verdict says how much was compared: numbers, tensors and values, among them step and epoch.
    """
    found = compare(PLAIN, Script(pauses={2: "exit", 4: "hold"}).run())

    assert found.is_identical
    assert (6, 6, 1, 3) == (found.num_steps, found.num_numbers, found.num_tensors, found.num_values)


def test_the_first_number_that_differs_comes_first():
    """
    Numbers are told by step, each with both values.
    """
    found = compare(PLAIN, Script(losses={5: "x", 3: "y"}).run())

    assert [
        TraceDifference("loss", "3", "y", step=3),
        TraceDifference("loss", "5", "x", step=5),
    ] == found.numbers
    assert not found.is_identical


@pytest.mark.parametrize("final", [{"w": "2"}, {"t": "float32[2] cd"}, {"new": "1"}])
def test_a_leaf_of_the_final_state_differs(final):
    """
    A value, a tensor, or one that only one of the runs has.
    """
    found = compare(PLAIN, Script(final=final).run())

    assert list(final) == [one.name for one in found.state]
    assert not found.is_identical


def test_a_run_of_another_length_is_different():
    """
    A number that is missing is a difference like any other.
    """
    found = compare(PLAIN, Script(num_steps=5).run())

    assert TraceDifference("loss", "6", None, step=6) in found.numbers
    assert "step" in [one.name for one in found.state]


def test_what_a_resumed_epoch_reports_again_is_no_difference():
    """
    The head of an epoch runs again in a new process; only what belongs to the step counts.
    """
    again = [TracedMetric(step=2, name="loss", value="old"), TracedMetric(step=3, name="rate", value="0")]
    again += [TracedMetric(step=3, name="loss", value="old")]
    found = compare(PLAIN, Script(pauses={2: "exit"}, again={2: again}).run())

    assert found.is_identical


def test_a_number_reported_with_pauses_only_is_a_difference_elsewhere():
    """
    Only a new process may report something again.
    """
    extra = [TracedMetric(step=3, name="rate", value="0")]
    found = compare(PLAIN, Script(pauses={2: "hold"}, again={2: extra}).run())

    assert [TraceDifference("rate", None, "0", step=3)] == found.numbers


def test_a_line_that_was_cut_off_is_dropped():
    """
    A process that was killed in the middle of a line has still told the rest.
    """
    text = (
        trace.write(TracedStart(step=0, epoch=0))
        + trace.write(TracedMetric(step=1, name="loss", value="1"))[:-5]
    )

    assert [TracedStart(step=0, epoch=0)] == list(trace.read(text.splitlines(keepends=True)))


def test_a_training_that_does_not_repeat_itself_says_nothing_about_pauses():
    """
    Two runs without pauses differ: that is the finding, whatever the pauses did.
    """
    looks = {2: {"w": "2"}}
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "exit"}), Script(losses={1: "y"}, looks=looks))

    assert not cause.is_repeatable
    assert "two runs without a pause differ too, first at step 1 in `loss`, on the same data" in cause.text


def test_an_unseeded_generator_is_named():
    """
    One that stands elsewhere before anything has happened was never seeded.
    """
    other = Script(rng={step: {"python": "q"} for step in range(1, 7)}, losses={1: "y"})
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "exit"}), other)

    assert "the generator `python` starts elsewhere in each" in cause.text
    assert "seed it: random.seed()" == cause.hint


def test_data_in_another_order_without_pauses_is_named():
    """
    The numbers differ because the data did: kernels are not to blame.
    """
    other = Script(batches={1: "c"}, losses={1: "y"})

    assert cause_of(Script(losses={3: "x"}, pauses={2: "exit"}), other).text.endswith("and the data does")


def test_a_part_that_came_back_different_is_named():
    """
    Saved state and restored state are compared, not only what came of it.
    """
    cause = cause_of(Script(losses={5: "x"}, pauses={2: "exit"}, restored={2: {"w": "7"}}))

    assert "what was saved at step 2 was not what stood there after loading it: `w`" == cause.text


def test_what_the_script_asks_for_behind_attach_had_only_not_come_back_yet():
    """
    A variable of shim.state(), or a part that comes in mid-run.
    """
    looks = {2: {"w": "2", "state.best": "0.5"}}
    script = Script(losses={3: "x"}, pauses={2: "exit"}, looks=looks, restored={2: {"w": "2"}})

    assert cause_of(script, Script(looks=looks)).text.startswith("all that was handed over is the same")


LEAF = "float32[8, 3, 3, 3] 1ce4"


@pytest.mark.parametrize(
    ("saved", "restored", "is_layout"),
    [
        (f"{LEAF} strides [27, 1, 9, 3]", LEAF, True),
        (LEAF, f"{LEAF} strides [27, 1, 9, 3]", True),
        (f"{LEAF} strides [27, 1, 9, 3]", "float32[8, 3, 3, 3] 77aa", False),
        (f"{LEAF} strides [27, 1, 9, 3]", None, False),
        ('"a strides b"', '"a strides c"', False),
    ],
)
def test_the_same_numbers_in_another_memory_layout_are_named(saved, restored, is_layout):
    """
    A model that is brought to channels_last after attach() has moments that fused kernels mix up.
    """
    back = {} if restored is None else {"w": restored}
    looks = {2: {"w": saved}}
    paused = Script(losses={5: "x"}, looks=looks, pauses={2: "exit"}, restored={2: back})
    cause = cause_of(paused, Script(looks=looks))

    assert ("the same numbers in another memory layout: `w`" in cause.text) == is_layout
    assert ("memory_format" in cause.hint) == is_layout


def test_memory_that_returned_with_other_contents_is_named():
    """
    What was given back is compared with what stands there afterwards, as a checkpoint is.
    """
    cause = cause_of(Script(losses={5: "x"}, pauses={2: "offload"}, restored={2: {"w": "7"}}))

    assert "what was given back at step 2 was not the same when it had returned: `w`" == cause.text


def test_memory_that_returned_as_it_was_points_to_its_address():
    """
    The tensors are the same and only where they lie is not.
    """
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "offload"}))

    assert cause.text.startswith("every tensor came back as it was at the pause at step 2 (offload)")
    assert "keeps the address of a tensor" in cause.hint


def test_data_that_changes_with_a_pause_is_named_with_what_the_shim_said():
    """
    The order of the data is wrong in the first step after the pause.
    """
    script = Script(losses={5: "x"}, batches={5: "c"}, pauses={2: "hold", 4: "exit"}, notes={4: ["sampler"]})
    cause = cause_of(script)

    assert "the data is another already in the first step after the pause at step 4 (exit)" in cause.text
    assert "the shim said: sampler" in cause.text


def test_a_generator_that_moved_is_named():
    """
    Same data, another place in a global generator.
    """
    script = Script(losses={5: "x"}, rng={3: {"torch": "u"}}, pauses={2: "exit", 4: "exit"})

    assert "the generator `torch` stands elsewhere" in cause_of(script).text
    assert "step 2 (exit)" in cause_of(script).text


def test_state_that_nobody_handed_over_is_what_is_left():
    """
    All that is known is the same, and the loss is not.
    """
    cause = cause_of(Script(losses={3: "x"}, pauses={2: "exit", 4: "exit"}))

    assert "all that was handed over is the same after the pause at step 2 (exit)" in cause.text
    assert "shim.state(...)" in cause.hint


def test_state_that_differs_at_a_later_pause_points_to_the_one_before():
    """
    No number has shown it yet, but what is saved next is not what it should be.
    """
    script = Script(losses={6: "x"}, pauses={2: "exit", 4: "exit"}, looks={4: {"w": "wrong"}})
    script.restored = {4: {"w": "wrong"}}
    looks = {2: {"w": "2"}, 4: {"w": "4"}}

    assert "step 2 (exit)" in cause_of(script, Script(looks=looks)).text


def test_a_hold_that_changes_something_points_to_saving():
    """
    Nothing was loaded, so it is not what was forgotten.
    """
    assert (
        "nothing was loaded at the pause at step 2"
        in cause_of(Script(losses={3: "x"}, pauses={2: "hold"})).text
    )


def test_a_difference_before_the_first_pause_is_not_its_fault():
    """
    Nothing had been paused yet.
    """
    cause = cause_of(Script(losses={1: "x"}, pauses={2: "exit"}))

    assert not cause.is_repeatable
    assert "before the first pause" in cause.text


def test_only_seeded_generators_can_stray():
    """
    One that was never seeded stands elsewhere in every run and means nothing.
    """
    everywhere = {step: {"python": "q"} for step in range(1, 7)}
    everywhere[4] = {"python": "q", "torch": "u"}
    other = Script(rng=everywhere).run()

    assert ["python"] == unseeded(PLAIN, other)
    assert ["torch"] == stray_generators(PLAIN, other)


def test_what_the_shim_said_names_the_cause_of_what_a_restart_lost():
    """
    It comes first, once, with what was seen behind it.
    """
    script = Script(losses={5: "x"}, pauses={2: "exit", 4: "hold"}, said=("`best` goes on", "`best` goes on"))
    cause = cause_of(script)

    assert cause.text.startswith(
        "the shim said: `best` goes on. Seen was: all that was handed over is the same"
    )
    assert "the pauses at steps 2 (exit) and 4 (hold)" in cause.text
    assert cause.hint.startswith("do as it says.")


def test_what_the_shim_said_does_not_explain_a_run_that_was_never_restarted():
    """
    What a restart would lose is still there after a hold.
    """
    script = Script(losses={5: "x"}, pauses={4: "hold"}, said=("`best` goes on",))

    assert cause_of(script).text.startswith("nothing was loaded at the pause at step 4 (hold)")


def test_a_clock_in_the_state_of_a_part_is_named():
    """
    No number differs without pauses, and yet a leaf of the state does.
    """
    looks = {2: {"w": "2"}}
    cause = cause_of(Script(final={"t": "5"}, pauses={2: "exit"}), Script(final={"t": "6"}, looks=looks))

    assert not cause.is_repeatable
    assert cause.text.startswith("a clock, or something else from outside, is in the state of a part")
    assert "`t` is another in each" in cause.text


def test_a_clock_hides_no_other_cause():
    """
    Neither in what is saved nor in what is restored.
    """
    script = Script(losses={5: "x"}, final={"t": "5"}, pauses={2: "exit", 4: "exit"})
    script.looks, script.restored = {2: {"w": "2", "t": "1"}}, {2: {"w": "2", "t": "2"}}
    again = Script(final={"t": "6"}, looks={2: {"w": "2", "t": "3"}, 4: {"w": "4"}})
    cause = find_cause(PLAIN, script.run(), again.run())

    assert cause.is_repeatable
    assert cause.text.startswith(
        "all that was handed over is the same after the pauses at steps 2 (exit) and 4"
    )
