"""How far a figure is to be trusted: percentile bootstrap intervals, clustered by test speaker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unheard.experiments.statistics.counts import Counts, Floats, Metric

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, at `level`; `incomplete` is the portion of draws in which a class did not occur."""

    low: float
    high: float
    level: float = LEVEL
    incomplete: float = 0.0

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def interval(
    counts: Counts, metric: Metric, *, minus: Counts | None = None, draws: int = DRAWS, seed: int = 0
) -> Interval | None:
    """Percentile interval (Efron 1979) of the metric's mean over seeds, or of its difference to `minus`.

    Draws as many speakers as there are, with replacement and with all their utterances and seeds (the cluster
    bootstrap: Davison and Hinkley 1997, section 3.8); with `minus`, the same speakers for both. In a draw without
    some class, UAR is the mean recall of the classes that are there: the rule of UAR itself; how often, `incomplete`
    says. None for a single speaker, who cannot tell how speakers vary. The interval covers the choice of speakers;
    the seeds, and the trained models, it takes as they are.

    Raises `ValueError` where `minus` was not scored on the same utterances.
    """
    if minus is not None and not (counts.speakers == minus.speakers and np.array_equal(counts.totals, minus.totals)):
        raise ValueError("the two systems were not scored on the same utterances")
    if len(counts.speakers) < 2:
        return None
    weights = drawn(len(counts.speakers), draws, seed)
    values = resampled(counts.mean_hits, counts.totals, weights, metric)
    if minus is not None:
        values = values - resampled(minus.mean_hits, counts.totals, weights, metric)
    occurring = counts.totals.sum(axis=0) > 0
    short = ((weights @ counts.totals)[:, occurring] == 0).any(axis=1)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), LEVEL, float(short.mean()))


@lru_cache(maxsize=4)
def drawn(speakers: int, draws: int = DRAWS, seed: int = 0) -> Floats:
    """How often each of the `speakers` is in each of the `draws` (draws, speakers)."""
    each = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1.0 / speakers), size=draws)
    return each.astype(np.float64)


def resampled(hits: Floats, totals: Floats, weights: Floats, metric: Metric) -> Floats:
    """The metric (D,) with every speaker taken `weights` (D, U) times; `hits` and `totals` are (U, C)."""
    right, all_of = weights @ hits, weights @ totals
    if metric == "wa":
        accuracy: Floats = right.sum(axis=1) / all_of.sum(axis=1)
        return accuracy
    present = all_of > 0
    recall = np.divide(right, all_of, out=np.zeros_like(right), where=present)
    mean: Floats = recall.sum(axis=1) / present.sum(axis=1)
    return mean
