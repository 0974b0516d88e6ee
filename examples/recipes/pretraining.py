"""A small GPT that draws its own batches and goes by steps: `get_batch()`, warm-up, cosine.

Exact because the loop asks `shim.step` where it is, and what draws the batches is in `shim.state`.
"""

import math
from pathlib import Path

import sklearn
import torch
from fingerprint import fingerprint
from torch import nn

import trainer_shim

STEPS, WARMUP, CONTEXT, BATCH, WIDTH = 120, 20, 32, 16, 48

torch.manual_seed(0)
torch.set_num_threads(1)
text = (Path(sklearn.__file__).parent / "datasets/descr/digits.rst").read_text(encoding="utf-8")
chars = sorted(set(text))
data = torch.tensor([chars.index(char) for char in text])
mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True, norm_first=True)
model = nn.ModuleDict(
    {
        "token": nn.Embedding(len(chars), WIDTH),
        "place": nn.Embedding(CONTEXT, WIDTH),
        "blocks": nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        "head": nn.Linear(WIDTH, len(chars)),
    }
)
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)


def get_batch(generator):
    starts = torch.randint(len(data) - CONTEXT, (BATCH,), generator=generator)
    windows = torch.stack([data[start : start + CONTEXT + 1] for start in starts])
    return windows[:, :-1], windows[:, 1:]


def learning_rate(step):
    return 3e-3 * min((step + 1) / WARMUP, 0.55 + 0.45 * math.cos(math.pi * step / STEPS))


shim = trainer_shim.attach(model=model, optimizer=optimizer)
state = shim.state(draws=torch.Generator().manual_seed(1))
while shim.step < STEPS:
    optimizer.param_groups[0]["lr"] = learning_rate(shim.step)
    now, after = get_batch(state.draws)
    hidden = model["token"](now) + model["place"].weight
    logits = model["head"](model["blocks"](hidden, mask=mask, is_causal=True))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), after.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    shim.report(loss=loss)
    shim.boundary()
print(f"sha256 {fingerprint(model, optimizer)}")
