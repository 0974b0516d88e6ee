"""Epochs that end when the held-out loss gets no better; the best weights are kept.

Exact because best loss, patience and the best weights are variables of `shim.state`.
"""

import copy

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

MAX_EPOCHS, PATIENCE = 60, 3

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
train = DataLoader(TensorDataset(images[:600], targets[:600]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)


@torch.no_grad()
def held_out():
    loss = nn.functional.cross_entropy(model.eval()(images[1200:]), targets[1200:])
    model.train()
    return loss.item()


shim = trainer_shim.attach(model=model, optimizer=optimizer, scheduler=scheduler)
state = shim.state(best=float("inf"), bad=0, best_weights=copy.deepcopy(model.state_dict()))
for _epoch in shim.epochs(MAX_EPOCHS):
    if state.bad >= PATIENCE:
        break
    for image, target in shim.batches(train):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(image), target)
        loss.backward()
        optimizer.step()
        shim.report(loss=loss)
    now = held_out()
    scheduler.step(now)
    state.bad = 0 if now < state.best else state.bad + 1
    if now < state.best:
        state.best, state.best_weights = now, copy.deepcopy(model.state_dict())

model.load_state_dict(state.best_weights)
print(f"sha256 {fingerprint(model, optimizer)} best {state.best:.4f} after {shim.step} steps")
