"""Batches: their random composition, and the frames of their utterances from the feature store.

ids -> order of an epoch (seeded) -> rows of the memory-mapped store -> normalised, [changed], padded (B, T, F)
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.training.strategies.base import Batch, derive_seed


class FrameSource(Protocol):
    """Features for training: the normalised frames (T, F) of an utterance, and their number."""

    def length(self, utterance: str) -> int:
        """Return the number of frames of an utterance."""

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        """Return the normalised frames (T, F) of an utterance."""


Change = Callable[[str, NDArray[np.float32], np.random.Generator], NDArray[np.float32]]
"""A random change to an utterance's frames in every epoch, (T, F) -> (T', F); see `augment.py`."""


class Dataset:
    """Utterances with their emotion and speaker indices, read in batches.

    `frames` gives the features; `y` and `s` map an utterance to its emotion and speaker index (-1 for a speaker outside
    training). `change` is applied only in training. `weights` are the weights of utterances in the emotion loss (None:
    equal), `odds` their mean number of draws per epoch (None: each exactly once).
    """

    def __init__(
        self,
        frames: FrameSource,
        y: dict[str, int],
        s: dict[str, int],
        change: Change | None = None,
        weights: Mapping[str, float] | None = None,
        odds: Mapping[str, float] | None = None,
    ) -> None:
        self.frames, self.y, self.s, self.change, self.weights, self.odds = frames, y, s, change, weights, odds

    def batch(self, ids: Sequence[str], random: np.random.Generator | None = None) -> Batch:
        """Return the padded batch of `ids`, in their order; with `random`, `change` is applied to their frames."""
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
        """Yield batches of every utterance in `ids` once, in an order drawn from `seed` (fold, seed and epoch).

        With `odds`, as many utterances are drawn with replacement.
        """
        random = np.random.default_rng(derive_seed(*seed, "change"))
        if self.odds is not None:
            p = np.array([self.odds[name] for name in ids]) / len(ids)
            ids = [ids[i] for i in np.random.default_rng(derive_seed(*seed, "draw")).choice(len(ids), len(ids), p=p)]
        for chosen in draw_batches(len(ids), size, derive_seed(*seed)):
            yield self.batch([ids[i] for i in chosen], random)

    def in_order(self, ids: Sequence[str], size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield batches for evaluation, sorted by length: indices into `ids`, and the batch."""
        order = sorted(range(len(ids)), key=lambda i: (self.frames.length(ids[i]), ids[i]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield chosen, self.batch([ids[i] for i in chosen])


def draw_batches(count: int, size: int, seed: int) -> list[list[int]]:
    """Return the indices 0 to count - 1 in random order, divided into ceil(count / size) batches.

    Batch sizes differ by at most one, so no tiny last batch takes a full step. Utterances are not sorted by length:
    sorting would not mix emotions and speakers, would repeat the same batches on small corpora, and would not speed up
    layers on valid frames.
    """
    order = np.random.default_rng(seed).permutation(count)
    return [part.tolist() for part in np.array_split(order, math.ceil(count / size))]
