"""A small model with what makes exports hard: tied weights, buffers, integers among them."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """Tokens in, scores of tokens out; the embedding is the output layer's weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.norm = nn.BatchNorm1d(12)
        self.mix = nn.Linear(12, 12)
        self.out = nn.Linear(12, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Score each next token."""
        hidden = self.norm(self.embed(tokens).transpose(1, 2)).transpose(1, 2)
        scores: torch.Tensor = self.out(torch.relu(self.mix(hidden)))
        return scores


def make() -> Small:
    """The model before any training."""
    torch.manual_seed(1)
    return Small()


def tokens() -> torch.Tensor:
    """The same input everywhere."""
    return torch.arange(4 * 7).reshape(4, 7) % 20


def not_a_model() -> int:
    """What a mistaken --model may name."""
    return 3
