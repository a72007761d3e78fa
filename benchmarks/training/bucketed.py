"""The plain loop after two well-known improvements: length buckets, and a gathered reverse direction.

Batches hold utterances of similar length, so little is padding; the reverse direction flips every utterance
within its own length by gathering, so nothing is packed. All else is `plain.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.training.plain import BATCH, cut
from benchmarks.training.shapes import Part

POOL = 25  # batches whose utterances are sorted together: 800 utterances


class GatheredBiLSTM(nn.Module):
    """Two LSTMs over padded sequences, the second on flipped ones.

    forward((B, T, C), (B,)) -> (B, T, 2·cells).
    Padding comes after every valid frame in both directions, so no valid output sees it.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.forward_lstm = nn.LSTM(inputs, cells, batch_first=True)
        self.reverse_lstm = nn.LSTM(inputs, cells, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        time = torch.arange(x.shape[1])
        mirrored = lengths[:, None] - 1 - time  # (B, T)
        mirrored = torch.where(mirrored >= 0, mirrored, time)
        ahead = self.forward_lstm(x)[0]
        back = self.reverse_lstm(flip(x, mirrored))[0]
        return torch.cat([ahead, flip(back, mirrored)], dim=2)


def flip(x: Tensor, mirrored: Tensor) -> Tensor:
    """Reverse each utterance within its length; its own inverse. (B, T, C), index (B, T) -> (B, T, C)."""
    return x.gather(1, mirrored[..., None].expand_as(x))


def bucketed_batches(part: Part, generator: torch.Generator) -> Iterator[list[int]]:
    """Shuffle, sort by length within pools, cut, shuffle the batches: new ones every epoch."""
    order = torch.randperm(len(part), generator=generator).tolist()
    size = POOL * BATCH
    pools = [order[i : i + size] for i in range(0, len(order), size)]
    batches = cut([i for pool in pools for i in sorted(pool, key=lambda i: len(part.features[i]))])
    for i in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[i]
