"""Whether two systems differ: the paired permutation test over test speakers, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unheard.errors import MissingExtra

EXACT_UP_TO = 16_384
"""Arrangements that are all gone through (2^14: 14 speakers); beyond, `RANDOM_DRAWS` of them are drawn."""
RANDOM_DRAWS = 10_000


@dataclass(frozen=True)
class Permutation:
    """A two-sided p value, and out of how many `arrangements` (all of them where `exact`).

    `smallest` is the least p that any outcome could have had with so many speakers.
    """

    p: float
    exact: bool
    arrangements: int
    smallest: float


def permutation_test(shares: Floats, *, draws: int = RANDOM_DRAWS, seed: int = 0) -> Permutation:
    """Paired permutation test over speakers (Good 2005), two-sided.

    `shares` (U,) are the speakers' shares of a difference (`counts.shares`, there the mean over seeds). Under the null
    hypothesis the two systems' predictions for a speaker, of all seeds together, could as well have been each
    other's: swapping them turns the sign of the speaker's share. p is the portion of all 2^U arrangements whose
    difference is at least as far from 0 as the observed one. Beyond `EXACT_UP_TO` arrangements, k of N drawn ones are,
    and p = (1 + k) / (1 + N), never 0 (Phipson and Smyth 2010). Systems that do not differ: p = 1.

    Raises `ValueError` for no speaker or a share that is no number.

    >>> permutation_test(np.array([0.1, 0.2, 0.3])).p  # +++ and --- of 8
    0.25
    """
    shares = np.asarray(shares, np.float64)
    if not len(shares) or not np.isfinite(shares).all():
        raise ValueError("a permutation test needs a finite share of at least one speaker")
    observed = abs(shares.sum())
    slack = 1e-12 * np.abs(shares).sum()  # equal differences, added up in another order
    exact = 2 ** len(shares) <= EXACT_UP_TO
    signs = _all_signs(len(shares)) if exact else _drawn_signs(len(shares), draws, seed)
    extreme = int(np.count_nonzero(np.abs(signs @ shares) >= observed - slack))
    if exact:
        return Permutation(extreme / len(signs), True, len(signs), min(1.0, 2.0 / len(signs)))
    return Permutation((1 + extreme) / (1 + draws), False, draws, 1.0 / (1 + draws))


@lru_cache(maxsize=4)
def _all_signs(n: int) -> Floats:
    swapped = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return 1.0 - 2.0 * swapped.astype(np.float64)


@lru_cache(maxsize=4)
def _drawn_signs(n: int, draws: int, seed: int) -> Floats:
    swapped = np.random.default_rng(seed).integers(0, 2, (draws, n))
    return 1.0 - 2.0 * swapped.astype(np.float64)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction of a family of p values, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, and none falls below a smaller one's. Raises `ValueError` for a
    value that is no probability.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if not all(0.0 <= value <= 1.0 for value in p):  # false for NaN
        raise ValueError(f"not all probabilities: {list(p)}")
    order = sorted(range(len(p)), key=lambda place: p[place])
    corrected = [math.nan] * len(p)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return corrected


# What each test speaker's utterances came to: all that WA, UAR and every test on them need.
#
# Both metrics are weighted sums of hits: a hit is worth 1/n in WA, and 1/(K·N_c) in UAR where N_c of the n utterances
# have class c and K classes occur. So a system's figure is a sum of its speakers' shares, swapping a speaker between
# two systems changes the sign of that speaker's share of their difference, and resampling speakers is a matrix product.
#
# Shapes: S seeds, U test speakers, C classes, n utterances.

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


# How far a figure is to be trusted: percentile bootstrap intervals, clustered by test speaker.

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


# How large a difference is, and how large it would have had to be.

ALPHA = 0.05
POWER = 0.8


def relative_error_reduction(before: float, after: float) -> float | None:
    """RERR = (after - before) / (1 - before): the portion of the errors that is gone; None where there were none.

    The paper's "improvement": 53.9 % to 56.5 % are 2.6 points and 5.6 % fewer errors.

    >>> round(relative_error_reduction(0.539, 0.565), 3)
    0.056
    """
    return (after - before) / (1.0 - before) if before < 1.0 else None


def detectable_difference(shares: Floats, *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest true difference that a paired test over these speakers finds with the given power.

    `shares` (U,) are the speakers' shares of the observed difference (`counts.shares`); s is their sample standard
    deviation. The difference is their sum, its standard error s·√U, and the answer δ·s·√U: δ is the noncentrality
    for which Student's t with U - 1 degrees of freedom exceeds its two-sided critical value with probability
    `power` (Cohen 1988). It assumes that the speakers are an independent sample, about equally often heard, that
    their shares are near normal, and that a larger true difference would vary between speakers as the observed one
    does; it is for one contrast, before any correction. The permutation test finds nearly as much (of such a
    difference 78 % instead of 80 with eight speakers, 63 % with six), and with so few speakers that its least
    possible p, 2 / 2^U, is above `alpha`, nothing at all: None, as where the shares do not vary.
    """
    return detectable_of_groups([shares], alpha=alpha, power=power)


def detectable_of_groups(groups: Sequence[Floats], *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """As `detectable_difference`, of speakers from several corpora who vary in each as they do there.

    The squared standard error is the sum of the groups' U·s², and its degrees of freedom are Welch and Satterthwaite's
    (U - 1 for one group). None where a group is a single speaker.
    """
    groups = [np.asarray(shares, np.float64) for shares in groups]
    sizes = np.array([len(shares) for shares in groups])
    if sizes.min(initial=2) < 2 or 2.0 ** (1 - int(sizes.sum())) > alpha:
        return None
    variances = sizes * np.array([float(np.var(shares, ddof=1)) for shares in groups])
    spread = math.sqrt(variances.sum())
    if spread <= 1e-12 * max(float(np.abs(shares).max()) for shares in groups):
        return None
    freedom = variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum()
    try:
        from scipy.special import nctdtrinc, stdtrit
    except ImportError as error:
        raise MissingExtra("scipy", "train") from error
    critical = stdtrit(freedom, 1 - alpha / 2)
    return float(nctdtrinc(freedom, 1 - power, critical)) * spread


# A difference between two systems with everything that has to stand beside it.


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


# Whether the gap between validation and test speakers shrinks: the same tests, of another figure.

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


# One difference over several corpora: their mean, with the test speakers of each as the units.

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
        interval=_joint_interval(pairs, metric),
        rerr=relative_error_reduction(*means),
        p=test.p,
        p_holm=test.p,
        family_size=1,
        exact=test.exact,
        arrangements=test.arrangements,
        smallest_p=test.smallest,
        detectable=detectable_of_groups(groups),
    )


def _joint_interval(pairs: Sequence[Pair], metric: Metric) -> Interval | None:
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
