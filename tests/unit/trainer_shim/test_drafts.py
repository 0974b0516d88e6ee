"""What goes into a checkpoint, and in which order it is asked for."""

from trainer_shim.drafts import Drafts
from trainer_shim.link_report import LinkReport


class Asked:
    """Stands where all of it comes from."""

    def __init__(self):
        self.log = []

    def before_save(self, *, is_asked):
        self.log.append(f"looks, asked: {is_asked}")

    def whole(self):
        self.log.append("state")
        return {"parts": {}}

    def say_notes(self):
        self.log.append("says what is not exact")

    def now(self):
        self.log.append("facts")
        return {"warnings": ["one"]}

    def prepare(self, state, *, step, epoch, facts):
        return state, step, epoch, facts


def test_a_checkpoint_tells_what_was_said_while_it_was_taken():
    """
    What is lost at a restart is found by the look that comes with the save, and stands in its manifest.
    """
    asked, report = Asked(), LinkReport()
    report.step, report.epoch = 5, 2
    draft = Drafts(asked, asked, asked, asked, report).make(is_asked=True)

    assert ["looks, asked: True", "state", "says what is not exact", "facts"] == asked.log
    assert ({"parts": {}}, 5, 2, {"warnings": ["one"]}) == draft
