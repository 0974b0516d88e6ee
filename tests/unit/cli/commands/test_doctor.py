"""Which `supervisorctl` a shell would take: ours, a link to ours, or another program of that name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supervisor.cli.commands import doctor

ROOT = Path(__file__).parents[4]
SCRIPT = "#!/usr/bin/python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"


@pytest.fixture
def folder(tmp_path):
    """An environment with our command as pip writes it, a link to it as administrators make one."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["supervisorctl"]
    module, _, function = wanted.partition(":")
    for name in ("env", "linked", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "env/supervisorctl").write_text(SCRIPT.format(module=module, function=function))
    other = SCRIPT.format(module="supervisor.supervisorctl", function="main")
    (tmp_path / "other/supervisorctl").write_text(other)
    (tmp_path / "linked/supervisorctl").symlink_to("../env/supervisorctl")
    for name in ("env", "other"):
        (tmp_path / name / "supervisorctl").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "level"), [("env", "ok"), ("linked", "ok"), ("other", "warn"), ("nowhere", "warn")]
)
def test_the_command_of_another_program_is_told_from_ours(folder, place, level):
    """
    Also through a link; whoever is warned for nothing does not read the next warning.
    """
    assert level == doctor._command_in_path(str(folder / place)).level
