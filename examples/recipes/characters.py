"""A character model over an endless loader, where scripts have `cycle(loader)` and `next(iterator)`.

Exact because `shim.steps()` keeps the place in the present turn of the loader, and which turn it is.
"""

from pathlib import Path

import sklearn
import torch
from fingerprint import fingerprint
from torch import nn
from torch.utils.data import DataLoader

import trainer_shim

STEPS, CONTEXT = 150, 32


class CharModel(nn.Module):
    """Which character comes next?"""

    def __init__(self, num_chars):
        super().__init__()
        self.embed = nn.Embedding(num_chars, 32)
        self.gru = nn.GRU(32, 64, batch_first=True)
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(64, num_chars)

    def forward(self, windows):
        """Return the mean loss, in nats a character."""
        hidden, _ = self.gru(self.embed(windows[:, :-1]))
        return nn.functional.cross_entropy(self.head(self.drop(hidden)).mT, windows[:, 1:])


torch.manual_seed(0)
torch.set_num_threads(1)
text = (Path(sklearn.__file__).parent / "datasets/descr/digits.rst").read_text(encoding="utf-8")
chars = sorted(set(text))
windows = torch.tensor([chars.index(char) for char in text]).unfold(0, CONTEXT + 1, 4)
loader = DataLoader(windows, batch_size=16, shuffle=True)
model = CharModel(len(chars))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=STEPS)

# Without the shim: `batches = cycle(loader)` and `for step in range(STEPS): batch = next(batches)`.
shim = trainer_shim.attach(model=model, optimizer=optimizer, scheduler=scheduler)
for batch in shim.steps(loader, max_steps=STEPS):
    optimizer.zero_grad()
    loss = model(batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    shim.report(loss=loss)
print(f"sha256 {fingerprint(model, optimizer)}")
