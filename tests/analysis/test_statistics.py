"""Statistics on hand-made counts with visible answers, and against reference implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unheard.analysis.intervals import (
    METRICS,
    Counts,
    Metric,
    bootstrap_weights,
    count,
    difference_interval,
    hit_weights,
    interval,
    resampled_metric,
    shares,
)
from unheard.analysis.statistics import (
    Contrast,
    contrast,
    detectable_difference,
    gap_contrast,
    holm,
    permutation_test,
    relative_error_reduction,
)
from unheard.report.results import contrast_table
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy

both_metrics = pytest.mark.parametrize("metric", METRICS)


def made(hits: dict[str, list[list[int]]]) -> Counts:
    """Speaker -> seed -> a digit an utterance: 1 correct, 0 wrong; true classes alternate 0, 1, 0, 1…"""
    speakers = [name for name, seeds in hits.items() for _ in seeds[0]]
    truth = np.array([place % 2 for seeds in hits.values() for place in range(len(seeds[0]))])
    correct = np.array([[hit for seeds in hits.values() for hit in seeds[s]] for s in range(len(hits["s0"]))])
    return count(speakers, truth, {s: np.where(row == 1, truth, 1 - truth) for s, row in enumerate(correct)}, 2)


def one_class(*hits: float, of: int = 4, seeds: int = 1) -> Counts:
    """Speakers with `of` utterances each of one class, and so many hits, with every seed."""
    totals = np.full((len(hits), 1), float(of))
    names = tuple(f"s{n}" for n in range(len(hits)))
    return Counts(names, tuple(range(seeds)), totals, np.stack([np.array(hits)[:, None]] * seeds))


class Records:
    """Two systems on uneven, skewed test data, as predictions of utterances: what the counts summarise."""

    def __init__(self, seed: int, speakers: int = 6, seeds: int = 2, classes: int = 3) -> None:
        rng = np.random.default_rng(seed)
        sizes = rng.integers(4, 12, speakers)
        self.classes, self.seeds = classes, seeds
        self.speaker = np.repeat(np.arange(speakers), sizes)
        self.truth = rng.choice(classes, len(self.speaker), p=[0.6, 0.3, 0.1])
        self.truth[:classes] = np.arange(classes)
        guess = rng.integers(0, classes, (2, seeds, len(self.speaker)))
        better = rng.random((2, seeds, len(self.speaker))) < np.array([0.3, 0.5])[:, None, None]
        self.predicted = np.where(better, self.truth, guess)  # (system, seed, N)

    def counts(self, system: int) -> Counts:
        names = [f"s{u}" for u in self.speaker]
        return count(names, self.truth, dict(enumerate(self.predicted[system])), self.classes)

    def score(self, truth: np.ndarray, predicted: np.ndarray, metric: Metric) -> float:
        if metric == "wa":
            return weighted_accuracy(truth, predicted)
        return unweighted_average_recall(truth, predicted, self.classes)

    def mean(self, owner: np.ndarray, metric: Metric) -> float:
        """Mean over seeds of the metric if the predictions for speaker u are those of system owner[u]."""
        predicted = np.where(owner[self.speaker] == 0, self.predicted[0], self.predicted[1])
        return float(np.mean([self.score(self.truth, row, metric) for row in predicted]))


# Counts and shares.


def test_counts_wa_and_uar_of_each_seed() -> None:
    """Class 0 three times, class 1 twice. Seed 4: 2 of 3 and 1 of 2 correct; seed 7: 3 of 3 and 0 of 2."""
    counts = count(["b", "a", "a", "b", "a"], np.array([0, 0, 1, 1, 0]), {
        4: np.array([0, 0, 1, 0, 1]), 7: np.array([0, 0, 0, 0, 0]),
    }, 2)  # fmt: skip
    assert (counts.speakers, counts.seeds) == (("a", "b"), (4, 7))
    assert counts.totals.tolist() == [[2, 1], [1, 1]]
    assert counts.hits.tolist() == [[[1, 1], [1, 0]], [[2, 0], [1, 0]]]
    assert counts.scores("wa") == pytest.approx([3 / 5, 3 / 5])
    assert counts.scores("uar") == pytest.approx([(2 / 3 + 1 / 2) / 2, 1 / 2])
    assert counts.with_seeds([7]).scores("uar") == pytest.approx([1 / 2])
    some = counts.with_speakers({"b", "nobody"})
    assert (some.speakers, some.totals.tolist(), some.hits.tolist()) == (("b",), [[1, 1]], [[[1, 0]], [[1, 0]]])
    missing = count(["a"] * 3, np.array([0, 0, 2]), {0: np.array([0, 1, 2])}, 4)
    assert missing.scores("uar") == pytest.approx([0.75])  # a class that does not occur has no part in UAR
    assert hit_weights(missing.totals, "uar").tolist() == [0.25, 0, 0.5, 0]


@both_metrics
def test_counts_agree_with_the_metrics_and_swapping_a_speaker_changes_the_sign_of_its_share(metric: Metric) -> None:
    """All 2^6 swaps, recomputed from the utterances' predictions; of the gap, swaps in both parts."""
    records, dev = Records(1), Records(20)
    test = [records.counts(system) for system in (0, 1)]
    direct = [records.score(records.truth, each, metric) for each in records.predicted[1]]
    assert test[1].scores(metric) == pytest.approx(direct)
    each = shares(*test, metric)
    of_gap = np.array(gap_contrast("1", "0", *((dev.counts(s), test[s]) for s in (0, 1)), metric).shares)
    for swap in itertools.product((0, 1), repeat=6):
        owner = np.array(swap)
        a, b = (records.mean(own, metric) for own in (owner, 1 - owner))
        assert (1 - 2 * owner) @ each == pytest.approx(b - a)
        gaps = [dev.mean(own, metric) - score for own, score in ((owner, a), (1 - owner, b))]
        assert (1 - 2 * owner) @ of_gap == pytest.approx(gaps[1] - gaps[0])


