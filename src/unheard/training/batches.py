"""Batches: which utterances go together, and their frames from the feature store.

ids -> order of an epoch (seeded) -> rows of the memory-mapped store -> normalised, [changed], padded (B, T, F)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.training.seeds import derive
from unheard.training.strategies import Batch


class Frames(Protocol):
    """What training needs of features: the normalised frames (T, F) of an utterance, and how many they are."""

    def length(self, utterance: str) -> int:
        """Frames of one utterance."""

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        """Normalised frames (T, F) of one utterance."""


Change = Callable[[str, NDArray[np.float32], np.random.Generator], NDArray[np.float32]]
"""What happens to the frames (T, F) of an utterance each time it is trained on: (T', F)."""


class Task:
    """Utterances with their emotion and speaker indices, read in batches.

    `frames` gives the features; `y` and `s` map an utterance to its index (a speaker outside training has none: -1).
    `change` is applied to what is trained on, and to nothing that is scored.
    """

    def __init__(self, frames: Frames, y: dict[str, int], s: dict[str, int], change: Change | None = None) -> None:
        self.frames, self.y, self.s, self.change = frames, y, s, change

    def batch(self, ids: Sequence[str], random: np.random.Generator | None = None) -> Batch:
        """The padded batch of `ids`, in their order; with `random` their frames are changed first."""
        arrays = [self.frames[name] for name in ids]
        if random is not None and self.change is not None:
            arrays = [self.change(name, array, random) for name, array in zip(ids, arrays, strict=True)]
        lengths = torch.tensor([len(a) for a in arrays])
        x = np.zeros((len(ids), int(lengths.max()), arrays[0].shape[1]), np.float32)
        for row, array in zip(x, arrays, strict=True):
            row[: len(array)] = array
        y = torch.tensor([self.y[name] for name in ids])
        s = torch.tensor([self.s.get(name, -1) for name in ids])
        return Batch(torch.from_numpy(x), lengths, y, s)

    def epoch(self, ids: Sequence[str], size: int, *seed: object) -> Iterator[Batch]:
        """Every utterance of `ids` once, in an order drawn from `seed` (say fold, seed and epoch)."""
        random = np.random.default_rng(derive(*seed, "change"))
        for chosen in draw_batches(len(ids), size, derive(*seed)):
            yield self.batch([ids[i] for i in chosen], random)

    def in_order(self, ids: Sequence[str], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Batches for evaluation: positions in `ids`, and their batch; sorted by length, deterministic."""
        order = sorted(range(len(ids)), key=lambda i: (self.frames.length(ids[i]), ids[i]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield chosen, self.batch([ids[i] for i in chosen])


def draw_batches(count: int, size: int, seed: int) -> list[list[int]]:
    """Indices 0..count-1 once each, in a random order cut into ceil(count / size) batches.

    Their sizes differ by at most one, so that no tiny last batch takes a full step. Lengths play no part: in a batch of
    similar lengths emotions and speakers are not mixed either, on a corpus of a few hundred utterances it would be the
    same batch every epoch, and layers that see valid frames only gain nothing by it.
    """
    order = np.random.default_rng(seed).permutation(count)
    return [part.tolist() for part in np.array_split(order, math.ceil(count / size))]
