"""Batch-norm statistics taken anew: of the network as it is in use, without dropout.

    training utterances, dropout off -> mean and variance before every batch norm -> its running statistics

While a network trains, its running statistics follow what dropout leaves of the frames. In use nothing is dropped, the
standard deviation that is pooled over an utterance is another one, and so is all that comes after it (Li et al. 2019,
Understanding the disharmony between dropout and batch normalization by variance shift). No weight is changed, and the
training goes on as if nobody had looked. Kaldi's nnet3 does the same before a network is used (`nnet3-combine`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unheard.training.batches import Task, draw_batches
from unheard.training.device import autocast
from unheard.training.strategies import Strategy


@contextmanager
def statistics_anew(
    strategy: Strategy, task: Task, ids: Sequence[str], size: int, *, device: torch.device, precision: str = "fp32"
) -> Iterator[None]:
    """While it lasts the batch norms have the statistics of `ids`, in batches of `size`, with dropout off.

    Every batch counts by its utterances. Afterwards they have those they had before.
    """
    norms = [layer for layer in strategy.modules() if isinstance(layer, nn.BatchNorm1d)]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    was_training = strategy.training
    try:
        _take(strategy, norms, task, ids, size, device, precision)
        strategy.train(was_training)
        yield
    finally:
        strategy.train(was_training)
        for norm, momentum, values in zip(norms, momenta, before, strict=True):
            norm.momentum = momentum
            buffers: dict[str, Tensor] = dict(norm.named_buffers())
            for name, value in values.items():
                buffers[name].copy_(value)


@torch.no_grad()
def _take(
    strategy: Strategy,
    norms: Sequence[nn.BatchNorm1d],
    task: Task,
    ids: Sequence[str],
    size: int,
    device: torch.device,
    precision: str,
) -> None:
    strategy.eval()
    for norm in norms:
        norm.train()
    seen = 0
    for chosen in draw_batches(len(ids), size, 0):  # emotions and speakers mixed, as the network is to expect them
        seen += len(chosen)
        for norm in norms:
            norm.momentum = len(chosen) / seen
        batch = task.batch([ids[i] for i in chosen]).to(device)
        with autocast(device, precision):
            strategy.logits(batch.x, batch.lengths)
