"""Evaluation in the middle of an epoch, each so many steps, with a loader and noise of its own.

Exact because it comes before the step's boundary: whenever the run is taken up it is over, or has not begun.
Its loader is iterated as ever, without the shim.
"""

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

EPOCHS, EVERY = 5, 20

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
train = DataLoader(TensorDataset(images[:1400], targets[:1400]), batch_size=32, shuffle=True)
held_out = DataLoader(TensorDataset(images[1400:], targets[1400:]), batch_size=128)
model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@torch.no_grad()
def accuracy():
    model.eval()
    right = [(model(image + 0.1 * torch.randn_like(image)).argmax(1) == target) for image, target in held_out]
    model.train()
    return torch.cat(right).float().mean().item()


shim = trainer_shim.attach(model=model, optimizer=optimizer)
state = shim.state(accuracies=[])
for _epoch in shim.epochs(EPOCHS):
    for image, target in shim.batches(train):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(image), target)
        loss.backward()
        optimizer.step()
        shim.report(loss=loss)
        if (shim.step + 1) % EVERY == 0:
            state.accuracies.append(accuracy())
            shim.report(accuracy=state.accuracies[-1])
print(f"sha256 {fingerprint(model, optimizer)} accuracies {[round(one, 3) for one in state.accuracies]}")
