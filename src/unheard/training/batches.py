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

POOL = 1
"""Batches drawn together and sorted by length: long enough to waste little padding, short enough to stay random."""


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
        lengths = [self.frames.length(name) for name in ids]
        random = np.random.default_rng(derive(*seed, "change"))
        for chosen in draw_batches(lengths, size, derive(*seed)):
            yield self.batch([ids[i] for i in chosen], random)

    def in_order(self, ids: Sequence[str], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Batches for evaluation: positions in `ids`, and their batch; sorted by length, deterministic."""
        order = sorted(range(len(ids)), key=lambda i: (self.frames.length(ids[i]), ids[i]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield chosen, self.batch([ids[i] for i in chosen])


def draw_batches(lengths: Sequence[int], size: int, seed: int, pool: int = POOL) -> list[list[int]]:
    """Indices 0..n-1 once each, in batches of about `size` utterances of similar length.

    A fresh permutation is cut into pools of `pool` batches; each pool is sorted by length and cut; the batches
    are shuffled. There are ceil(n / size) batches and their sizes differ by at most one, so that no tiny last batch
    takes a full step. Which utterances meet changes every epoch.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    count = math.ceil(len(lengths) / size)
    batches: list[list[int]] = []
    edges = np.linspace(0, len(lengths), count + 1).round().astype(int)
    for first in range(0, count, pool):
        last = min(first + pool, count)
        chosen = order[edges[first] : edges[last]]
        chosen = chosen[np.argsort([lengths[i] for i in chosen], kind="stable")]
        cuts = edges[first + 1 : last] - edges[first]
        batches.extend([int(i) for i in part] for part in np.split(chosen, cuts))
    return [batches[i] for i in random.permutation(len(batches))]
