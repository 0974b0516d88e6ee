"""A generative adversarial network on digits: two modules, two optimizers, noise from torch's generator.

Exact because all four are handed over, and a boundary comes only when both optimizers have stepped.
"""

import torch
from fingerprint import fingerprint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

import trainer_shim

EPOCHS, NOISE = 4, 16

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
loader = DataLoader(images, batch_size=32, shuffle=True, drop_last=True)
generator = nn.Sequential(
    *(nn.Linear(NOISE, 128), nn.BatchNorm1d(128), nn.ReLU()),
    *(nn.Linear(128, 64), nn.Tanh()),
)
critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1))
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))


def judged(batch, is_real):
    logits = critic(batch)
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, is_real))


shim = trainer_shim.attach(
    generator=generator,
    critic=critic,
    generator_optimizer=generator_optimizer,
    critic_optimizer=critic_optimizer,
)
for _epoch in shim.epochs(EPOCHS):
    for real in shim.batches(loader):
        fake = generator(torch.randn(len(real), NOISE))
        critic_loss = judged(real, 0.9) + judged(fake.detach(), 0.0)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        loss = judged(fake, 1.0)
        generator_optimizer.zero_grad()
        loss.backward()
        generator_optimizer.step()
        shim.report(loss=loss, critic=critic_loss)
print(f"sha256 {fingerprint(generator, critic, generator_optimizer, critic_optimizer)}")