def test_unusable_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no utterance"):
        count([], np.array([], int), {0: np.array([], int)}, 2)
    with pytest.raises(ValueError, match="no seed"):
        count(["a"], np.array([0]), {}, 2)
    with pytest.raises(ValueError, match="lengths"):
        count(["a"], np.array([0, 1]), {0: np.array([0, 1])}, 2)
    one, two = made({"s0": [[1, 0]]}), made({"s0": [[1, 0]], "s1": [[1, 1]]})
    with pytest.raises(ValueError, match="same utterances"):
        contrast("b", "a", [(one, two)], "wa")
    for nothing in (np.array([]), np.array([0.1, math.nan])):
        with pytest.raises(ValueError, match="finite"):
            permutation_test(nothing)


# The permutation test and Holm's correction.


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([1, 2, 3], 2 / 8),  # of 8 arrangements only +++ and --- are as far from 0
        ([-1, 2, 3], 4 / 8),  # |4|: ±(-1 +2 +3) and ±(1 +2 +3)
        ([1, 2, 0], 4 / 8),
        ([0.1] * 14, 2 / 2**14),
        ([0.0] * 5, 1),
        ([0.0] * 30, 1),
        ([0.4], 1),
        ([0.1, 0.2, 0.3, -0.6], 1),  # the sum is not quite 0 in floating point
    ],
)
def test_permutation_by_hand(values: list[float], p: float) -> None:
    found = permutation_test(np.array(values))
    assert found.p == p == permutation_test(-np.array(values)[::-1]).p
    assert found.exact == (len(values) <= 14)
    assert found.arrangements == (2 ** len(values) if found.exact else 10_000)
    assert found.smallest_p == pytest.approx(2 / 2 ** len(values) if found.exact else 1 / 10_001)


