"""What every test starts from: a clean environment, short paths, one hypothesis profile."""

from __future__ import annotations

import compileall
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from tests.nvml import nvml, nvml_library

__all__ = ["clean_environment", "home", "nvml", "nvml_library"]

# `default` is for every run; `ci`, of the soak tests, looks longer and prints how to repeat what it found.
hypothesis.settings.register_profile("default", deadline=None, max_examples=30)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=400, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Several tests run at once: threads that wait actively for a core take it from the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever starts the tests in the background of a shell starts them without Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An engine in the test's own process: thousands of events are not worth reading.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Compile what hundreds of processes will import, once; none of them writes bytecode itself."""
    if not hasattr(config, "workerinput"):  # A worker of pytest-xdist: whoever started it has compiled.
        for folder in ("supervisor", "trainer_shim", "benchmarks", "tests"):
            compileall.compile_dir(ROOT / folder, quiet=2)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the settings of whoever runs it, acts on their jobs or becomes one of them."""
    for name in [name for name in os.environ if name.startswith("TRAINING_SUPERVISOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRAINING_SUPERVISOR_ADOPT", "0")


@pytest.fixture
def memory() -> Iterator[Path]:
    """Yield a folder in memory where there is one, for tests that write thousands of files and flush them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    """Yield a folder for a daemon; short, because the path of a unix socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)
