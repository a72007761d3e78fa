"""Utterances and hits of each test speaker, and percentile bootstrap intervals of what follows from them.

Both metrics are weighted sums of hits (correct utterances). Of N utterances, N_c of emotion c, with C' emotions that
occur, a hit adds 1 / N to WA and 1 / (C' N_c) to UAR. So a metric is a sum of the speakers' shares, swapping a speaker
between two systems changes the sign of the speaker's share of their difference, and resampling speakers is a matrix
product.

Utterances of one speaker are right or wrong together, so whole clusters are drawn with replacement: speakers for the
metrics, (speaker, text) for speaker leakage (Efron 1979; the cluster bootstrap: Davison and Hinkley 1997, section 3.8;
Field and Welsh 2007). Written by hand because `scipy.stats.bootstrap` draws single observations, calls its statistic on
each draw, and does not draw several strata or the same speakers for two systems; here a draw is a row of weights and
the statistic a matrix product.

Shapes in this package: K seeds, S speakers, C emotions, N utterances, D bootstrap draws.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Metric = Literal["wa", "uar"]
Doubles = NDArray[np.float64]
METRICS: tuple[Metric, ...] = ("wa", "uar")


@dataclass(frozen=True)
class Counts:
    """Utterances and hits of each test speaker: `totals` (S, C), and `hits` (K, S, C) for each of the `seeds`."""

    speakers: tuple[str, ...]
    seeds: tuple[int, ...]
    totals: Doubles
    hits: Doubles

    def with_seeds(self, seeds: Iterable[int]) -> Counts:
        """Return the counts of these seeds only."""
        chosen = tuple(seeds)
        return replace(self, seeds=chosen, hits=self.hits[[self.seeds.index(seed) for seed in chosen]])

    def with_speakers(self, speakers: Collection[str]) -> Counts:
        """Return the counts of these speakers only; names that are not here are ignored."""
        indices = [i for i, name in enumerate(self.speakers) if name in speakers]
        names = tuple(self.speakers[i] for i in indices)
        return replace(self, speakers=names, totals=self.totals[indices], hits=self.hits[:, indices])

    def same_utterances(self, other: Counts) -> bool:
        """Return whether both were scored on equally many utterances of each speaker and emotion."""
        return self.speakers == other.speakers and np.array_equal(self.totals, other.totals)

    @property
    def mean_hits(self) -> Doubles:
        """Hits (S, C), mean over the seeds."""
        mean: Doubles = self.hits.mean(axis=0)
        return mean

    def scores(self, metric: Metric) -> Doubles:
        """Return the pooled metric of each seed (K,), 0 to 1."""
        scores: Doubles = (self.hits * hit_weights(self.totals, metric)).sum(axis=(1, 2))
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
    if {len(speakers), *map(len, predicted.values())} != {len(truth)}:
        raise ValueError("speakers, truth and predictions have different lengths")
    names, index = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    shape = (len(names), emotions)
    bins = index.reshape(-1) * emotions + np.asarray(truth, np.int64)  # (N,): one bin for each speaker and emotion
    size = len(names) * emotions
    totals = np.bincount(bins, minlength=size).reshape(shape)
    hits = [
        np.bincount(bins, weights=np.asarray(labels) == np.asarray(truth), minlength=size).reshape(shape)
        for labels in predicted.values()
    ]
    return Counts(tuple(map(str, names)), tuple(predicted), totals.astype(np.float64), np.stack(hits))


def hit_weights(totals: Doubles, metric: Metric) -> Doubles:
    """Return by how much a hit of each emotion raises the pooled metric (C,); 0 for an emotion that does not occur.

    >>> hit_weights(np.array([[3.0, 1.0, 0.0]]), "wa").tolist()
    [0.25, 0.25, 0.25]
    >>> hit_weights(np.array([[4.0, 1.0, 0.0]]), "uar").tolist()
    [0.125, 0.5, 0.0]
    """
    n = totals.sum(axis=0)  # (C,)
    if metric == "wa":
        return np.full(n.shape, 1.0 / n.sum())
    return np.where(n > 0, 1.0 / np.maximum(n, 1.0), 0.0) / np.count_nonzero(n)


def shares(before: Counts, after: Counts, metric: Metric) -> Doubles:
    """Return each speaker's share (S,) of the difference after - before of the metric's means over seeds.

    The shares sum to the difference. Raises `ValueError` if the two were scored on different utterances.
    """
    if not before.same_utterances(after):
        raise ValueError("the two systems were not scored on the same utterances")
    shares: Doubles = ((after.mean_hits - before.mean_hits) * hit_weights(before.totals, metric)).sum(axis=1)
    return shares


# Intervals.

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A 95 % interval from `low` to `high`; `incomplete` is the portion of draws in which an emotion is missing."""

    low: float
    high: float
    incomplete: float = 0.0


class Estimate(NamedTuple):
    """A figure and its 95 % interval; NaN where unknown."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, value: float, draws: Doubles) -> Estimate:
        """Return `value` with the percentile interval of its bootstrap `draws` (D,)."""
        return cls(float(value), *percentiles(draws))


@dataclass(frozen=True)
class Spread:
    """A figure of each seed; `mean` is None without seeds, `std` (sample) with fewer than two."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Format in percent: `62.5 ± 17.7`, `62.5 ± –` for one seed, `–` for none."""
        if self.mean is None:
            return "–"
        return f"{100 * self.mean:.1f} ± " + ("–" if self.std is None else f"{100 * self.std:.1f}")