def test_drawn_arrangements_are_never_certain_and_close_to_all_of_them() -> None:
    """15 equal gains: only 2 of 32768 arrangements; k of 10,000 drawn, p = (1 + k) / 10,001."""
    result = permutation_test(np.full(15, 0.01))
    assert result.p * 10_001 == pytest.approx(round(result.p * 10_001))
    assert 1 / 10_001 <= result.p <= 6 / 10_001
    assert permutation_test(np.full(15, 0.01)) == result
    assert permutation_test(np.full(64, 0.01)).p == 1 / 10_001 == result.smallest_p
    each = np.random.default_rng(3).normal(0.2, 1.0, 16)
    everything = 1.0 - 2.0 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    p = np.mean(np.abs(everything @ each) >= abs(each.sum()) - 1e-12)
    assert permutation_test(each).p == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 10_000))


def test_holm_on_the_worked_example() -> None:
    """0.01, 0.02, 0.03, 0.04 of four (x4, x3, x2, x1, never falling): .04, .06, .06, .06; order is kept."""
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert (holm([0.5, 0.6]), holm([0.2]), holm([])) == ([1, 1], [0.2], [])
    for wrong in ([math.nan, 0.1], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="probabilities"):
            holm(wrong)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 999))
def test_holm_rejects_what_the_procedure_rejects(p: list[int], alpha: int) -> None:
    """Holm 1979: reject the smallest p while it is at most alpha / (how many are left)."""
    values, level = [n / 1000 for n in p], alpha / 1000 + 1e-7  # between the possible values
    left, rejected = sorted(range(len(p)), key=values.__getitem__), set()
    while left and values[left[0]] <= level / len(left):
        rejected.add(left.pop(0))
    assert {place for place, corrected in enumerate(holm(values)) if corrected <= level} == rejected


def test_false_positives_are_no_more_than_allowed() -> None:
    """Two equally good systems whose speakers differ a lot: p <= 0.05 in at most 5 % of 500 made experiments.

    Counting utterances as independent (McNemar) would claim a difference far more often.
    """
    rng, speakers, size = np.random.default_rng(8), 10, 40
    names = np.repeat([f"s{u}" for u in range(speakers)], size)
    truth = np.tile(np.arange(4), speakers * size // 4)
    false = naive = 0
    for _ in range(500):
        quality = np.clip(0.6 + 0.15 * rng.standard_normal((2, speakers)), 0, 1).repeat(size, axis=1)
        hit = rng.random((2, speakers * size)) < quality
        a, b = (count(names, truth, {0: np.where(row, truth, (truth + 1) % 4)}, 4) for row in hit)
        false += permutation_test(shares(a, b, "uar")).p <= 0.05
        gained, lost = np.sum(hit[1] & ~hit[0]), np.sum(hit[0] & ~hit[1])
        naive += abs(gained - lost) > 1.96 * math.sqrt(gained + lost)
    assert 8 <= false <= 25 + 3 * math.sqrt(500 * 0.05 * 0.95)
    assert naive > 3 * false


# Intervals.


def test_bootstrap_by_hand() -> None:
    """Speakers with 0, 1 and 4 of 4 correct: of the 27 equally likely draws one has 0 % and one 100 %, so that
    2.5 % of 27 (0.7 of a draw) lies within either end."""
    counts = made({"s0": [[0, 0, 0, 0]], "s1": [[1, 0, 0, 0]], "s2": [[1, 1, 1, 1]]})
    values = {round(sum(draw) / 12, 9) for draw in itertools.product((0, 1, 4), repeat=3)}
    weights = np.array([row for row in itertools.product(range(4), repeat=3) if sum(row) == 3], float)
    assert set(np.round(resampled_metric(counts.mean_hits, counts.totals, weights, "wa"), 9)) == values
    found = interval(counts, "wa")
    assert (found.low, found.high) == (0.0, 1.0)
    weights = bootstrap_weights(5)
    assert weights.shape == (10_000, 5)
    assert (weights.sum(axis=1) == 5).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(5), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.05)  # n p (1 - p)
    alone = made({"s0": [[1, 0, 1, 1]]})
    assert interval(alone, "wa") is None  # a single speaker says nothing about speakers
    assert difference_interval([(counts, counts), (alone, alone)], "wa") is None


