"""A difference between two systems with everything that has to stand beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from unheard.experiments.statistics.bootstrap import Interval, interval
from unheard.experiments.statistics.counts import Counts, Metric, shares
from unheard.experiments.statistics.effect import detectable_difference, relative_error_reduction
from unheard.experiments.statistics.permutation import holm, permutation_test


@dataclass(frozen=True)
class Contrast:
    """`name` minus `baseline` in one metric: the means over `seeds`, on the same test speakers.

    Accuracies and differences are portions (0.05 is 5 points). `seeds` are those both have; without any (two runs
    with other seeds), the means over each one's own were compared, and it is empty. `p` is corrected within its
    `family` of `family_size` contrasts to `p_holm`; `smallest_p` is the least that so many speakers allow.
    `interval`, `rerr` and `detectable` are None where they cannot be known.
    """

    name: str
    baseline: str
    metric: Metric
    family: str
    seeds: tuple[int, ...]
    speakers: tuple[str, ...]
    shares: tuple[float, ...]
    before: float
    after: float
    difference: float
    interval: Interval | None
    rerr: float | None
    p: float
    p_holm: float
    family_size: int
    exact: bool
    arrangements: int
    smallest_p: float
    detectable: float | None

    @property
    def points(self) -> float:
        """The difference in percentage points."""
        return 100.0 * self.difference


def contrast(
    name: str, baseline: str, before: Counts, after: Counts, metric: Metric, family: str = "fixed"
) -> Contrast:
    """`after` minus `before` over the seeds both have, or, where they share none, over each one's own.

    `p_holm` is that of a family of one until `corrected` knows the others. Raises `ValueError` where the two were
    not scored on the same utterances.
    """
    shared = tuple(seed for seed in before.seeds if seed in after.seeds)
    if shared:
        before, after = before.with_seeds(shared), after.with_seeds(shared)
    each = shares(before, after, metric)
    test = permutation_test(each)
    means = [float(counts.scores(metric).mean()) for counts in (before, after)]
    return Contrast(
        name=name,
        baseline=baseline,
        metric=metric,
        family=family,
        seeds=shared,
        speakers=before.speakers,
        shares=tuple(map(float, each)),
        before=means[0],
        after=means[1],
        difference=float(each.sum()),
        interval=interval(after, metric, minus=before),
        rerr=relative_error_reduction(*means),
        p=test.p,
        p_holm=test.p,
        family_size=1,
        exact=test.exact,
        arrangements=test.arrangements,
        smallest_p=test.smallest,
        detectable=detectable_difference(each),
    )


def corrected(contrasts: Iterable[Contrast]) -> tuple[Contrast, ...]:
    """The contrasts with Holm's correction within each family and metric, in the order given."""
    given = list(contrasts)
    families: dict[tuple[str, Metric], list[int]] = {}
    for place, one in enumerate(given):
        families.setdefault((one.family, one.metric), []).append(place)
    for places in families.values():
        for place, p in zip(places, holm([given[place].p for place in places]), strict=True):
            given[place] = replace(given[place], p_holm=p, family_size=len(places))
    return tuple(given)
