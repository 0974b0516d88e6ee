"""Voice conversion in small: mel spectra are said again by another voice, against two discriminators.

`voices.py FOLDER...` takes recorded speech, a folder of wav files for each voice; without any, utterances are
drawn by seed. Exact because networks and optimizers are parts, and a boundary comes when both have stepped.
"""

import argparse

import torch
from fingerprint import fingerprint
from speech import MELS, drawn, mels, recorded
from torch import nn
from torch.nn.functional import cross_entropy, l1_loss
from torch.utils.data import DataLoader, TensorDataset

import trainer_shim

EPOCHS = 12

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folders", nargs="*", metavar="FOLDER", help="wav files of one voice, at 8 kHz")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
sounds, voices = recorded(args.folders) if args.folders else drawn()
num_voices = int(voices.max()) + 1
loader = DataLoader(TensorDataset(mels(sounds), voices), batch_size=16, shuffle=True)


def network(num_out):
    first, last = nn.Conv1d(MELS, 48, 5, padding="same"), nn.Conv1d(48, num_out, 3, padding="same")
    return nn.Sequential(first, nn.LeakyReLU(0.2), nn.Dropout(0.1), last)


converter, embed = network(MELS), nn.Embedding(num_voices, MELS)
frames, speaker = network(1), network(num_voices)
own = torch.optim.AdamW([*converter.parameters(), *embed.parameters()], lr=2e-3, betas=(0.8, 0.99))
theirs = torch.optim.AdamW([*frames.parameters(), *speaker.parameters()], lr=2e-3, betas=(0.8, 0.99))
parts = {"converter": converter, "embed": embed, "frames": frames, "speaker": speaker}

shim = trainer_shim.attach(**parts, own=own, theirs=theirs)
for _epoch in shim.epochs(EPOCHS):
    for real, voice in shim.batches(loader):
        other = torch.randint(num_voices, voice.shape)
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
print(f"sha256 {fingerprint(*parts.values(), own, theirs)} from {len(sounds)} utterances")