@both_metrics
def test_bootstrap_against_scipy(metric: Metric) -> None:
    """The same percentile interval from scipy, whose statistic pools the drawn speakers' utterances again."""
    records = Records(5, speakers=8, seeds=1)
    rows = [np.flatnonzero(records.speaker == u) for u in range(8)]

    def difference(speakers: np.ndarray) -> float:
        chosen = np.concatenate([rows[int(u)] for u in speakers])
        before, after = (records.score(records.truth[chosen], s[0][chosen], metric) for s in records.predicted)
        return after - before

    reference = scipy.stats.bootstrap(
        (np.arange(8),), difference, method="percentile", n_resamples=1000, vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    own = difference_interval([(records.counts(0), records.counts(1))], metric)
    width = own.high - own.low
    assert (own.low, own.high) == pytest.approx((reference.low, reference.high), abs=0.1 * width)
    assert width > 0.05
    draw = np.array([0, 3, 3, 5, 5, 5])
    weights = np.bincount(draw, minlength=8)[None].astype(float)
    resampled = [resampled_metric(c.mean_hits, c.totals, weights, metric) for c in map(records.counts, (0, 1))]
    assert resampled[1] - resampled[0] == pytest.approx(difference(draw))


def test_a_draw_without_a_class_is_scored_on_the_others_and_counted() -> None:
    """Class 1 is s1's alone: of 4 draws of two speakers one is s0 twice, and scores class 0 only."""
    counts = count(["s0", "s0", "s1"], np.array([0, 0, 1]), {0: np.array([0, 1, 1])}, 2)
    weights = np.array([[2.0, 0], [1, 1], [0, 2]])
    assert resampled_metric(counts.mean_hits, counts.totals, weights, "uar").tolist() == [0.5, 0.75, 1.0]
    found = interval(counts, "uar")
    assert found.incomplete == pytest.approx(0.5, abs=0.02)  # s0 s0 and s1 s1
    assert math.isfinite(found.low + found.high)


# Effect sizes.


def test_relative_error_reduction_is_the_papers() -> None:
    """Tu et al. 2019 call 53.9 -> 56.5, 53.9 -> 57.3 and 81.7 -> 83.5 improvements of 5.6, 7.4 and 9.8 %."""
    found = [relative_error_reduction(a, b) for a, b in ((0.539, 0.565), (0.539, 0.573), (0.817, 0.835))]
    assert [round(100 * value, 1) for value in found if value is not None] == [5.6, 7.4, 9.8]
    assert relative_error_reduction(0.5, 0.25) == -0.5
    assert relative_error_reduction(1.0, 0.9) is None


@pytest.mark.parametrize("speakers", range(1, 9))
def test_no_difference_is_detectable_if_no_p_is_low_enough(speakers: int) -> None:
    """With five speakers the least p of the permutation test is 2 / 2^5; with six it is 2 / 2^6 < 0.05."""
    each = np.random.default_rng(9).normal(0.01, 0.001, speakers)
    assert (detectable_difference([each]) is None) == (permutation_test(each).smallest_p > 0.05) == (speakers < 6)


@pytest.mark.parametrize("sizes", [(6,), (64,), (12, 30)])
def test_detectable_difference_has_the_power_it_states(sizes: tuple[int, ...]) -> None:
    """Noncentral t by scipy.stats; with many speakers it is the textbook's (1.96 + 0.84) standard errors."""
    draw = np.random.default_rng(6)
    groups = [draw.normal(0, 0.02 / (1 + place), n) for place, n in enumerate(sizes)]
    variances = [n * np.var(each, ddof=1) for n, each in zip(sizes, groups, strict=True)]
    error = math.sqrt(sum(variances))
    freedom = error**4 / sum(v**2 / (n - 1) for v, n in zip(variances, sizes, strict=True))
    found = detectable_difference(groups)
    critical = scipy.stats.t.ppf(0.975, freedom)
    assert scipy.stats.nct.sf(critical, freedom, found / error) == pytest.approx(0.8, abs=1e-6)
    if sizes == (64,):
        assert found / error == pytest.approx(1.96 + 0.84, abs=0.05)


@pytest.mark.parametrize(("speakers", "power"), [(6, 0.63), (8, 0.78)])
def test_detectable_difference_is_detected_by_the_permutation_test(speakers: int, power: float) -> None:
    rng = np.random.default_rng(7)
    pattern = rng.normal(0, 1, speakers)
    pattern = (pattern - pattern.mean()) / np.std(pattern, ddof=1)  # sample deviation exactly 1
    found = detectable_difference([pattern])
    trials = rng.normal(found / speakers, 1, (1000, speakers))
    assert np.mean([permutation_test(trial).p <= 0.05 for trial in trials]) == pytest.approx(power, abs=0.04)


# Contrasts.


def test_a_contrast_shows_what_it_could_have_detected_and_how_many_seeds_it_has() -> None:
    before = made({f"s{k}": [[1, 0, 1, k % 2]] for k in range(8)})
    after = made({f"s{k}": [[1, 1, 1, int(k == 3)]] for k in range(8)})
    found = contrast("dat", "ser", [(before, after)], "wa")
    assert found.detectable == detectable_difference([shares(before, after, "wa")])
    table = contrast_table([found], "differences", "")
    assert table.rows[0][-1] == f"{100 * found.detectable:.1f}"
    two = made({f"s{k}": [[1, 0, 1, 1], [1, 1, 0, 1]] for k in range(6)})
    assert "Only one seed" in table.notes[0]
    assert "Only one seed" not in contrast_table([contrast("dat", "ser", [(two, two)], "wa")], "", "").notes[0]


@given(arrays(np.int64, (3, 40), elements=st.integers(0, 2)))
def test_properties_of_any_two_systems(values: np.ndarray) -> None:
    """A difference is the sum of its shares; exchanging the systems changes signs only; nothing is NaN."""
    truth, first, second = values
    a, b = (count([f"s{place % 5}" for place in range(40)], truth, {0: each}, 3) for each in (first, second))
    for metric in METRICS:
        found, back = contrast("b", "a", [(a, b)], metric), contrast("a", "b", [(b, a)], metric)
        assert sum(found.shares) == pytest.approx(b.scores(metric)[0] - a.scores(metric)[0])
        assert back.shares == pytest.approx([-share for share in found.shares])
        assert back.p == found.p >= found.smallest_p
        assert -1 <= found.interval.low <= found.interval.high <= 1
    same = contrast("a", "a", [(a, a)], "uar")
    assert (same.p, same.interval and same.interval.low, same.detectable) == (1, 0, None)


def test_every_run_counts_the_same_however_many_speakers_it_has() -> None:
    small = one_class(0, 0, of=2), one_class(1, 1, of=2)  # +50 points, 4 utterances
    large = one_class(*[8.0] * 10, of=10), one_class(*[7.0] * 10, of=10)  # -10 points, 100 utterances
    found = contrast("b", "a", [small, large], "wa")
    assert (found.difference, found.before, found.after) == pytest.approx((0.2, 0.4, 0.6))
    assert found.rerr == pytest.approx(0.2 / 0.6)
    assert found.speakers[:3] == ("0:s0", "0:s1", "1:s0")
    assert found.shares == pytest.approx([0.125] * 2 + [-0.005] * 10)
    # |0.25 - 0.05| or more: both of the small run's speakers swapped alike, and at least as far as five of the ten
    sums = [0.005 * sum(1 if bits >> place & 1 else -1 for place in range(10)) for bits in range(2**10)]
    far = sum(abs(a + b + c) >= 0.2 - 1e-12 for a in (-0.125, 0.125) for b in (-0.125, 0.125) for c in sums)
    assert found.p == pytest.approx(far / 2**12)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.2, 0.2))  # no variation within a run
    assert found.detectable is None


