"""One difference over several corpora: their mean, with the test speakers of each as the units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unheard.experiments.statistics.bootstrap import DRAWS, LEVEL, Interval, drawn, resampled
from unheard.experiments.statistics.contrasts import Contrast
from unheard.experiments.statistics.counts import Counts, Metric, shares
from unheard.experiments.statistics.effect import detectable_of_groups, relative_error_reduction
from unheard.experiments.statistics.permutation import permutation_test

Pair = tuple[Counts, Counts]
"""The baseline's counts in one run, and those of the system compared with it."""


def together(name: str, baseline: str, runs: Sequence[Pair], metric: Metric, family: str = "fixed") -> Contrast:
    """The mean over `runs` of their differences, each over the seeds that both systems have in it.

    Every run counts the same, however many speakers it has; a speaker's share is that in its run over the number of
    runs. Speakers are swapped as in one run, and drawn within their run. `seeds` are those of the run with the fewest.
    What comes out is about these corpora: how corpora differ, so few of them cannot say.

    Raises `ValueError` where two systems share no seed of a run, or were not scored on the same utterances.
    """
    seeds = [tuple(seed for seed in before.seeds if seed in after.seeds) for before, after in runs]
    if not runs or not all(seeds):
        raise ValueError("two systems share no seed")
    pairs = [(a.with_seeds(both), b.with_seeds(both)) for (a, b), both in zip(runs, seeds, strict=True)]
    groups = [shares(before, after, metric) / len(pairs) for before, after in pairs]
    each = np.concatenate(groups)
    test = permutation_test(each)
    means = [float(np.mean([pair[side].scores(metric).mean() for pair in pairs])) for side in (0, 1)]
    return Contrast(
        name=name,
        baseline=baseline,
        metric=metric,
        family=family,
        seeds=min(seeds, key=len),
        speakers=tuple(f"{run}:{speaker}" for run, (before, _) in enumerate(pairs) for speaker in before.speakers),
        shares=tuple(map(float, each)),
        before=means[0],
        after=means[1],
        difference=float(each.sum()),
        interval=_interval(pairs, metric),
        rerr=relative_error_reduction(*means),
        p=test.p,
        p_holm=test.p,
        family_size=1,
        exact=test.exact,
        arrangements=test.arrangements,
        smallest_p=test.smallest,
        detectable=detectable_of_groups(groups),
    )


def _interval(pairs: Sequence[Pair], metric: Metric) -> Interval | None:
    """Percentile interval; None where a run has one speaker, who cannot tell how speakers vary."""
    if any(len(before.speakers) < 2 for before, _ in pairs):
        return None
    values, short = np.zeros(DRAWS), np.zeros(DRAWS, bool)
    for place, (before, after) in enumerate(pairs):
        weights = drawn(len(before.speakers), DRAWS, place)
        for counts, sign in ((after, 1.0), (before, -1.0)):
            values += sign * resampled(counts.mean_hits, counts.totals, weights, metric) / len(pairs)
        short |= ((weights @ before.totals)[:, before.totals.sum(axis=0) > 0] == 0).any(axis=1)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), LEVEL, float(short.mean()))
