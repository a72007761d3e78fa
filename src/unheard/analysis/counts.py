"""Utterances and hits of each test speaker: all that WA, UAR and every test on them need.

Both metrics are weighted sums of hits (correct utterances). Of N utterances, N_c of emotion c, with C' emotions that
occur, a hit adds 1 / N to WA and 1 / (C' N_c) to UAR. So a metric is a sum of the speakers' shares, swapping a speaker
between two systems changes the sign of the speaker's share of their difference, and resampling speakers is a matrix
product.

Shapes, in the whole room: K seeds, S speakers, C emotions, N utterances, D bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["wa", "uar"]
Floats = NDArray[np.float64]
METRICS: tuple[Metric, ...] = ("wa", "uar")


@dataclass(frozen=True)
class Counts:
    """Utterances and hits of each test speaker: `totals` (S, C), and `hits` (K, S, C) for each of the `seeds`."""

    speakers: tuple[str, ...]
    seeds: tuple[int, ...]
    totals: Floats
    hits: Floats

    def with_seeds(self, seeds: Iterable[int]) -> Counts:
        """Return the counts of these seeds only."""
        chosen = tuple(seeds)
        return replace(self, seeds=chosen, hits=self.hits[[self.seeds.index(seed) for seed in chosen]])

    def with_speakers(self, speakers: Collection[str]) -> Counts:
        """Return the counts of these speakers only; names that are not here are ignored."""
        places = [place for place, name in enumerate(self.speakers) if name in speakers]
        names = tuple(self.speakers[place] for place in places)
        return replace(self, speakers=names, totals=self.totals[places], hits=self.hits[:, places])

    def same_utterances(self, other: Counts) -> bool:
        """Whether both were scored on equally many utterances of each speaker and emotion."""
        return self.speakers == other.speakers and np.array_equal(self.totals, other.totals)

    @property
    def mean_hits(self) -> Floats:
        """Hits (S, C), mean over the seeds."""
        mean: Floats = self.hits.mean(axis=0)
        return mean

    def scores(self, metric: Metric) -> Floats:
        """Return the pooled metric of each seed (K,), 0 to 1."""
        scores: Floats = (self.hits * hit_weights(self.totals, metric)).sum(axis=(1, 2))
        return scores


def count(
    speakers: Sequence[str], truth: NDArray[np.integer], predicted: Mapping[int, NDArray[np.integer]], emotions: int
) -> Counts:
    """Count N utterances from their `speakers` and `truth` (N,), and the `predicted` (N,) of each seed.

    An utterance that is scored in two folds counts twice, for the same speaker. Raises `ValueError` if lengths differ
    or there is nothing to count.
    """
    if not len(truth) or not predicted:
        raise ValueError("no utterance, or no seed, to count")
    if {len(speakers), *(len(each) for each in predicted.values())} != {len(truth)}:
        raise ValueError("speakers, truth and predictions have different lengths")
    names, index = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    shape = (len(names), emotions)
    place = index.reshape(-1) * emotions + np.asarray(truth, np.int64)
    size = len(names) * emotions
    totals = np.bincount(place, minlength=size).reshape(shape)
    hits = [
        np.bincount(place, weights=np.asarray(each) == np.asarray(truth), minlength=size).reshape(shape)
        for each in predicted.values()
    ]
    return Counts(tuple(map(str, names)), tuple(predicted), totals.astype(np.float64), np.stack(hits))


def hit_weights(totals: Floats, metric: Metric) -> Floats:
    """Return what a hit of each emotion adds to the pooled metric (C,); 0 for an emotion that does not occur.

    >>> hit_weights(np.array([[3.0, 1.0, 0.0]]), "wa").tolist()
    [0.25, 0.25, 0.25]
    >>> hit_weights(np.array([[4.0, 1.0, 0.0]]), "uar").tolist()
    [0.125, 0.5, 0.0]
    """
    each = totals.sum(axis=0)
    if metric == "wa":
        return np.full(each.shape, 1.0 / each.sum())
    return np.where(each > 0, 1.0 / np.maximum(each, 1.0), 0.0) / np.count_nonzero(each)


def shares(before: Counts, after: Counts, metric: Metric) -> Floats:
    """Return each speaker's share (S,) of the difference after - before of the metric's means over seeds.

    The shares sum to the difference. Raises `ValueError` if the two were scored on different utterances.
    """
    if not before.same_utterances(after):
        raise ValueError("the two systems were not scored on the same utterances")
    each: Floats = ((after.mean_hits - before.mean_hits) * hit_weights(before.totals, metric)).sum(axis=1)
    return each
