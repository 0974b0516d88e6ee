"""A sweep: one training for each learning rate, in one process, and which of them did best.

Exact because each is seeded, has a folder of its own that is named after its rate, and a checkpoint at its
end: one that is over is not trained again, also when rates are added. `prove` takes one at a time:
`sweep.py 0.1`.
"""

import argparse

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

EPOCHS = 3

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("rates", nargs="*", type=float, default=[0.01, 0.1, 1.0])
args = parser.parse_args()

torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
loader = DataLoader(TensorDataset(images[:1200], targets[:1200]), batch_size=32, shuffle=True)


def trained(rate):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.5)
    shim = trainer_shim.attach(model=model, optimizer=optimizer, checkpoints=f"checkpoints/sweep-{rate:g}")
    for _epoch in shim.epochs(EPOCHS):
        for image, target in shim.batches(loader):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(image), target)
            loss.backward()
            optimizer.step()
            shim.report(loss=loss)
    shim.checkpoint()
    shim.detach()
    return model.eval()


accuracies, models = {}, []
for rate in args.rates:
    model = trained(rate)
    right = model(images[1200:]).argmax(1) == targets[1200:]
    accuracies[rate] = round(right.float().mean().item(), 4)
    models.append(model)
print(f"sha256 {fingerprint(*models)} best {max(accuracies, key=accuracies.get)} of {accuracies}")
