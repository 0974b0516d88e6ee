"""A prefetcher: it gives a batch only when it has read the next one, as those that copy to a GPU do.

Exact because the shim counts the batches that the loop *used*: what was read ahead is read again. `__iter__`
can be called for each turn and keeps nothing in the object.
"""

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

STEPS = 200


class Ahead:
    """The batches of a loader, the next one always on its way to the device."""

    def __init__(self, loader, device):
        self.loader, self.device = loader, device

    def __iter__(self):
        ready = None
        for batch in self.loader:
            coming = [one.to(self.device, non_blocking=True) for one in batch]
            if ready is not None:
                yield ready
            ready = coming
        yield ready

    def __len__(self):
        return len(self.loader)


torch.manual_seed(0)
torch.set_num_threads(1)
device = "cuda" if torch.cuda.is_available() else "cpu"
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
loader = DataLoader(TensorDataset(images, targets), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

shim = trainer_shim.attach(model=model, optimizer=optimizer)
for image, target in shim.steps(Ahead(loader, device), max_steps=STEPS):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(image), target)
    loss.backward()
    optimizer.step()
    shim.report(loss=loss)
print(f"sha256 {fingerprint(model, optimizer)}")
