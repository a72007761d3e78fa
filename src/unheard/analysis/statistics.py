"""Differences between systems: paired permutation test over speakers, Holm's correction, detectable difference."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from unheard.analysis.intervals import Counts, Doubles, Interval, Metric, difference_interval, gap_interval, shares
from unheard.errors import needs

EXACT_UP_TO = 16_384
"""Most sign patterns that are all evaluated (2^14: 14 speakers); of more, `RANDOM_DRAWS` are drawn."""
RANDOM_DRAWS = 10_000
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Permutation:
    """A two-sided p value over `arrangements` sign patterns (all of them if `exact`).

    `smallest_p` is the least p that any outcome could have with so many speakers.
    """

    p: float
    exact: bool
    arrangements: int
    smallest_p: float


def permutation_test(shares: Doubles) -> Permutation:
    """Test a difference, the sum of the speakers' `shares` (S,), by a paired permutation test, two-sided (Good 2005).

    Under the null hypothesis the predictions of two systems for a speaker, of all seeds together, are exchangeable:
    swapping them changes the sign of the speaker's share. p is the portion of the 2^S sign patterns whose sum is at
    least as far from 0 as the observed one. Above `EXACT_UP_TO` patterns N = `RANDOM_DRAWS` are drawn, k of which are
    as far, and p = (1 + k) / (1 + N) (Phipson and Smyth 2010). Identical systems have p = 1.

    Raises `ValueError` for no speaker or a share that is not finite, `MissingExtra` without scipy.

    >>> permutation_test(np.array([0.1, 0.2, 0.3])).p  # +++ and --- of 8
    0.25
    """
    shares = np.asarray(shares, np.float64)
    n = len(shares)
    if not n or not np.isfinite(shares).all():
        raise ValueError("a permutation test needs a finite share of at least one speaker")
    total = np.abs(shares).sum()
    if 2**n > EXACT_UP_TO:
        # by hand: scipy draws other patterns, which would change published p values in their last digits
        far = np.abs(_drawn_signs(n) @ shares) >= abs(shares.sum()) - 1e-12 * total
        p = (1 + int(far.sum())) / (1 + RANDOM_DRAWS)
        return Permutation(p=p, exact=False, arrangements=RANDOM_DRAWS, smallest_p=1.0 / (1 + RANDOM_DRAWS))
    if n == 1:  # scipy needs two
        return Permutation(p=1.0, exact=True, arrangements=2, smallest_p=1.0)
    with needs("scipy", "train"):
        from scipy import stats
    # scipy's tolerance for ties is relative: with the total added, it is not too small if the sum is near 0
    result = stats.permutation_test(
        (shares,),
        lambda x, axis: np.abs(x.sum(axis=axis)) + total,
        permutation_type="samples",  # of one sample: all changes of signs
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    )
    return Permutation(p=float(result.pvalue), exact=True, arrangements=2**n, smallest_p=2.0 / 2**n)


@lru_cache(maxsize=4)
def _drawn_signs(n: int) -> Doubles:
    swapped = np.random.default_rng(0).integers(0, 2, (RANDOM_DRAWS, n))
    return 1.0 - 2.0 * swapped.astype(np.float64)


def holm(p: Sequence[float]) -> list[float]:
    """Correct a family of p values, returned in the order given, by Holm's (1979) step-down procedure.

    The i-th smallest of m is multiplied by m - i + 1, and is at least the corrected value before it. By hand: scipy
    has no Holm, and fifteen lines do not need statsmodels. Raises `ValueError` for a value outside 0 to 1.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if not all(0.0 <= value <= 1.0 for value in p):  # false for NaN
        raise ValueError(f"not all probabilities: {list(p)}")
    corrected = [math.nan] * len(p)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return corrected


def relative_error_reduction(before: float, after: float) -> float | None:
    """Return RERR = (after - before) / (1 - before), the portion of errors removed; None if there were none.

    The "improvement" of Tu et al. (2019): 53.9 % to 56.5 % are 2.6 points and 5.6 % fewer errors.

    >>> round(relative_error_reduction(0.539, 0.565), 3)
    0.056
    """
    return (after - before) / (1.0 - before) if before < 1.0 else None


def detectable_difference(groups: Sequence[Doubles]) -> float | None:
    """Return the smallest true difference that a paired test over these speakers detects with 80 % power.

    `groups` holds one array (S,) of speakers' shares a corpus. The standard error is the root of the sum of S s^2 over
    the groups, s the sample standard deviation of the shares; the answer is delta times it, where delta is the
    noncentrality for which Student's t exceeds its two-sided critical value with probability `POWER` (Cohen 1988).
    Degrees of freedom are those of Welch (1947) and Satterthwaite (1946): S - 1 for one group.

    It assumes independent speakers with about equally many utterances, near-normal shares, and a spread that does not
    depend on the difference; no correction for several contrasts. The permutation test detects nearly as much (78 %
    instead of 80 with eight speakers, 63 % with six). None if the least possible p, 2 / 2^S, is above `ALPHA`, if a
    group is a single speaker, or if the shares do not vary. Raises `MissingExtra` without scipy.
    """
    groups = [np.asarray(shares, np.float64) for shares in groups]
    sizes = np.array([len(shares) for shares in groups])
    if sizes.min(initial=2) < 2 or 2.0 ** (1 - int(sizes.sum())) > ALPHA:
        return None
    variances = sizes * np.array([float(np.var(shares, ddof=1)) for shares in groups])
    standard_error = math.sqrt(variances.sum())
    if standard_error <= 1e-12 * max(float(np.abs(shares).max()) for shares in groups):
        return None
    freedom = variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum()
    with needs("scipy", "train"):
        from scipy.special import nctdtrinc, stdtrit
    return float(nctdtrinc(freedom, 1 - POWER, stdtrit(freedom, 1 - ALPHA / 2))) * standard_error


