"""Whether the gap between validation and test speakers shrinks: the same tests, of another figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unheard.experiments.statistics.bootstrap import DRAWS, LEVEL, Interval, drawn, resampled
from unheard.experiments.statistics.contrasts import Contrast
from unheard.experiments.statistics.counts import Counts, Floats, Metric, shares
from unheard.experiments.statistics.effect import detectable_difference
from unheard.experiments.statistics.permutation import permutation_test

Sides = tuple[Counts, Counts]
"""What the speakers came to in validation, and in test."""


def gap_contrast(
    name: str, baseline: str, before: Sides, after: Sides, metric: Metric, family: str = "fixed"
) -> Contrast:
    """How much wider the gap, validation minus test, is `after` than `before`; negative: it is smaller.

    The units are all speakers that validate or test, each swapped, or drawn, with what it has in both parts. The
    interval draws those who only validate, who only test and who do both apart, and is None where one of these is a
    single speaker: nothing would say how much that one matters. `rerr` is None: a gap is no rate. Over the seeds both
    have; raises `ValueError` where there are none, or where the two were not scored on the same utterances.
    """
    seeds = tuple(seed for seed in before[0].seeds if seed in after[0].seeds)
    if not seeds:
        raise ValueError("the two systems share no seed")
    a, b = ([counts.with_seeds(seeds) for counts in sides] for sides in (before, after))
    validation, test = (dict(zip(a[i].speakers, shares(a[i], b[i], metric), strict=True)) for i in (0, 1))
    speakers = tuple(sorted({*validation, *test}))
    each = np.array([validation.get(speaker, 0.0) - test.get(speaker, 0.0) for speaker in speakers])
    outcome = permutation_test(each)
    gaps = [float(sides[0].scores(metric).mean() - sides[1].scores(metric).mean()) for sides in (a, b)]
    return Contrast(
        name=name,
        baseline=baseline,
        metric=metric,
        family=family,
        seeds=seeds,
        speakers=speakers,
        shares=tuple(map(float, each)),
        before=gaps[0],
        after=gaps[1],
        difference=float(each.sum()),
        interval=_interval(a, b, metric),
        rerr=None,
        p=outcome.p,
        p_holm=outcome.p,
        family_size=1,
        exact=outcome.exact,
        arrangements=outcome.arrangements,
        smallest_p=outcome.smallest,
        detectable=detectable_difference(each),
    )


def _interval(before: Sequence[Counts], after: Sequence[Counts], metric: Metric) -> Interval | None:
    parts = [counts.speakers for counts in before]
    first, second = map(set, parts)
    if min(map(len, parts)) < 2 or 1 in map(len, (first & second, first - second, second - first)):
        return None
    weights = _drawn_apart(parts)
    values, short = np.zeros(DRAWS), np.zeros(DRAWS, bool)
    for part, sign in ((0, 1.0), (1, -1.0)):
        totals = before[part].totals
        own = weights[part]
        for sides, direction in ((after, sign), (before, -sign)):
            values += direction * resampled(sides[part].mean_hits, totals, own, metric)
        short |= ((own @ totals)[:, totals.sum(axis=0) > 0] == 0).any(axis=1)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), LEVEL, float(short.mean()))


def _drawn_apart(parts: Sequence[Sequence[str]]) -> list[Floats]:
    """For each part how often each of its speakers is drawn (D, U): the same where a speaker is in both."""
    first, second = map(set, parts)
    taken: dict[str, Floats] = {}
    for place, group in enumerate((first & second, first - second, second - first)):
        weights = drawn(len(group), DRAWS, place) if group else np.empty((DRAWS, 0))
        taken |= {speaker: weights[:, i] for i, speaker in enumerate(sorted(group))}
    return [np.stack([taken[speaker] for speaker in part], axis=1) for part in parts]
