"""Batches: which utterances go together, and their frames from the feature store.

ids -> order of an epoch (seeded) -> rows of the memory-mapped store -> normalised, [changed], padded (B, T, F)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.training.strategies import Batch, derive


class Frames(Protocol):
    """Features as training needs them: the normalised frames (T, F) of an utterance, and their number."""

    def length(self, utterance: str) -> int:
        """Number of frames of one utterance."""

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        """Normalised frames (T, F) of one utterance."""


Change = Callable[[str, NDArray[np.float32], np.random.Generator], NDArray[np.float32]]
"""A change of an utterance's frames each time it is trained on, (T, F) -> (T', F); see `augment.py`."""


class Task:
    """Utterances with their emotion and speaker indices, read in batches.

    `frames` gives the features; `y` and `s` map an utterance to its index (-1 for a speaker outside training).
    `change` is applied in training only; `weights` are those of training utterances in the emotion loss (none: equal),
    `odds` how often each is drawn (none: once an epoch).
    """

    def __init__(
        self,
        frames: Frames,
        y: dict[str, int],
        s: dict[str, int],
        change: Change | None = None,
        weights: Mapping[str, float] | None = None,
        odds: Mapping[str, float] | None = None,
    ) -> None:
        self.frames, self.y, self.s, self.change, self.weights, self.odds = frames, y, s, change, weights, odds

    def batch(self, ids: Sequence[str], random: np.random.Generator | None = None) -> Batch:
        """Return the padded batch of `ids`, in their order; with `random` their frames are changed first."""
        arrays = [self.frames[name] for name in ids]
        if random is not None and self.change is not None:
            arrays = [self.change(name, array, random) for name, array in zip(ids, arrays, strict=True)]
        lengths = torch.tensor([len(a) for a in arrays])
        x = np.zeros((len(ids), int(lengths.max()), arrays[0].shape[1]), np.float32)  # (B, T, F)
        for row, array in zip(x, arrays, strict=True):
            row[: len(array)] = array
        y = torch.tensor([self.y[name] for name in ids])
        s = torch.tensor([self.s.get(name, -1) for name in ids])
        w = torch.tensor([self.weights.get(name, 1.0) for name in ids]) if self.weights else None
        return Batch(torch.from_numpy(x), lengths, y, s, w)

    def epoch(self, ids: Sequence[str], size: int, *seed: object) -> Iterator[Batch]:
        """Yield every utterance of `ids` once, in an order drawn from `seed` (fold, seed and epoch).

        With `odds`, as many are drawn with replacement.
        """
        random = np.random.default_rng(derive(*seed, "change"))
        if self.odds is not None:
            share = np.array([self.odds[name] for name in ids]) / len(ids)
            ids = [ids[i] for i in np.random.default_rng(derive(*seed, "draw")).choice(len(ids), len(ids), p=share)]
        for chosen in draw_batches(len(ids), size, derive(*seed)):
            yield self.batch([ids[i] for i in chosen], random)

    def in_order(self, ids: Sequence[str], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield batches for evaluation, sorted by length: positions in `ids`, and their batch."""
        order = sorted(range(len(ids)), key=lambda i: (self.frames.length(ids[i]), ids[i]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield chosen, self.batch([ids[i] for i in chosen])


def draw_batches(count: int, size: int, seed: int) -> list[list[int]]:
    """Return indices 0..count-1 once each, in a random order cut into ceil(count / size) batches.

    Batch sizes differ by at most one, so no tiny last batch takes a full step. Utterances are not sorted by length:
    emotions and speakers would not be mixed, on a few hundred utterances it would be the same batch every epoch, and
    layers on valid frames gain nothing by it.
    """
    order = np.random.default_rng(seed).permutation(count)
    return [part.tolist() for part in np.array_split(order, math.ceil(count / size))]
