"""Speech for a small training: log mel spectra of recorded clips, or of utterances drawn by seed."""

import wave
from contextlib import suppress
from pathlib import Path

import torch

RATE, LENGTH, MELS = 8000, 4096, 24


def recorded(folders, most=96):
    """Return the first half second of each wav file below the folders, and its voice: one for each folder.

    Files that are empty, shorter, or anything else than mono with 16 bits at 8 kHz are left out.
    """
    sounds, voices = [], []
    for voice, folder in enumerate(folders):
        for file in sorted(Path(folder).rglob("*.wav"))[:most]:
            with suppress(wave.Error, EOFError), wave.open(str(file)) as clip:
                frames = clip.readframes(LENGTH)
                if clip.getparams()[:3] == (1, 2, RATE) and len(frames) == 2 * LENGTH:
                    sounds.append(torch.frombuffer(bytearray(frames), dtype=torch.int16) / 2**15)
                    voices.append(voice)
    return torch.stack(sounds), torch.tensor(voices)


def drawn(num=96, num_voices=4):
    """Return harmonic tones with a wandering pitch, coloured by voices, and the voices."""
    voices, overtones = torch.arange(num) % num_voices, torch.arange(1, 12)[:, None]
    pitch = 90 + 40 * voices[:, None] + torch.randn(num, LENGTH).cumsum(1)
    loudness = torch.exp(-0.2 * (1 + voices)[:, None, None] * overtones)
    return ((2 * torch.pi / RATE * pitch.cumsum(1)[:, None] * overtones).sin() * loudness).sum(1), voices


def mels(sounds):
    """Return log mel spectra: sounds by bands by frames."""
    points = 700 * (
        10 ** (torch.linspace(0, 2146, MELS + 2) / 2595) - 1
    )  # Equally far apart on the mel scale.
    bins = torch.linspace(0, RATE / 2, 129)[:, None]
    rising, falling = (bins - points[:-2]) / points.diff()[:-1], (points[2:] - bins) / points.diff()[1:]
    spectra = torch.stft(sounds, 256, 64, window=torch.hann_window(256), return_complex=True).abs()
    return (spectra.mT @ torch.minimum(rising, falling).clamp(min=0)).clamp(min=1e-4).log().mT
