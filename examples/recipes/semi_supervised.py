"""Few labelled digits and many without: two loaders of other lengths side by side, as in FixMatch.

Exact because `shim.steps()` keeps a place for each loader; each begins anew when it is through.
"""

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
labelled = DataLoader(TensorDataset(images[:200], targets[:200]), batch_size=16, shuffle=True)
unlabelled = DataLoader(images[200:1500], batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def weak(batch):
    return batch + 0.02 * torch.randn_like(batch)


def strong(batch):
    return (batch + 0.2 * torch.randn_like(batch)) * (torch.rand_like(batch) > 0.2)


# Without the shim: `for (image, target), more in zip(cycle(labelled), cycle(unlabelled))`.
shim = trainer_shim.attach(model=model, optimizer=optimizer)
for (image, target), more in shim.steps(labelled, unlabelled, max_steps=200):
    with torch.no_grad():
        sure, guess = model(weak(more)).softmax(1).max(1)
    own = nn.functional.cross_entropy(model(weak(image)), target)
    other = nn.functional.cross_entropy(model(strong(more)), guess, reduction="none")
    loss = own + (other * (sure > 0.95)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    shim.report(loss=loss, sure=(sure > 0.95).float().mean())

accuracy = (model.eval()(images[1500:]).argmax(1) == targets[1500:]).float().mean()
print(f"sha256 {fingerprint(model, optimizer)} accuracy {accuracy:.4f}")
