"""A loop that a library owns: it takes a loader and a function to call behind each step, and no more.

Exact because `shim.follow()` keeps the loader's place without making boundaries, and `shim.boundary()` says
that a step is done without knowing the loader. The epochs that are past give no batches after a restart.
"""

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim


class Trainer:
    """As libraries have it: it knows nothing of the shim."""

    def __init__(self, model, optimizer, num_epochs, on_step):
        self.model, self.optimizer, self.num_epochs, self.on_step = model, optimizer, num_epochs, on_step

    def fit(self, loader):
        for _ in range(self.num_epochs):
            for images, targets in loader:
                self.optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.model(images), targets)
                loss.backward()
                self.optimizer.step()
                self.on_step(loss)


def on_step(loss):
    shim.report(loss=loss)
    shim.boundary()


torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
loader = DataLoader(TensorDataset(images, targets), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

shim = trainer_shim.attach(model=model, optimizer=optimizer)
Trainer(model, optimizer, 4, on_step).fit(shim.follow(loader))
print(f"sha256 {fingerprint(model, optimizer)}")
