"""Whether two systems differ: the paired permutation test over test speakers, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unheard.experiments.statistics.counts import Floats

EXACT_UP_TO = 16_384
"""Arrangements that are all gone through (2^14: 14 speakers); beyond, `DRAWS` of them are drawn."""
DRAWS = 10_000


@dataclass(frozen=True)
class Permutation:
    """A two-sided p value, and out of how many `arrangements` (all of them where `exact`).

    `smallest` is the least p that any outcome could have had with so many speakers.
    """

    p: float
    exact: bool
    arrangements: int
    smallest: float


def permutation_test(shares: Floats, *, draws: int = DRAWS, seed: int = 0) -> Permutation:
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
