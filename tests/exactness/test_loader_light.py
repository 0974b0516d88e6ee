"""The shim loads neither torch nor numpy by itself, and does without NumPy altogether."""

import random
import subprocess
import sys

import numpy as np

from trainer_shim import rng


def run_python(code):
    """
    What a fresh interpreter prints.
    """
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_importing_loads_neither_torch_nor_numpy():
    """
    A script that uses neither pays for neither, and capturing does not load them.
    """
    code = (
        "import sys; from trainer_shim import loader, rng; state = rng.capture(); rng.restore(state);"
        "p = loader.open_pass([1, 2]); next(p); p.state_dict();"
        "print(sorted(state), {'torch', 'numpy'} & set(sys.modules))"
    )

    assert "['python'] set()" == run_python(code)


def test_numpy_may_be_absent_where_its_state_is_restored():
    """
    A checkpoint from a machine with NumPy restores on one without it: nobody can draw from it there.
    """
    state = {"python": rng.dump(random), "numpy": rng.dump(np.random.RandomState(3))}
    code = (
        "import sys; sys.modules['numpy'] = None; from trainer_shim import rng;"
        f"rng.restore({state!r}); print('restored')"
    )

    assert "restored" == run_python(code)
