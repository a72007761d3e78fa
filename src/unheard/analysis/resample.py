"""Percentile bootstrap intervals over clusters of recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, value: float, draws: NDArray[np.float64]) -> Estimate:
        """`value` with the middle 95 % of its bootstrap `draws` (draws,)."""
        edge = (1 - LEVEL) / 2
        low, high = np.nanquantile(draws, [edge, 1 - edge]) if np.isfinite(draws).any() else (math.nan, math.nan)
        return cls(float(value), float(low), float(high))

    def as_list(self) -> list[float | None]:
        """[value, low, high]; None for NaN."""
        return [None if math.isnan(x) else x for x in (self.value, self.low, self.high)]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Estimate:
        """What `as_list` wrote."""
        value, low, high = (math.nan if x is None else float(x) for x in values)
        return cls(value, low, high)


def indices(words: Sequence[str]) -> NDArray[np.int64]:
    """Each word's place among the sorted different words (n,)."""
    return np.unique(np.asarray(words, dtype=np.str_), return_inverse=True)[1].reshape(-1).astype(np.int64)


def clusters(speakers: Sequence[str], texts: Sequence[str]) -> NDArray[np.int64]:
    """The cluster (n,) of each recording: one speaker saying one text, whose repetitions resemble each other.

    A recording whose text is not known is a cluster of its own.
    """
    words = [f"{s}\t{t}" if t else f"{s}\t\t{place}" for place, (s, t) in enumerate(zip(speakers, texts, strict=True))]
    return indices(words)


def resampled(count: int, draws: int, seed: int) -> NDArray[np.int64]:
    """How often each of `count` clusters is drawn, with replacement, in each draw: (draws, count)."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)


def mean_with_interval(values: NDArray[Any], cluster: NDArray[np.int64], seed: int) -> Estimate:
    """The mean of `values` (n,), its interval from resampling the clusters (n,)."""
    sums = np.bincount(cluster, weights=np.asarray(values, np.float64))
    sizes = np.bincount(cluster).astype(np.float64)
    weights = resampled(len(sizes), DRAWS, seed)
    return Estimate.of(float(np.mean(values)), (weights @ sums) / (weights @ sizes))
