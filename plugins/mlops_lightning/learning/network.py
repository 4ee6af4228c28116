"""The built-in network for tables. Everything it learns from the data lies in its buffers, so it exports whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LINEAR_UP_TO = 3.0  # where an outlier begins to be pressed together, in standard deviations


class NumberEmbedding(nn.Module):
    """Numbers [n, f] to [n, f * width]: piecewise-linear over quantile bins (Gorishniy et al., 2022), plus a
    smoothly clipped linear part, so that beyond the outermost bins a number still counts."""

    def __init__(self, features: int, bins: int, width: int) -> None:
        super().__init__()
        self.low: Tensor
        self.inverse: Tensor
        self.register_buffer("low", torch.zeros(features, bins))
        self.register_buffer("inverse", torch.zeros(features, bins))
        self.weight = nn.Parameter(torch.randn(features, bins, width) * bins**-0.5)
        self.linear = nn.Parameter(torch.randn(features, width) * 0.3)
        self.bias = nn.Parameter(torch.zeros(features, width))

    def learn(self, numbers: Any) -> None:
        """Takes the bins from the quantiles of training numbers; equal quantiles share one bin."""
        low, inverse = np.zeros(self.low.shape, np.float32), np.zeros(self.low.shape, np.float32)
        for j in range(low.shape[0]):
            edges = np.unique(np.quantile(numbers[:, j], np.linspace(0, 1, low.shape[1] + 1)))
            low[j, : len(edges) - 1] = edges[:-1]
            inverse[j, : len(edges) - 1] = 1 / np.diff(edges)
        self.low.copy_(torch.from_numpy(low))
        self.inverse.copy_(torch.from_numpy(inverse))

    def forward(self, numbers: Tensor) -> Tensor:
        filled = ((numbers.unsqueeze(-1) - self.low) * self.inverse).clamp(0, 1)
        clipped = numbers * torch.rsqrt(1 + (numbers / LINEAR_UP_TO) ** 2)
        bent = torch.matmul(filled.transpose(0, 1), self.weight).transpose(0, 1)
        return torch.relu(bent + clipped.unsqueeze(-1) * self.linear + self.bias).flatten(1)


class TabularNet(nn.Module):
    """Numbers with is-missing flags, categories and arrays to probabilities [n, k], or values [n].

    `members` networks share the hidden layers; each has its own scaling of the input and its own head (TabM-mini,
    Gorishniy et al., 2024). `raw(x)` gives each member's answer [members, n, outputs], which the loss is taken of.
    """

    def __init__(
        self,
        *,
        outputs: int,
        numbers: int = 0,
        flags: int = 0,
        categories: Sequence[int] = (),
        arrays: Mapping[str, int] | None = None,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.1,
        embedding: int = 8,
        members: int = 8,
        bins: int = 32,
    ) -> None:
        super().__init__()
        self.numbers, self.outputs, self.arrays = numbers, outputs, dict(arrays or {})
        self.embed_numbers = NumberEmbedding(numbers, bins, embedding) if numbers else None
        self.embed_categories = nn.ModuleList(nn.Embedding(n + 1, min(embedding, n + 1)) for n in categories)
        self.scale_arrays = nn.ModuleDict({name: nn.BatchNorm1d(n, affine=False) for name, n in self.arrays.items()})
        embedded = sum(min(embedding, n + 1) for n in categories)
        width = numbers * embedding + flags + embedded + sum(self.arrays.values())
        self.spread = nn.Parameter(torch.randint(0, 2, (members, 1, width)).float() * 2 - 1)
        layers: list[nn.Module] = []
        for before, after in zip((width, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        bound = hidden[-1] ** -0.5
        self.head = nn.Parameter(torch.empty(members, hidden[-1], outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def raw(self, x: Mapping[str, Tensor]) -> Tensor:
        parts = []
        if self.embed_numbers is not None:
            parts += [self.embed_numbers(x["numbers"][:, : self.numbers]), x["numbers"][:, self.numbers :]]
        parts += [embed(x["categories"][:, i]) for i, embed in enumerate(self.embed_categories)]
        parts += [self.scale_arrays[name](x[name].flatten(1)) for name in self.arrays]
        return torch.baddbmm(self.bias, self.hidden(torch.cat(parts, 1) * self.spread), self.head)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        if self.outputs > 1:
            return self.raw(x).softmax(-1).mean(0)
        return self.raw(x).mean(0).squeeze(-1) * self.scale + self.center
