"""Which variables a loop carries, from its source: those that matter, and no others.

Covers: loops that people write, as text.
Does not cover: what is said of them (tests/exactness/test_strays.py).
"""

from __future__ import annotations

import ast
import importlib
import textwrap
from pathlib import Path

import pytest

from trainer_shim.loop_names import carried_at, repeated_at, unset_behind
from trainer_shim.script_names import Names

HEAD = "def train():\n    for epoch in shim.epochs(3):\n"
#: The line of every loop over batches carries this mark; there the boundary is.
MARK = "# here"

CARRIED = {
    "a counter that sets the rate": (
        """
        for x in shim.batches(loader):  # here
            for group in opt.param_groups:
                group["lr"] = 0.1 / (1 + it)
            it += 1
            step(x)
        """,
        ["it"],
    ),
    "a counter in the place of the learning rate": (
        """
        for x in shim.batches(loader):  # here
            opt.param_groups[0]["lr"] = 0.1 * 0.9**it
            it = it + 1
        """,
        ["it"],
    ),
    "a best value that stops the loop": (
        """
        total = 0.0
        for x in shim.batches(loader):  # here
            total += step(x).item()
        if total < best:
            best, bad = total, 0
        else:
            bad += 1
        if bad > 2:
            break
        """,
        ["total", "best", "bad"],
    ),
    "a best value that saves a model": (
        """
        for x in shim.batches(loader):  # here
            loss = step(x)
            if loss < best:
                best = loss
                torch.save(model.state_dict(), "best.pt")
        """,
        ["best"],
    ),
    "hidden state": (
        """
        for x in shim.batches(loader):  # here
            hidden = hidden.detach()
            out, hidden = model(x, hidden)
        """,
        ["hidden"],
    ),
    "a list that the loss depends on": (
        """
        for x in shim.batches(loader):  # here
            loss = step(x, scale=1 / (1 + sum(losses) / max(1, len(losses))))
            losses.append(loss.item())
        """,
        ["losses"],
    ),
    "a replay buffer": (
        """
        for x in shim.batches(loader):  # here
            memory.append(x)
            step(random.sample(memory, 4))
        """,
        ["memory"],
    ),
    "an attribute of a trainer": (
        """
        for x in shim.batches(loader):  # here
            self.num_steps += 1
            if self.num_steps % 100 == 0:
                self.evaluate()
            self.step(x)
        """,
        ["self.num_steps"],
    ),
    "a temperature that is handed to the model": (
        """
        for x in shim.batches(loader):  # here
            tau = max(0.5, tau * 0.99)
            model.temperature = tau
        """,
        ["tau"],
    ),
    "a penalty that follows what was seen": (
        """
        for x in shim.batches(loader):  # here
            loss = step(x, beta)
            beta = beta * 1.5 if loss.item() > 2 * target else beta / 1.5
        """,
        ["beta"],
    ),
    "an item of a dict": (
        """
        for x in shim.batches(loader):  # here
            stats["n"] += 1
            step(x, stats["n"])
        """,
        ["stats"],
    ),
}

FINE = {
    "nothing": "for x in shim.batches(loader):  # here\n    loss = step(x)",
    "a sum that is printed": """
        total = 0.0
        for x in shim.batches(loader):  # here
            loss = step(x)
            total += loss.item()
        print(epoch, total / len(loader))
        """,
    "a running mean in a progress bar": """
        bar = tqdm(loader)
        for x in shim.batches(bar):  # here
            running = 0.9 * running + 0.1 * step(x).item()
            bar.set_postfix(loss=running)
            bar.update(1)
        """,
    "a timer": """
        for x in shim.batches(loader):  # here
            step(x)
            now = time.time()
            print(f"{now - before:.2f} s")
            before = now
        """,
    "a counter of what is logged": """
        for x in shim.batches(loader):  # here
            loss = step(x)
            it += 1
            if it % 10 == 0:
                print(it, loss.item())
            writer.add_scalar("loss", loss, it)
        """,
    "a best value that is only printed": """
        for x in shim.batches(loader):  # here
            loss = step(x).item()
            if loss < best:
                best = loss
            logger.info("best %f", best)
        """,
    "a list that is drawn afterwards": """
        for x in shim.batches(loader):  # here
            losses.append(step(x).item())
        """,
    "accumulated in a variable of the turn": """
        for x in shim.batches(loader):  # here
            loss = 0
            for part in x.chunk(2):
                loss = loss + model(part)
            loss.backward()
        """,
    "reckoned from the step": """
        for x in shim.batches(loader):  # here
            it = shim.step
            for group in opt.param_groups:
                group["lr"] = 0.1 / (1 + it)
        """,
    "kept by the script": """
        for x in shim.batches(loader):  # here
            it = it + 1
            step(x, it)
            shim.extra["it"] = it
        """,
    "assigned in both branches": """
        for x in shim.batches(loader):  # here
            if x.sum() > 0:
                scale = 1.0
            else:
                scale = 0.5
            step(x, scale)
        """,
    "accuracy of an epoch": """
        correct = seen = 0
        for x, y in shim.batches(loader):  # here
            out = model(x)
            correct += (out.argmax(1) == y).sum().item()
            seen += len(y)
            criterion(out, y).backward()
        print(f"accuracy {correct / seen}")
        """,
}