def test_speakers_are_drawn_within_their_run_and_one_speaker_gives_no_interval() -> None:
    draw = np.random.default_rng(0)
    sizes = (8, 20)
    runs = [tuple(one_class(*draw.integers(0, 11, n).astype(float), of=10) for _ in range(2)) for n in sizes]
    found = contrast("b", "a", runs, "wa")
    errors = []  # of each run's mean difference, as many speakers drawn with replacement as there are
    for before, after in runs:
        each = (after.hits - before.hits)[0, :, 0] / 10
        errors.append(each.std() / math.sqrt(len(each)))
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * math.hypot(*errors) / 2, rel=0.05)
    alone = contrast("b", "a", [*runs, (one_class(1), one_class(2))], "wa")
    assert (alone.interval, alone.detectable) == (None, None)


def test_seeds_are_those_both_have_in_each_run() -> None:
    before, after = one_class(1, 2, seeds=3), one_class(2, 3, seeds=2)
    found = contrast("b", "a", [(before, after), (one_class(1, 1), one_class(1, 1))], "wa")
    assert found.seeds == (0,)
    assert found.difference == pytest.approx(0.125)
    assert contrast("b", "a", [(before.with_seeds([2]), after)], "wa").seeds == ()


# The gap between validation and test.


def gap(before: tuple[dict[str, str], dict[str, str]], after: tuple[dict[str, str], dict[str, str]]) -> Contrast:
    """WA gap of (validation, test): speaker -> a digit an utterance of one class, 1 correct, 0 wrong."""

    def counts(part: dict[str, str]) -> Counts:
        names = [name for name, text in part.items() for _ in text]
        wrong = np.array([int(digit == "0") for text in part.values() for digit in text])
        return count(names, np.zeros(len(names), int), {0: wrong}, 2)

    sides = [(counts(validation), counts(test)) for validation, test in (before, after)]
    return gap_contrast("after", "before", sides[0], sides[1], "wa")


