"""A signal to every process of a run at once, as systemd, Slurm and a terminal send it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]

TRAINER = """
import time, torch, trainer_shim
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(4000, 4)), batch_size=4, num_workers=2)
net = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(net.parameters(), 0.01)
shim = trainer_shim.attach(model=net, optimizer=optimizer)
for epoch in shim.epochs(10):
    for (x,) in shim.batches(loader):
        optimizer.zero_grad(); net(x).pow(2).mean().backward(); optimizer.step()
        time.sleep(0.01)
        if shim.step == 10:
            print("training", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.soak), (signal.SIGINT, 130)]
)
def test_a_signal_to_the_whole_group_still_ends_with_a_checkpoint(tmp_path, number, code):
    """
    Data-loader workers outlive the signal until the run has its checkpoint, and none is left behind.
    """
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    run = subprocess.Popen(
        [sys.executable, "-c", TRAINER],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert run.stdout is not None
        assert "training" in run.stdout.readline()
        os.killpg(run.pid, number)
        # communicate() returns when the last holder of the pipe is gone: the workers hold it too.
        _, errors = run.communicate(timeout=60)
    finally:
        subprocess.run(["pkill", "-KILL", "-g", str(run.pid)], check=False)

    assert code == run.returncode, errors
    assert "is durable" in errors
    assert list(tmp_path.glob("checkpoints/*/step-*/manifest.json"))