def place(body, tmp_path, head=HEAD):
    """The file of a function, its first line and the line of its boundary."""
    text = head + textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8) + "\n"
    file = tmp_path / "script.py"
    file.write_text(text)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if MARK in one)
    return str(file), 1, line


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_loop_carries_is_named(tmp_path, name):
    """
    In the order of the lines that change it.
    """
    body, names = CARRIED[name]

    assert sorted(names) == sorted(
        one.name for one in carried_at(*place(body, tmp_path)).carried if one.matters
    )


@pytest.mark.parametrize("name", FINE)
def test_what_is_shown_or_begins_anew_each_turn_is_not(tmp_path, name):
    """
    A false alarm costs more than a remark is worth.
    """
    assert [] == [one for one in carried_at(*place(FINE[name], tmp_path)).carried if one.matters]


@pytest.mark.parametrize(
    ("body", "is_repeated"),
    [
        ("for x in shim.batches(loader):  # here\n    step(x)", False),
        ("model.train()\nfor x in shim.batches(loader):  # here\n    step(x)\nprint(epoch)", False),
        ("for x in shim.batches(loader):  # here\n    step(x)\nscheduler.step()", True),
        (
            "for g in groups:\n    g['lr'] /= 2\nfor x in shim.batches(loader):  # here\n    step(x)",
            True,
        ),
    ],
)
def test_what_past_epochs_do_again_is_seen(tmp_path, body, is_repeated):
    """
    Only in loops that are not the shim's.
    """
    own = "def train():\n    for epoch in range(3):\n"
    text = place(body, tmp_path)

    assert 0 == repeated_at(*text)
    (tmp_path / "own").mkdir()
    file, first, line = place(body, tmp_path / "own", head=own)
    assert is_repeated is bool(repeated_at(file, first, line))


@pytest.mark.parametrize("text", ["", "def f(:\n", "x = 1\n"])
def test_source_that_is_not_the_codes_is_nothing(tmp_path, text):
    """
    A file that was changed or is gone, and what was typed.
    """
    file = tmp_path / "gone.py"
    file.write_text(text)

    assert [] == carried_at(str(file), 1, 7).carried
    assert [] == carried_at("<stdin>", 1, 1).carried
    assert 0 == repeated_at(str(file), 5, 7)


@pytest.mark.parametrize(
    "module", ["argparse", "heapq", "random", "statistics", "tokenize", "typing", "zipfile"]
)
def test_no_source_is_too_odd(module):
    """
    Every loop of some modules that others wrote: an error in a look would be one in nobody's training.
    """
    file = importlib.import_module(module).__file__
    tree = ast.parse(Path(file).read_text())
    num_loops = 0
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef):
            first = min([scope.lineno, *(one.lineno for one in scope.decorator_list)])
            for loop in ast.walk(scope):
                if isinstance(loop, ast.For | ast.While):
                    num_loops += 1
                    names = Names({}, vars(importlib.import_module(module)))
                    carried_at(file, first, loop.body[0].lineno, names=names, is_result_used=True)
                    repeated_at(file, first, loop.body[0].lineno)
                    unset_behind(file, first, loop.body[0].lineno)

    assert num_loops > 3


def test_what_a_function_changes_in_its_first_argument_is_carried(tmp_path):
    """
    As `random.shuffle(order)` and `heappush(best, loss)` do, called by either name.
    """
    body = """
        for x in shim.batches(loader):  # here
            shuffle(order)
            heapq.heappush(best, step(x, order[0]))
            step(best[0])
        """

    assert ["order", "best"] == [
        one.name for one in carried_at(*place(body, tmp_path)).carried if one.matters
    ]