def test_the_gap_by_hand() -> None:
    """Validation 4 of 4, test 1 of 4: 75 points. After: 3 of 4 and 2 of 4: 25. In validation a loses 1/4, in test b
    gains 1/4: each has a share of -1/4, and ++ and -- of 4 arrangements are as far from 0."""
    found = gap(({"a": "11", "b": "11"}, {"a": "00", "b": "01"}), ({"a": "10", "b": "11"}, {"a": "00", "b": "11"}))
    assert (found.before, found.after, found.difference) == (0.75, 0.25, -0.5)
    assert (found.shares, found.p, found.rerr) == ((-0.25, -0.25), 0.5, None)
    assert (found.interval.low, found.interval.high) == (-0.5, -0.5)  # a twice, b twice or both: always -1/2


def test_the_gap_if_validation_and_test_speakers_differ() -> None:
    """Validation speakers a, b are drawn among themselves, c, d too: test accuracy gains 1/2, 1/2 or 0, 1 of theirs."""
    validation = {"a": "1", "b": "1"}
    found = gap((validation, {"c": "00", "d": "00"}), (validation, {"c": "00", "d": "11"}))
    assert (found.speakers, found.shares, found.p) == (("a", "b", "c", "d"), (0, 0, 0, -0.5), 1)
    assert (found.interval.low, found.interval.high) == (-1, 0)
    for single in (({"a": "1"}, {"c": "00", "d": "00"}), ({"a": "11", "b": "11"}, {"b": "00", "c": "01"})):
        assert gap(single, single).interval is None  # one speaker validates; one does both
