"""What each test speaker's utterances came to: all that WA, UAR and every test on them need.

Both metrics are weighted sums of hits: a hit is worth 1/n in WA, and 1/(K·N_c) in UAR where N_c of the n utterances
have class c and K classes occur. So a system's figure is a sum of its speakers' shares, swapping a speaker between
two systems changes the sign of that speaker's share of their difference, and resampling speakers is a matrix product.

Shapes: S seeds, U test speakers, C classes, n utterances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["wa", "uar"]
Floats = NDArray[np.float64]
METRICS: tuple[Metric, ...] = ("wa", "uar")


@dataclass(frozen=True)
class Counts:
    """Utterances and hits of each test speaker: `totals` (U, C), `hits` (S, U, C) with each of the `seeds`."""

    speakers: tuple[str, ...]
    seeds: tuple[int, ...]
    totals: Floats
    hits: Floats

    def with_seeds(self, seeds: Iterable[int]) -> Counts:
        """The same with only these of its seeds."""
        chosen = tuple(seeds)
        return replace(self, seeds=chosen, hits=self.hits[[self.seeds.index(seed) for seed in chosen]])

    @property
    def mean_hits(self) -> Floats:
        """Hits (U, C), mean over the seeds."""
        mean: Floats = self.hits.mean(axis=0)
        return mean

    def scores(self, metric: Metric) -> Floats:
        """The pooled metric of each seed (S,)."""
        scores: Floats = (self.hits * worth(self.totals, metric)).sum(axis=(1, 2))
        return scores


def count(
    speakers: Sequence[str], truth: NDArray[np.integer], predicted: Mapping[int, NDArray[np.integer]], classes: int
) -> Counts:
    """The counts of n utterances: their `speakers` and `truth` (n,), and seed -> `predicted` (n,).

    An utterance that is scored twice (in two folds) counts twice, still as one speaker's. Raises `ValueError` where
    lengths differ or nothing is there.
    """
    if not len(truth) or not predicted:
        raise ValueError("no utterance, or no seed, to count")
    if {len(speakers), *(len(said) for said in predicted.values())} != {len(truth)}:
        raise ValueError("speakers, truth and predictions have different lengths")
    names, unit = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    shape = (len(names), classes)
    place = unit.reshape(-1) * classes + np.asarray(truth, np.int64)
    size = shape[0] * shape[1]
    totals = np.bincount(place, minlength=size).reshape(shape)
    hits = [
        np.bincount(place, weights=np.asarray(said) == np.asarray(truth), minlength=size).reshape(shape)
        for said in predicted.values()
    ]
    return Counts(tuple(map(str, names)), tuple(predicted), totals.astype(np.float64), np.stack(hits))


def worth(totals: Floats, metric: Metric) -> Floats:
    """What a hit of each class adds to the pooled metric (C,); 0 for a class that does not occur.

    >>> worth(np.array([[3.0, 1.0, 0.0]]), "wa").tolist(), worth(np.array([[4.0, 1.0, 0.0]]), "uar").tolist()
    ([0.25, 0.25, 0.25], [0.125, 0.5, 0.0])
    """
    each = totals.sum(axis=0)
    if metric == "wa":
        return np.full(each.shape, 1.0 / each.sum())
    return np.where(each > 0, 1.0 / np.maximum(each, 1.0), 0.0) / np.count_nonzero(each)


def shares(a: Counts, b: Counts, metric: Metric) -> Floats:
    """Each speaker's share (U,) of the difference b - a of the metric's means over seeds; they sum up to it.

    Raises `ValueError` where the two were not scored on the same utterances of the same speakers.
    """
    if a.speakers != b.speakers or not np.array_equal(a.totals, b.totals):
        raise ValueError("the two systems were not scored on the same utterances")
    each: Floats = ((b.mean_hits - a.mean_hits) * worth(a.totals, metric)).sum(axis=1)
    return each
