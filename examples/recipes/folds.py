"""Cross-validation: three trainings in one process, one after the other.

Exact because each is seeded and has a checkpoint at its end: one that is over is not trained again. Each
`attach()` has a folder of its own: `folds`, `folds+2`, `folds+3`. `prove` takes one at a time: `--only 1`.
"""

import argparse

import numpy as np
import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

EPOCHS, FOLDS = 4, 3

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--only", type=int, choices=range(FOLDS), help="train this fold only")
args = parser.parse_args()

torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)


def trained(fold, train):
    torch.manual_seed(fold)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(TensorDataset(images[train], targets[train]), batch_size=32, shuffle=True)
    shim = trainer_shim.attach(model=model, optimizer=optimizer)
    for _epoch in shim.epochs(EPOCHS):
        for image, target in shim.batches(loader):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(image), target)
            loss.backward()
            optimizer.step()
            shim.report(loss=loss)
    shim.checkpoint()
    shim.detach()
    return model


accuracies, models = [], []
for fold, (train, test) in enumerate(KFold(FOLDS, shuffle=True, random_state=0).split(images)):
    if args.only not in (None, fold):
        continue
    model = trained(fold, train)
    accuracies.append((model.eval()(images[test]).argmax(1) == targets[test]).float().mean().item())
    models.append(model)
print(f"sha256 {fingerprint(*models)} accuracy {np.mean(accuracies):.4f}")