def percentiles(draws: Doubles) -> tuple[float, float]:
    """Return the ends of the middle 95 % of `draws` (D,) that are not NaN; NaN if there are none."""
    if not np.isfinite(draws).any():
        return math.nan, math.nan
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@lru_cache(maxsize=4)
def bootstrap_weights(clusters: int, draws: int = DRAWS, seed: int = 0) -> Doubles:
    """Return how often each cluster is in each draw of as many clusters as there are, with replacement: (D, S)."""
    random = np.random.default_rng(seed)
    return random.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=draws).astype(np.float64)


def mean_with_interval(values: NDArray[Any], cluster: NDArray[np.int64], draws: int) -> Estimate:
    """Return the mean of `values` (N,) with its interval from resampling their clusters (N,)."""
    sums = np.bincount(cluster, weights=np.asarray(values, np.float64))
    sizes = np.bincount(cluster).astype(np.float64)
    weights = bootstrap_weights(len(sizes), draws)
    return Estimate.of(float(np.mean(values)), (weights @ sums) / (weights @ sizes))


def resampled_metric(hits: Doubles, totals: Doubles, weights: Doubles, metric: Metric) -> Doubles:
    """Return the metric (D,) with each speaker taken `weights` (D, S) times; `hits` and `totals` are (S, C).

    UAR is the mean recall of the emotions that occur in the draw.
    """
    hit, total = weights @ hits, weights @ totals
    if metric == "wa":
        accuracy: Doubles = hit.sum(axis=1) / total.sum(axis=1)
        return accuracy
    occurs = total > 0
    recall = np.divide(hit, total, out=np.zeros_like(hit), where=occurs)
    mean: Doubles = recall.sum(axis=1) / occurs.sum(axis=1)
    return mean


def interval(counts: Counts, metric: Metric) -> Interval | None:
    """Return the interval of the metric's mean over seeds; None for a single speaker.

    The interval covers the choice of speakers. Seeds and trained models are taken as given.
    """
    weights = _weights([counts])
    return _interval([(1.0, counts, weights[0])], metric) if weights else None


def difference_interval(pairs: Sequence[tuple[Counts, Counts]], metric: Metric) -> Interval | None:
    """Return the interval of the mean over `pairs` of the differences after - before of the means over seeds.

    Each pair (before, after) is one run. Speakers are drawn within their run, the same for both systems. None if a run
    has a single speaker.
    """
    weights = _weights([before for before, _ in pairs])
    terms = [
        (sign, counts, draws)
        for (before, after), draws in zip(pairs, weights, strict=False)
        for sign, counts in ((1.0, after), (-1.0, before))
    ]
    return _interval(terms, metric, runs=len(pairs)) if weights else None


def gap_interval(before: tuple[Counts, Counts], after: tuple[Counts, Counts], metric: Metric) -> Interval | None:
    """Return the interval of the change of the gap, validation minus test accuracy, from `before` to `after`.

    Both are (validation, test). Speakers that only validate, that only test, and that do both are drawn as three
    separate groups. None if one of the groups, or one part, is a single speaker.
    """
    parts = [counts.speakers for counts in before]  # validation, test
    first, second = map(set, parts)
    groups = (first & second, first - second, second - first)
    if min(map(len, parts)) < 2 or 1 in map(len, groups):
        return None
    draws: dict[str, Doubles] = {}
    for seed, group in enumerate(groups):
        weights = bootstrap_weights(len(group), DRAWS, seed) if group else np.empty((DRAWS, 0))
        draws |= {speaker: weights[:, i] for i, speaker in enumerate(sorted(group))}
    part_weights = [np.stack([draws[speaker] for speaker in speakers], axis=1) for speakers in parts]
    terms = [
        (direction * sign, system[part], part_weights[part])
        for part, direction in ((0, 1.0), (1, -1.0))
        for sign, system in ((1.0, after), (-1.0, before))
    ]
    return _interval(terms, metric)


def _weights(runs: Sequence[Counts]) -> list[Doubles]:
    """Return draws (D, S) of each run's speakers; [] if a run has one speaker, whose variation is unknown."""
    if any(len(counts.speakers) < 2 for counts in runs):
        return []
    return [bootstrap_weights(len(counts.speakers), DRAWS, seed) for seed, counts in enumerate(runs)]


def _interval(terms: Sequence[tuple[float, Counts, Doubles]], metric: Metric, runs: int = 1) -> Interval:
    """Return the interval of the sum of sign * metric over `terms` (sign, counts, weights), divided by `runs`."""
    values, incomplete = np.zeros(DRAWS), np.zeros(DRAWS, bool)
    for sign, counts, weights in terms:
        values += sign * resampled_metric(counts.mean_hits, counts.totals, weights, metric) / runs
        occurring = counts.totals.sum(axis=0) > 0
        incomplete |= ((weights @ counts.totals)[:, occurring] == 0).any(axis=1)
    return Interval(*percentiles(values), float(incomplete.mean()))
