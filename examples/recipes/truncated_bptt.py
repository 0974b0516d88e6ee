"""A recurrent language model on long rows of text: the hidden state goes on from chunk to chunk, detached.

Exact because the hidden state is in `shim.state`, and is made anew behind an epoch, not before it: an epoch
that is taken up in its middle begins with the one it had there.
"""

from pathlib import Path

import sklearn
import torch
from fingerprint import fingerprint
from torch import nn
from torch.utils.data import DataLoader

import trainer_shim

EPOCHS, ROWS, CHUNK, WIDTH = 6, 8, 16, 64

torch.manual_seed(0)
torch.set_num_threads(1)
files = sorted((Path(sklearn.__file__).parent / "datasets/descr").glob("[di]*.rst"))
text = "".join(file.read_text(encoding="utf-8") for file in files)
chars = sorted(set(text))
data = torch.tensor([chars.index(char) for char in text])
rows = data[: len(data) // ROWS * ROWS].view(ROWS, -1)
chunks = DataLoader(list(rows.unfold(1, CHUNK + 1, CHUNK).unbind(1)), batch_size=None)

embed, drop = nn.Embedding(len(chars), WIDTH), nn.Dropout(0.1)
lstm, head = nn.LSTM(WIDTH, WIDTH, batch_first=True), nn.Linear(WIDTH, len(chars))
model = nn.ModuleList([embed, drop, lstm, head])
optimizer = torch.optim.SGD(model.parameters(), lr=2.0)

shim = trainer_shim.attach(model=model, optimizer=optimizer)
state = shim.state(hidden=None)
for _epoch in shim.epochs(EPOCHS):
    for chunk in shim.batches(chunks):
        output, hidden = lstm(drop(embed(chunk[:, :-1])), state.hidden)
        loss = nn.functional.cross_entropy(head(output).mT, chunk[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        state.hidden = tuple(one.detach() for one in hidden)
        shim.report(loss=loss)
    state.hidden = None
print(f"sha256 {fingerprint(model, optimizer)}")
