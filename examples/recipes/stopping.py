"""Ctrl-C means "enough": the loop ends, and the best weights are evaluated.

Exact because `signals=["SIGTERM"]` leaves Ctrl-C to the script and SIGTERM to the shim, which checkpoints and
ends. A run that was stopped by Ctrl-C goes on from the checkpoint of its last epoch when it is started again.
"""

import copy

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

EPOCHS = 8

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
train = DataLoader(TensorDataset(images[:600], targets[:600]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)


@torch.no_grad()
def accuracy(first, last):
    right = model.eval()(images[first:last]).argmax(1) == targets[first:last]
    model.train()
    return right.float().mean().item()


shim = trainer_shim.attach(model=model, optimizer=optimizer, signals=["SIGTERM"], every_epochs=1)
state = shim.state(best=0.0, best_weights=copy.deepcopy(model.state_dict()))
try:
    for _epoch in shim.epochs(EPOCHS):
        for image, target in shim.batches(train):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(image), target)
            loss.backward()
            optimizer.step()
            shim.report(loss=loss)
        if (now := accuracy(600, 1200)) > state.best:
            state.best, state.best_weights = now, copy.deepcopy(model.state_dict())
except KeyboardInterrupt:
    print(f"stopped after {shim.step} steps")
model.load_state_dict(state.best_weights)
print(f"sha256 {fingerprint(model)} accuracy {accuracy(1200, None):.4f}")
