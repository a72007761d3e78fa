"""Dropout whose masks come from a random stream of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout whose masks come from a random stream of its own.

    The stream is handed over by `use_stream`; without one the default generator serves. On a CPU a mask costs
    one random byte an element, so the drop probability is a multiple of 1/256 there (0.5 is exact) and the
    scale is that multiple's: the expectation is unbiased. Elsewhere the device's own kernel is used.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a drop probability lies in [0, 1), not {p}")
        self.p = p
        self.generator: torch.Generator | None = None

    def extra_repr(self) -> str:
        """The drop probability, for printing."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            keep = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
            return x * keep.div_(1.0 - self.p)
        drawn = self.random_bytes(x)
        if drawn is None:
            return x
        random, kept = drawn
        return x * (random < kept).to(x.dtype).mul_(256.0 / kept)

    def random_bytes(self, x: Tensor) -> tuple[Tensor, int] | None:
        """A random byte for each number of `x`, uint8, and how many of 256 keep it; None where nothing is dropped."""
        kept = max(1, round(256 * (1.0 - self.p)))
        if kept == 256:  # which no byte can be compared with
            return None
        words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int32)
        # [-2^31, 2^31): all 32 bits are random, read as four bytes each
        words.random_(-(2**31), 2**31 - 1, generator=self.generator)
        return words.view(torch.uint8)[: x.numel()].view(x.shape), kept


def use_stream(module: nn.Module, generator: torch.Generator) -> None:
    """Let every `Dropout` inside `module` draw its masks from `generator`."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator
