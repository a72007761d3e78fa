"""Strategies small enough to be compared with their equations, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import references
import torch
from torch import Tensor, nn

from unheard.model.network import NetworkSettings
from unheard.training.strategies import Batch, Strategy, StrategyConfig, build

F, C, S = 5, 4, 3
NETWORK = NetworkSettings(tdnn=((8, 5, 2), (6, 3, 4)), lstm=8, dense=12, hidden=(16, 16), dropout=0.0)
LENGTHS = (20, 33, 9, 17, 25, 40, 18, 1)


def make(key: str, options: Mapping[str, Any] | None = None, *, dropout: float = 0.0, seed: int = 0) -> Strategy:
    config = StrategyConfig(F, C, S, NetworkSettings(**{**vars(NETWORK), "dropout": dropout}), seed)
    return build(key, config, options)


def settled(key: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """In evaluation mode, where utterances are independent; batch norms not the identity; double precision."""
    strategy = make(key, options)
    generator = torch.Generator().manual_seed(1)
    for norm in strategy.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_mean.normal_(generator=generator).mul_(0.3)
            norm.running_var.uniform_(0.05, 0.3, generator=generator)
    return strategy.double().eval()


def draw(seed: int = 0, lengths: tuple[int, ...] = LENGTHS, extra: int = 0, padding: float = 0.0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.full((len(lengths), max(lengths) + extra, F), padding)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randn(length, F, generator=generator)
    y = torch.randint(C, (len(lengths),), generator=generator)
    s = torch.randint(S, (len(lengths),), generator=generator)
    return Batch(x, torch.tensor(lengths), y, s)


def exactly(seed: int = 0, **how: Any) -> Batch:
    """The same batch in double precision."""
    batch = draw(seed, **how)
    return Batch(batch.x.double(), batch.lengths, batch.y, batch.s)


def part(batch: Batch, chosen: list[int]) -> Batch:
    return Batch(batch.x[chosen], batch.lengths[chosen], batch.y[chosen], batch.s[chosen])


def gradients(strategy: Strategy, batch: Batch) -> dict[str, Tensor]:
    """The gradient of the objective for every parameter that has one."""
    strategy.zero_grad()
    torch.stack(list(strategy(batch).values())).sum().backward()
    return {name: p.grad.clone() for name, p in strategy.named_parameters() if p.grad is not None}


def only(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {name: v for name, v in values.items() if name.startswith(f"{prefix}.")}
    assert found
    return found


def train(strategy: Strategy, steps: int) -> dict[str, Tensor]:
    """The weights after some steps of the paper's optimiser, faster; each on another batch."""
    strategy.train()
    optimizer = torch.optim.SGD(strategy.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for step in range(steps):
        strategy.progress = step / steps
        optimizer.zero_grad()
        torch.stack(list(strategy(draw(step)).values())).sum().backward()
        optimizer.step()
    return strategy.state_dict()


assert_same = partial(torch.testing.assert_close, rtol=0, atol=0)
"""Tensors by name are equal to the bit."""


def losses(strategy: Strategy, x: Tensor, batch: Batch, training: bool) -> tuple[Tensor, Tensor]:
    """L_y and L_s of each utterance (B,), by the plain references."""
    e = references.embed(strategy.embed, references.utterances(x, batch.lengths), training)
    y = references.cross_entropy(references.classify(strategy.emotion, e, training), batch.y)
    s = references.cross_entropy(references.classify(strategy.speaker, e, training), batch.s)
    return y, s
