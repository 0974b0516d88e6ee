"""Pretraining on a token stream that a worker reads ahead, in half precision with a GradScaler.

Exact because the stream has a state, `StatefulDataLoader` keeps the one of the last batch that was *used*,
and the scaler is handed over. After a restart only what had been read ahead is read again.
"""

import random
from importlib.resources import files

import torch
from fingerprint import fingerprint
from torch import nn
from torch.utils.data import IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

import trainer_shim

STEPS, CONTEXT = 120, 32


class Stream(IterableDataset):
    """Rows of bytes, cut from documents in random order, without end."""

    def __init__(self, documents):
        self.documents, self.rest, self.chance = documents, b"", random.Random(1)

    def __iter__(self):
        while True:
            while len(self.rest) <= CONTEXT:
                self.rest += self.chance.choice(self.documents).read_bytes()
            row, self.rest = self.rest[: CONTEXT + 1], self.rest[CONTEXT:]
            yield torch.tensor(list(row))

    def state_dict(self):
        return {"rest": self.rest, "chance": self.chance.getstate()}

    def load_state_dict(self, state):
        self.rest = state["rest"]
        self.chance.setstate(state["chance"])


torch.manual_seed(0)
torch.set_num_threads(1)
stream = Stream(sorted(files("sklearn.datasets.descr").glob("*.rst")))
loader = StatefulDataLoader(stream, batch_size=16, num_workers=1, prefetch_factor=4)
model = nn.Sequential(nn.Embedding(256, 64), nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 256))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=20)

shim = trainer_shim.attach(model=model, optimizer=optimizer, scaler=scaler)
for rows in shim.steps(loader, max_steps=STEPS):
    with torch.autocast("cpu", torch.float16):
        loss = nn.functional.cross_entropy(model(rows[:, :-1]).mT, rows[:, 1:])
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    shim.report(loss=loss, scale=scaler.get_scale())
print(f"sha256 {fingerprint(model, optimizer, scaler)} scale {scaler.get_scale():g}")
