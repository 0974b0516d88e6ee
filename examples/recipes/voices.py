"""Voice conversion in small: mel spectra are said again by another voice, against two discriminators.

No real speech: each utterance is a harmonic tone with a wandering pitch, coloured by one of four voices, by
seed. Exact because networks and optimizers are parts, and a boundary comes when both have stepped.
"""

import torch
from fingerprint import fingerprint
from torch import nn
from torch.nn.functional import cross_entropy, l1_loss
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

EPOCHS, RATE, MELS, VOICES, NUM = 12, 8000, 24, 4, 96

torch.manual_seed(0)
torch.set_num_threads(1)
voices, overtones = torch.arange(NUM) % VOICES, torch.arange(1, 12)[:, None]
pitch = 90 + 40 * voices[:, None] + torch.randn(NUM, 4096).cumsum(1)
loudness = torch.exp(-0.2 * (1 + voices)[:, None, None] * overtones)
sounds = ((2 * torch.pi / RATE * pitch.cumsum(1)[:, None] * overtones).sin() * loudness).sum(1)

points = 700 * (10 ** (torch.linspace(0, 2146, MELS + 2) / 2595) - 1)  # Equally far apart on the mel scale.
bins = torch.linspace(0, RATE / 2, 129)[:, None]
rising, falling = (bins - points[:-2]) / points.diff()[:-1], (points[2:] - bins) / points.diff()[1:]
spectra = torch.stft(sounds, 256, 64, window=torch.hann_window(256), return_complex=True).abs()
mels = (spectra.mT @ torch.minimum(rising, falling).clamp(min=0)).clamp(min=1e-4).log().mT
loader = DataLoader(TensorDataset(mels, voices), batch_size=16, shuffle=True)


def network(num_out):
    first, last = nn.Conv1d(MELS, 48, 5, padding="same"), nn.Conv1d(48, num_out, 3, padding="same")
    return nn.Sequential(first, nn.LeakyReLU(0.2), nn.Dropout(0.1), last)


converter, embed, frames, speaker = network(MELS), nn.Embedding(VOICES, MELS), network(1), network(VOICES)
own = torch.optim.AdamW([*converter.parameters(), *embed.parameters()], lr=2e-3, betas=(0.8, 0.99))
theirs = torch.optim.AdamW([*frames.parameters(), *speaker.parameters()], lr=2e-3, betas=(0.8, 0.99))
parts = {"converter": converter, "embed": embed, "frames": frames, "speaker": speaker}

shim = trainer_shim.attach(**parts, own=own, theirs=theirs)
for _epoch in shim.epochs(EPOCHS):
    for real, voice in shim.batches(loader):
        other = torch.randint(VOICES, voice.shape)
        said = converter(real + embed(other)[:, :, None])
        wrong = (frames(real) - 1).square().mean() + frames(said.detach()).square().mean()
        theirs.zero_grad()
        (wrong + cross_entropy(speaker(real).mean(2), voice)).backward()
        theirs.step()
        back = converter(said + embed(voice)[:, :, None])
        loss = (frames(said) - 1).square().mean() + cross_entropy(speaker(said).mean(2), other)
        own.zero_grad()
        (loss + 5 * l1_loss(back, real)).backward()
        own.step()
        shim.report(loss=loss, wrong=wrong)
print(f"sha256 {fingerprint(*parts.values(), own, theirs)}")
