"""Q-learning: an environment, a replay buffer and a target network; a step of all is a boundary.

Exact because the environment is a part, by an adapter of four lines, the buffer is in `shim.state`, and its
place is reckoned from `shim.step`. Chance comes from torch's global generator.
"""

import copy
import math

import torch
from fingerprint import fingerprint
from torch import nn

import trainer_shim

STEPS, SIZE, BATCH, SYNC = 1000, 400, 32, 50


class Valley:
    """A car that has to swing to get out of a valley; out there it begins anew."""

    place, speed = -0.5, 0.0

    def step(self, action):
        self.speed += (action - 1) * 0.004 - 0.0025 * math.cos(3 * self.place)
        self.place = max(self.place + self.speed, -1.2)
        if is_out := self.place > 0.5:
            self.place, self.speed = torch.empty(1).uniform_(-0.6, -0.4).item(), 0.0
        return [float(is_out), self.place, self.speed]

    def state_dict(self):
        return {"place": self.place, "speed": self.speed}

    def load_state_dict(self, state):
        self.place, self.speed = state["place"], state["speed"]


torch.manual_seed(0)
torch.set_num_threads(1)
valley, model = Valley(), nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 3))
target, optimizer = copy.deepcopy(model), torch.optim.Adam(model.parameters(), lr=2e-3)

shim = trainer_shim.attach(model=model, target=target, optimizer=optimizer, valley=valley)
state = shim.state(replay=torch.zeros(SIZE, 6))
while shim.step < STEPS:
    seen, is_bold = [valley.place, valley.speed], torch.rand(()) < max(0.1, 1 - shim.step / 500)
    action = torch.randint(3, ()) if is_bold else model(torch.tensor(seen)).argmax()
    state.replay[shim.step % SIZE] = torch.tensor([*seen, action, *valley.step(action.item())])
    rows = state.replay[torch.randint(min(shim.step + 1, SIZE), (BATCH,))]
    reward = rows[:, 3] + 0.99 * (1 - rows[:, 3]) * target(rows[:, 4:]).detach().amax(1)
    loss = nn.functional.smooth_l1_loss(model(rows[:, :2]).gather(1, rows[:, 2:3].long())[:, 0], reward)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if shim.step % SYNC == 0:
        target.load_state_dict(model.state_dict())
    shim.report(loss=loss, place=valley.place)
    shim.boundary()
print(f"sha256 {fingerprint(model, target, optimizer)}")
