"""A script with a `--resume FILE` of its own, which it also writes: the best weights so far.

Exact because the file is read only where the shim has no checkpoint, and what the script takes from it, the
best accuracy and the epochs done, is in `shim.state`. After a `kill -9` what is trained again writes the file
again, with the same bits.
"""

import argparse

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--resume", metavar="FILE", help="begin with what another run of this script has written")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
train = DataLoader(TensorDataset(images[:600], targets[:600]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

done, best = 0, 0.0
if args.resume and trainer_shim.saved_position() is None:
    saved = torch.load(args.resume)
    done, best = saved["done"], saved["best"]
    for name, part in parts.items():
        part.load_state_dict(saved[name])

shim = trainer_shim.attach(**parts)
state = shim.state(done=done, best=best)
for epoch in shim.epochs(args.epochs - state.done):
    for image, target in shim.batches(train):
        loss = nn.functional.cross_entropy(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shim.report(loss=loss)
    scheduler.step()
    with torch.no_grad():
        accuracy = (model.eval()(images[1200:]).argmax(1) == targets[1200:]).float().mean().item()
    model.train()
    if accuracy > state.best:
        state.best = accuracy
        saved = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**saved, "done": state.done + epoch + 1, "best": accuracy}, "best.pt")
print(f"sha256 {fingerprint(*parts.values())} best {state.best:.4f}")
