"""Waves that are to be carried on, by LBFGS: the optimizer calls a closure as often as it needs in each step.

Exact because a boundary comes only behind `optimizer.step(closure)`, never inside the closure, and what the
optimizer remembers of its steps is in its state.
"""

import torch
from fingerprint import fingerprint
from torch import nn

import trainer_shim

STEPS, WAVES, LENGTH, WIDTH = 40, 16, 24, 16

torch.manual_seed(0)
torch.set_num_threads(1)
starts = torch.rand(WAVES, 1) * 2 * torch.pi
waves = (starts + torch.arange(LENGTH + 1) / 4).sin()
train, held_out = waves[4:], waves[:4]


class Sequence(nn.Module):
    """Which number comes next?"""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(1, WIDTH, batch_first=True), nn.Linear(WIDTH, 1)

    def forward(self, waves):
        """Return the mean error."""
        hidden, _ = self.gru(waves[:, :-1, None])
        return nn.functional.mse_loss(self.head(hidden)[:, :, 0], waves[:, 1:])


model = Sequence()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = model(train)
    loss.backward()
    return loss


shim = trainer_shim.attach(model=model, optimizer=optimizer)
while shim.step < STEPS:
    shim.report(loss=optimizer.step(closure))
    shim.boundary()

with torch.no_grad():
    error = model(held_out).item()
print(f"sha256 {fingerprint(model, optimizer)} error {error:.6f}")
