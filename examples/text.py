"""Train a character model on the texts that describe scikit-learn's data sets; gradients accumulate."""

import argparse
from pathlib import Path

import sklearn
import torch
from fingerprint import fingerprint
from torch import nn
from torch.utils.data import DataLoader

import trainer_shim

CONTEXT, BATCH, ACCUMULATE = 64, 16, 2


class CharModel(nn.Module):
    """Which character comes next?"""

    def __init__(self, num_chars):
        super().__init__()
        self.embed = nn.Embedding(num_chars, 32)
        self.gru = nn.GRU(32, 96, batch_first=True)
        self.head = nn.Linear(96, num_chars)

    def forward(self, windows):
        """Return the mean loss, in nats a character."""
        hidden, _ = self.gru(self.embed(windows[:, :-1]))
        return nn.functional.cross_entropy(self.head(hidden).flatten(0, 1), windows[:, 1:].flatten())


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=8)
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
files = sorted((Path(sklearn.__file__).parent / "datasets/descr").glob("*.rst"))
text = "".join(file.read_text(encoding="utf-8") for file in files)
chars = sorted(set(text))
windows = torch.tensor([chars.index(char) for char in text]).unfold(0, CONTEXT + 1, CONTEXT // 4)
train, held_out = windows[:-128], windows[-128:]
train = train[: len(train) - len(train) % (BATCH * ACCUMULATE)]  # Whole steps only.
loader = DataLoader(train, batch_size=BATCH, shuffle=True)

model = CharModel(len(chars))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

shim = trainer_shim.attach(model=model, optimizer=optimizer)
for _epoch in shim.epochs(args.epochs):
    for index, batch in enumerate(shim.batches(loader, accumulate=ACCUMULATE), start=1):
        loss = model(batch)
        (loss / ACCUMULATE).backward()
        if index % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
        shim.report(loss=loss)

print(f"sha256 {fingerprint(model, optimizer)} loss {model(held_out).item():.4f}")
