"""A denoising diffusion model on digits, with an averaged copy of its weights and accumulated gradients.

Exact because the copy is handed over as well, and a boundary comes only behind the optimizer's step.
"""

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

import trainer_shim

STEPS, ACCUMULATE, TIMES = 120, 2, 50

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
loader = DataLoader(images, batch_size=32, shuffle=True)
kept = torch.cumprod(1 - torch.linspace(1e-3, 0.2, TIMES), 0)


class Denoiser(nn.Module):
    """Which noise was added?"""

    def __init__(self):
        super().__init__()
        self.time = nn.Embedding(TIMES, 64)
        self.layers = nn.Sequential(nn.Linear(128, 256), nn.SiLU(), nn.Dropout(0.1), nn.Linear(256, 64))

    def forward(self, noisy, time):
        """Return the noise."""
        return self.layers(torch.cat([noisy, self.time(time)], 1))


model = Denoiser()
ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

shim = trainer_shim.attach(model=model, ema=ema, optimizer=optimizer)
for index, clean in enumerate(shim.steps(loader, max_steps=STEPS, accumulate=ACCUMULATE), start=1):
    time, noise = torch.randint(TIMES, (len(clean),)), torch.randn_like(clean)
    share = kept[time][:, None]
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    loss = nn.functional.mse_loss(model(noisy, time), noise)
    (loss / ACCUMULATE).backward()
    if index % ACCUMULATE == 0:
        optimizer.step()
        optimizer.zero_grad()
        ema.update_parameters(model)
    shim.report(loss=loss)
print(f"sha256 {fingerprint(model, ema, optimizer)}")
