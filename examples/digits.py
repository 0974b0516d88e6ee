"""Train a small convolutional network on scikit-learn's digits; loader workers augment at random."""

import argparse

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

import trainer_shim


class Augmented(Dataset):
    """Each image is moved by up to a pixel and gets noise, at random, whenever it is loaded."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        shift = torch.randint(-1, 2, (2,)).tolist()
        image = self.images[index].roll(shift, (1, 2))
        return image + 0.1 * torch.randn(image.shape), self.labels[index]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=24)
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
data = load_digits()
images, labels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
loader = DataLoader(Augmented(images[:1400], labels[:1400]), batch_size=32, shuffle=True, num_workers=2)

model = nn.Sequential(
    *(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU()),
    *(nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(128 * 16, 10)),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)

shim = trainer_shim.attach(model=model, optimizer=optimizer, scheduler=scheduler)
for _epoch in shim.epochs(args.epochs):
    for batch, target in shim.batches(loader):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()
        shim.report(loss=loss)
    scheduler.step()

accuracy = (model.eval()(images[1400:]).argmax(1) == labels[1400:]).float().mean()
print(f"sha256 {fingerprint(model, optimizer)} accuracy {accuracy:.4f}")