@dataclass(frozen=True, kw_only=True)
class Contrast(Permutation):
    """The difference `name` minus `baseline` in one metric, on the same test speakers, with its statistics.

    `before` and `after` are the means over `seeds`; they and the differences are portions (0.05 is 5 points). `seeds`
    are those that both have; if there are none, each mean is over the system's own seeds. `p_holm` is p corrected in
    its `family` of `family_size` contrasts. `interval`, `rerr` and `detectable` are None if unknown.
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
    p_holm: float
    family_size: int = 1
    detectable: float | None

    @property
    def points(self) -> float:
        """The difference in percentage points."""
        return 100.0 * self.difference


Pair = tuple[Counts, Counts]
"""The counts of the baseline and of the other system in a run; or those of validation and test speakers."""


def contrast(name: str, baseline: str, runs: Sequence[Pair], metric: Metric, family: str = "fixed") -> Contrast:
    """Contrast system `name` with `baseline` from `runs`, pairs of the counts of `baseline` and of `name`.

    A run's scores are means over the seeds that both systems have, or over each system's own if they share none. The
    difference of several runs is the mean of their differences, however many speakers they have. A speaker's share is
    that in its run, divided by the number of runs; speakers are resampled within their run. `speakers` are then
    "run:speaker", and `seeds` are the fewest of a run. The result holds for these corpora only (a fixed effect).
    `p_holm` is p until `corrected` sets it.

    Raises `ValueError` if two systems were not scored on the same utterances.
    """
    seeds = [tuple(seed for seed in before.seeds if seed in after.seeds) for before, after in runs]
    runs = [
        (before.with_seeds(shared), after.with_seeds(shared)) if shared else (before, after)
        for (before, after), shared in zip(runs, seeds, strict=True)
    ]
    groups = [shares(before, after, metric) / len(runs) for before, after in runs]
    speakers = tuple(
        f"{run}:{speaker}" if len(runs) > 1 else speaker
        for run, (before, _) in enumerate(runs)
        for speaker in before.speakers
    )
    before, after = (float(np.mean([pair[side].scores(metric).mean() for pair in runs])) for side in (0, 1))
    return _contrast(
        groups,
        name=name,
        baseline=baseline,
        metric=metric,
        family=family,
        seeds=min(seeds, key=len),
        speakers=speakers,
        before=before,
        after=after,
        interval=difference_interval(runs, metric),
        rerr=relative_error_reduction(before, after),
    )


def gap_contrast(
    name: str, baseline: str, before: Pair, after: Pair, metric: Metric, family: str = "fixed"
) -> Contrast:
    """Contrast the gap between validation and test accuracy of two systems, each given as (validation, test) counts.

    Negative: the gap of `name` is smaller. The units are all speakers that validate or test, over the seeds that both
    systems have (at least one). `rerr` is None: a gap is not an accuracy.

    Raises `ValueError` if the two were not scored on the same utterances.
    """
    seeds = tuple(seed for seed in before[0].seeds if seed in after[0].seeds)
    a, b = ((validation.with_seeds(seeds), test.with_seeds(seeds)) for validation, test in (before, after))
    validation, test = (dict(zip(a[i].speakers, shares(a[i], b[i], metric), strict=True)) for i in (0, 1))
    speakers = tuple(sorted({*validation, *test}))
    gap_shares = np.array([validation.get(speaker, 0.0) - test.get(speaker, 0.0) for speaker in speakers])
    gaps = [float(system[0].scores(metric).mean() - system[1].scores(metric).mean()) for system in (a, b)]
    return _contrast(
        [gap_shares],
        name=name,
        baseline=baseline,
        metric=metric,
        family=family,
        seeds=seeds,
        speakers=speakers,
        before=gaps[0],
        after=gaps[1],
        interval=gap_interval(a, b, metric),
        rerr=None,
    )


def _contrast(groups: Sequence[Doubles], **fields: Any) -> Contrast:
    """Test the speakers' shares, (S,) in each group, and return the contrast; `fields` are its other fields."""
    shares = np.concatenate(groups)
    test = permutation_test(shares)
    fields |= {"shares": tuple(map(float, shares)), "difference": float(shares.sum()), "p_holm": test.p}
    return Contrast(**vars(test), **fields, detectable=detectable_difference(groups))


def corrected(contrasts: Iterable[Contrast]) -> tuple[Contrast, ...]:
    """Return the contrasts, in the order given, with Holm's correction within each family and metric."""
    contrasts = list(contrasts)
    families: dict[tuple[str, Metric], list[int]] = {}
    for i, contrast in enumerate(contrasts):
        families.setdefault((contrast.family, contrast.metric), []).append(i)
    for members in families.values():
        for i, p in zip(members, holm([contrasts[i].p for i in members]), strict=True):
            contrasts[i] = replace(contrasts[i], p_holm=p, family_size=len(members))
    return tuple(contrasts)
