"""One difference over several corpora, on hand-made counts whose answers can be seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from unheard.analysis.statistics import (
    Counts,
    contrast,
    detectable_difference,
    detectable_of_groups,
    permutation_test,
    together,
)


def made(*hits: float, of: int = 4, seeds: int = 1) -> Counts:
    """Speakers with `of` utterances each of one class, so many of them right, with every seed."""
    totals = np.full((len(hits), 1), float(of))
    right = np.stack([np.array(hits)[:, None]] * seeds)
    return Counts(tuple(f"s{n}" for n in range(len(hits))), tuple(range(seeds)), totals, right)


def test_of_one_run_it_is_the_contrast() -> None:
    before, after = made(1, 2, 2, 3, 0, 1), made(2, 2, 4, 3, 1, 0)
    alone = contrast("b", "a", before, after, "wa")
    found = together("b", "a", [(before, after)], "wa")
    for name in ("difference", "p", "rerr", "detectable", "before", "after", "smallest_p"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name)), name
    assert found.interval == alone.interval


def test_every_run_counts_the_same_however_many_speakers_it_has() -> None:
    small = made(0, 0, of=2), made(1, 1, of=2)  # +50 points, 4 utterances
    large = made(*[8.0] * 10, of=10), made(*[7.0] * 10, of=10)  # -10 points, 100 utterances
    found = together("b", "a", [small, large], "wa")
    assert found.difference == pytest.approx(0.2)
    assert (found.before, found.after) == pytest.approx((0.4, 0.6))
    assert found.rerr == pytest.approx(0.2 / 0.6)
    assert found.speakers[:3] == ("0:s0", "0:s1", "1:s0")
    assert found.shares == pytest.approx([0.125] * 2 + [-0.005] * 10)
    # |0.25 - 0.05| or more: both of the small run's speakers swapped alike, and at least as far as five of the ten
    far = sum(abs(a + b + c) >= 0.2 - 1e-12 for a in (-0.125, 0.125) for b in (-0.125, 0.125) for c in _sums())
    assert found.p == pytest.approx(far / 2**12)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((0.2, 0.2))  # nobody differs within a run
    assert found.detectable is None


def _sums() -> list[float]:
    return [0.005 * sum(1 if bits >> place & 1 else -1 for place in range(10)) for bits in range(2**10)]


def test_speakers_are_drawn_within_their_run() -> None:
    draw = np.random.default_rng(0)
    runs = []
    for speakers in (8, 20):
        before, after = (made(*draw.integers(0, 11, speakers).astype(float), of=10) for _ in range(2))
        runs.append((before, after))
    found = together("b", "a", runs, "wa")
    errors = []  # of each run's mean difference, as many speakers drawn with replacement from those there are
    for before, after in runs:
        each = (after.hits - before.hits)[0, :, 0] / 10
        errors.append(each.std() / math.sqrt(len(each)))
    assert found.interval is not None
    wide = found.interval.high - found.interval.low
    assert wide == pytest.approx(2 * 1.96 * math.hypot(*errors) / 2, rel=0.05)


def test_seeds_are_those_both_have_in_each_run() -> None:
    before, after = made(1, 2, seeds=3), made(2, 3, seeds=2)
    found = together("b", "a", [(before, after), (made(1, 1), made(1, 1))], "wa")
    assert found.seeds == (0,)
    assert found.difference == pytest.approx(0.125)
    with pytest.raises(ValueError, match="share no seed"):
        together("b", "a", [(before, after.with_seeds([]))], "wa")
    with pytest.raises(ValueError, match="share no seed"):
        together("b", "a", [], "wa")


def test_a_run_of_one_speaker_says_not_how_speakers_vary() -> None:
    found = together("b", "a", [(made(1), made(2)), (made(*range(4), of=9), made(*range(4, 8), of=9))], "wa")
    assert found.interval is None
    assert found.detectable is None


def test_detectable_of_one_group_is_that_of_the_speakers() -> None:
    each = np.random.default_rng(1).standard_normal(9)
    assert detectable_of_groups([each]) == detectable_difference(each)


def test_detectable_has_the_power_it_says_of_two_groups_that_vary_differently() -> None:
    draw = np.random.default_rng(2)
    patterns = [draw.standard_normal(12) * 0.02, draw.standard_normal(30) * 0.01]
    patterns = [(p - p.mean()) / p.std(ddof=1) * s for p, s in zip(patterns, (0.02, 0.01), strict=True)]
    found = detectable_of_groups(patterns)
    assert found is not None
    error = math.sqrt(12 * 0.02**2 + 30 * 0.01**2)
    freedom = error**4 / ((12 * 0.02**2) ** 2 / 11 + (30 * 0.01**2) ** 2 / 29)
    critical = scipy.stats.t.ppf(0.975, freedom)
    assert 1 - scipy.stats.nct.cdf(critical, freedom, found / error) == pytest.approx(0.8, abs=1e-6)
    hits, trials = 0, 300
    for _ in range(trials):
        drawn = [draw.normal(found / 42, s, n) for n, s in ((12, 0.02), (30, 0.01))]
        hits += permutation_test(np.concatenate(drawn), draws=400).p < 0.05
    assert hits / trials == pytest.approx(0.8, abs=0.08)
