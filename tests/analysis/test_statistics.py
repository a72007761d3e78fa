"""Statistics on hand-made records whose answers can be seen, and against reference implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unheard.analysis.statistics import (
    Counts,
    Metric,
    contrast,
    count,
    detectable_difference,
    drawn,
    gap_contrast,
    holm,
    interval,
    permutation_test,
    relative_error_reduction,
    resampled,
    shares,
    worth,
)
from unheard.experiments.summary import contrast_table, explanation
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy

METRICS: tuple[Metric, ...] = ("wa", "uar")


def made(rights: dict[str, list[list[int]]], classes: int = 2) -> Counts:
    """Speaker -> seed -> a digit an utterance: 1 right, 0 wrong; the classes alternate 0, 1, 0, 1…"""
    speakers = [name for name, seeds in rights.items() for _ in seeds[0]]
    truth = np.array([place % classes for seeds in rights.values() for place in range(len(seeds[0]))])
    right = np.array([[hit for seeds in rights.values() for hit in seeds[s]] for s in range(len(rights["s0"]))])
    said = {s: np.where(row == 1, truth, (truth + 1) % classes) for s, row in enumerate(right)}
    return count(speakers, truth, said, classes)


class Records:
    """Two systems on uneven, skewed test data, as predictions an utterance: what the counts stand for."""

    def __init__(self, rng: np.random.Generator, units: int = 6, seeds: int = 2, classes: int = 3) -> None:
        sizes = rng.integers(4, 12, units)
        self.classes, self.seeds = classes, seeds
        self.unit = np.repeat(np.arange(units), sizes)
        self.truth = rng.choice(classes, len(self.unit), p=[0.6, 0.3, 0.1])
        self.truth[:classes] = np.arange(classes)
        guess = rng.integers(0, classes, (2, seeds, len(self.unit)))
        better = rng.random((2, seeds, len(self.unit))) < np.array([0.3, 0.5])[:, None, None]
        self.said = np.where(better, self.truth, guess)  # (system, seed, n)

    def counts(self, system: int) -> Counts:
        names = [f"s{u}" for u in self.unit]
        return count(names, self.truth, dict(enumerate(self.said[system])), self.classes)

    def score(self, truth: np.ndarray, said: np.ndarray, metric: Metric) -> float:
        return (
            weighted_accuracy(truth, said) if metric == "wa" else unweighted_average_recall(truth, said, self.classes)
        )

    def mean(self, owner: np.ndarray, metric: Metric) -> float:
        """Mean over seeds of the metric when unit u's predictions are those of system owner[u]."""
        said = np.where(owner[self.unit] == 0, self.said[0], self.said[1])
        return float(np.mean([self.score(self.truth, row, metric) for row in said]))


def test_counts_wa_and_uar_of_each_seed() -> None:
    """Class 0 three times, class 1 twice. Seed 0: right 2 of 3 and 1 of 2; seed 1: 3 of 3 and 0 of 2."""
    counts = count(["b", "a", "a", "b", "a"], np.array([0, 0, 1, 1, 0]), {
        4: np.array([0, 0, 1, 0, 1]), 7: np.array([0, 0, 0, 0, 0]),
    }, 2)  # fmt: skip
    assert counts.speakers == ("a", "b")
    assert counts.seeds == (4, 7)
    assert counts.totals.tolist() == [[2, 1], [1, 1]]
    assert counts.hits.tolist() == [[[1, 1], [1, 0]], [[2, 0], [1, 0]]]
    assert counts.scores("wa") == pytest.approx([3 / 5, 3 / 5])
    assert counts.scores("uar") == pytest.approx([(2 / 3 + 1 / 2) / 2, 1 / 2])
    assert counts.with_seeds([7]).scores("uar") == pytest.approx([1 / 2])


def test_a_class_that_does_not_occur_has_no_part_in_uar() -> None:
    counts = count(["a"] * 3, np.array([0, 0, 2]), {0: np.array([0, 1, 2])}, 4)
    assert counts.scores("uar") == pytest.approx([0.75])
    assert worth(counts.totals, "uar").tolist() == [0.25, 0, 0.5, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_counts_agree_with_the_metrics_on_utterances(metric: Metric) -> None:
    records = Records(np.random.default_rng(0))
    direct = [records.score(records.truth, said, metric) for said in records.said[1]]
    assert records.counts(1).scores(metric) == pytest.approx(direct)


def test_counting_nothing_or_unlike_things_is_refused() -> None:
    with pytest.raises(ValueError, match="no utterance"):
        count([], np.array([], int), {0: np.array([], int)}, 2)
    with pytest.raises(ValueError, match="no seed"):
        count(["a"], np.array([0]), {}, 2)
    with pytest.raises(ValueError, match="lengths"):
        count(["a"], np.array([0, 1]), {0: np.array([0, 1])}, 2)
    one, two = made({"s0": [[1, 0]]}), made({"s0": [[1, 0]], "s1": [[1, 1]]})
    for refused in (lambda: shares(one, two, "wa"), lambda: interval(one, "wa", minus=two)):
        with pytest.raises(ValueError, match="same utterances"):
            refused()


def test_shares_of_a_difference() -> None:
    """WA: 8 utterances; s0 gains 2, s1 loses 1. UAR: 4 of each class, so each hit is worth 1/8 as well."""
    before = made({"s0": [[0, 0, 1, 1]], "s1": [[1, 1, 1, 0]]})
    after = made({"s0": [[1, 1, 1, 1]], "s1": [[0, 1, 1, 0]]})
    assert shares(before, after, "wa") == pytest.approx([2 / 8, -1 / 8])
    assert shares(before, after, "uar") == pytest.approx([2 / 8, -1 / 8])


@pytest.mark.parametrize("metric", METRICS)
def test_swapping_a_speaker_turns_the_sign_of_its_share(metric: Metric) -> None:
    """All 2^6 swaps, recomputed from the utterances' predictions."""
    records = Records(np.random.default_rng(1))
    each = shares(records.counts(0), records.counts(1), metric)
    for swap in itertools.product((0, 1), repeat=6):
        owner = np.array(swap)
        difference = records.mean(1 - owner, metric) - records.mean(owner, metric)
        assert (1 - 2 * owner) @ each == pytest.approx(difference)


def test_permutation_by_hand() -> None:
    """Three speakers: +1 +2 +3 is 6; of 8 arrangements only +++ and --- are as far from 0. With -1: 4 of them
    reach |4|: ±(-1 +2 +3) and ±(1 +2 +3)."""
    assert permutation_test(np.array([1.0, 2, 3])).p == 2 / 8
    assert permutation_test(np.array([-1.0, 2, 3])).p == 4 / 8
    assert permutation_test(np.array([1.0, 2, 0])).p == 4 / 8
    result = permutation_test(np.full(14, 0.1))
    assert (result.exact, result.arrangements, result.p) == (True, 16_384, 2 / 16_384)
    assert result.p == result.smallest


def test_permutation_when_nothing_can_be_told() -> None:
    assert permutation_test(np.zeros(5)).p == 1
    assert permutation_test(np.zeros(30)).p == 1
    alone = permutation_test(np.array([0.4]))
    assert (alone.p, alone.smallest) == (1, 1)
    for nothing in (np.array([]), np.array([0.1, math.nan])):
        with pytest.raises(ValueError, match="finite"):
            permutation_test(nothing)


def test_sums_in_another_order_are_ties() -> None:
    """0.1 + 0.2 + 0.3 - 0.6 is not quite 0 in floating point; every arrangement of it reaches its |0|."""
    assert permutation_test(np.array([0.1, 0.2, 0.3, -0.6])).p == 1
    values = np.array([0.1, 0.7, -0.2, 0.3])
    assert permutation_test(values).p == permutation_test(values[::-1]).p == permutation_test(-values).p


def test_drawn_arrangements_are_never_certain() -> None:
    """15 speakers that all gain: only 2 of 32768 arrangements; k of 10,000 drawn, p = (1 + k) / 10,001."""
    result = permutation_test(np.full(15, 0.01))
    assert not result.exact
    assert result.arrangements == 10_000
    assert result.p * 10_001 == pytest.approx(round(result.p * 10_001))
    assert 1 / 10_001 <= result.p <= 6 / 10_001
    assert permutation_test(np.full(15, 0.01)) == result
    assert permutation_test(np.full(64, 0.01)).p == 1 / 10_001 == result.smallest


@pytest.mark.parametrize("metric", METRICS)
def test_permutation_against_scipy(metric: Metric) -> None:
    """scipy swaps the units' records between the samples; the statistic pools their utterances anew."""
    records = Records(np.random.default_rng(2))
    own = permutation_test(shares(records.counts(0), records.counts(1), metric))
    units = np.arange(6)

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        owners = [np.empty(6, int), np.empty(6, int)]
        for owner, drawn_records in zip(owners, (first, second), strict=True):
            owner[drawn_records % 6] = drawn_records // 6
        return records.mean(owners[1], metric) - records.mean(owners[0], metric)

    reference = scipy.stats.permutation_test(
        (units, units + 6), difference, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert own.exact
    assert own.p == pytest.approx(reference.pvalue)
    assert 0 < own.p < 1


def test_drawn_arrangements_come_near_all_of_them() -> None:
    each = np.random.default_rng(3).normal(0.2, 1.0, 16)
    everything = 1.0 - 2.0 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    p = np.mean(np.abs(everything @ each) >= abs(each.sum()) - 1e-12)
    assert permutation_test(each).p == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 10_000))


def test_holm_on_the_worked_example() -> None:
    """0.01, 0.02, 0.03, 0.04 of four (x4, x3, x2, x1, never falling): .04, .06, .06, .06; order is kept."""
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    for wrong in ([math.nan, 0.1], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="probabilities"):
            holm(wrong)


def holm_as_a_procedure(p: list[float], alpha: float) -> set[int]:
    """Holm 1979: reject the smallest p while it is at most alpha / (how many are left)."""
    left, rejected = sorted(range(len(p)), key=p.__getitem__), set()
    while left and p[left[0]] <= alpha / len(left):
        rejected.add(left.pop(0))
    return rejected


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 999))
def test_holm_rejects_what_the_procedure_rejects(p: list[int], alpha: int) -> None:
    values, level = [n / 1000 for n in p], alpha / 1000 + 1e-7  # between the possible values
    rejected = {place for place, corrected in enumerate(holm(values)) if corrected <= level}
    assert rejected == holm_as_a_procedure(values, level)


def test_bootstrap_by_hand() -> None:
    """Speakers with 0, 1 and 4 of 4 right: of the 27 equally likely draws one has 0 % and one 100 %, so that
    2.5 % of 27 (0.7 of a draw) lies within either end."""
    counts = made({"s0": [[0, 0, 0, 0]], "s1": [[1, 0, 0, 0]], "s2": [[1, 1, 1, 1]]})
    values = sorted(sum(draw) / 12 for draw in itertools.product((0, 1, 4), repeat=3))
    weights = np.array(list(itertools.product(range(4), repeat=3)), float)
    weights = weights[weights.sum(axis=1) == 3]
    ours = resampled(counts.mean_hits, counts.totals, weights, "wa")
    assert sorted(set(np.round(values, 9))) == sorted(set(np.round(ours, 9)))
    found = interval(counts, "wa")
    assert found is not None
    assert (found.low, found.high) == (0.0, 1.0)
    assert 0.5 in found
    assert 1.1 not in found


def test_bootstrap_draws_whole_speakers_and_every_one_alike() -> None:
    weights = drawn(5)
    assert weights.shape == (10_000, 5)
    assert (weights.sum(axis=1) == 5).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(5), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.05)  # n p (1 - p)


@pytest.mark.parametrize("metric", METRICS)
def test_resampling_is_pooling_the_drawn_speakers_utterances(metric: Metric) -> None:
    records = Records(np.random.default_rng(4))
    draw = np.array([0, 3, 3, 5, 5, 5])
    rows = np.concatenate([np.flatnonzero(records.unit == u) for u in draw])
    direct = np.mean([records.score(records.truth[rows], said[rows], metric) for said in records.said[0]])
    weights = np.bincount(draw, minlength=6)[None].astype(float)
    counts = records.counts(0)
    assert resampled(counts.mean_hits, counts.totals, weights, metric) == pytest.approx(direct)


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_against_scipy(metric: Metric) -> None:
    """The same percentile interval from scipy, whose statistic pools the drawn speakers' utterances anew."""
    records = Records(np.random.default_rng(5), units=8, seeds=1)
    rows = [np.flatnonzero(records.unit == u) for u in range(8)]

    def difference(units: np.ndarray) -> float:
        chosen = np.concatenate([rows[int(u)] for u in units])
        before, after = (records.score(records.truth[chosen], s[0][chosen], metric) for s in records.said)
        return after - before

    reference = scipy.stats.bootstrap(
        (np.arange(8),), difference, method="percentile", n_resamples=2000, vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    own = interval(records.counts(1), metric, minus=records.counts(0))
    assert own is not None
    width = own.high - own.low
    assert (own.low, own.high) == pytest.approx((reference.low, reference.high), abs=0.08 * width)
    assert width > 0.05


def test_a_draw_without_a_class_is_scored_on_the_others_and_counted() -> None:
    """Class 1 is s1's alone: of 4 draws of two speakers one is s0 twice, and scores class 0 only."""
    counts = count(["s0", "s0", "s1"], np.array([0, 0, 1]), {0: np.array([0, 1, 1])}, 2)
    weights = np.array([[2.0, 0], [1, 1], [0, 2]])
    assert resampled(counts.mean_hits, counts.totals, weights, "uar").tolist() == [0.5, 0.75, 1.0]
    found = interval(counts, "uar")
    assert found is not None
    assert found.incomplete == pytest.approx(0.5, abs=0.02)  # s0 s0 and s1 s1
    assert math.isfinite(found.low + found.high)


def test_one_speaker_gives_no_interval_and_no_detectable_difference() -> None:
    alone = made({"s0": [[1, 0, 1, 1]]})
    assert interval(alone, "wa") is None
    assert detectable_difference(shares(alone, alone, "wa")) is None


@pytest.mark.parametrize("speakers", range(1, 9))
def test_no_difference_is_detectable_where_no_p_is_low_enough(speakers: int) -> None:
    """With five speakers the least p of the permutation test is 2 / 2^5; with six it is 2 / 2^6 < 0.05."""
    each = np.random.default_rng(9).normal(0.01, 0.001, speakers)
    assert (detectable_difference(each) is None) == (permutation_test(each).smallest > 0.05) == (speakers < 6)


def test_a_contrast_says_what_it_could_have_seen() -> None:
    rights = {f"s{k}": [[1, 0, 1, k % 2]] for k in range(8)}
    better = {name: [[1, 1, 1, int(name == "s3")]] for name in rights}
    found = contrast("dat", "ser", made(rights), made(better), "wa", "fixed")
    assert found.detectable == detectable_difference(shares(made(rights), made(better), "wa"))
    assert found.detectable is not None
    assert contrast_table([found]).endswith(f"| {100 * found.detectable:.1f} |")


def test_a_single_seed_is_said() -> None:
    one = made({f"s{k}": [[1, 0, 1, 1]] for k in range(6)})
    two = made({f"s{k}": [[1, 0, 1, 1], [1, 1, 0, 1]] for k in range(6)})
    said = [explanation([contrast("dat", "ser", counts, counts, "wa", "fixed")]) for counts in (one, two)]
    assert ["Of one seed" in text for text in said] == [True, False]


def test_identical_systems() -> None:
    counts = made({"s0": [[1, 0]], "s1": [[1, 1]]})
    found = interval(counts, "uar", minus=counts)
    assert found is not None
    assert (found.low, found.high) == (0, 0)
    assert permutation_test(shares(counts, counts, "uar")).p == 1
    assert detectable_difference(shares(counts, counts, "uar")) is None


def test_relative_error_reduction_is_the_papers() -> None:
    """Tu et al. 2019 call 53.9 -> 56.5, 53.9 -> 57.3 and 81.7 -> 83.5 improvements of 5.6, 7.4 and 9.8 %."""
    told = [relative_error_reduction(a, b) for a, b in ((0.539, 0.565), (0.539, 0.573), (0.817, 0.835))]
    assert [round(100 * value, 1) for value in told if value is not None] == [5.6, 7.4, 9.8]
    assert relative_error_reduction(0.5, 0.25) == -0.5
    assert relative_error_reduction(1.0, 0.9) is None


@pytest.mark.parametrize("speakers", [6, 10, 24, 64])
def test_detectable_difference_has_the_power_it_says(speakers: int) -> None:
    """Noncentral t by scipy.stats; with many speakers it is the textbook's (1.96 + 0.84) standard errors."""
    each = np.random.default_rng(6).normal(0, 0.01, speakers)
    error = np.std(each, ddof=1) * math.sqrt(speakers)
    found = detectable_difference(each)
    assert found is not None
    critical = scipy.stats.t.ppf(0.975, speakers - 1)
    assert scipy.stats.nct.sf(critical, speakers - 1, found / error) == pytest.approx(0.8, abs=1e-6)
    if speakers == 64:
        assert found / error == pytest.approx(1.96 + 0.84, abs=0.05)


@pytest.mark.parametrize(("speakers", "power"), [(6, 0.63), (8, 0.78), (12, 0.8)])
def test_detectable_difference_is_found_four_times_in_five_by_our_test(speakers: int, power: float) -> None:
    """2,000 invented experiments with that true difference: the permutation test finds 80 % (t is its model)."""
    rng = np.random.default_rng(7)
    pattern = rng.normal(0, 1, speakers)
    pattern = (pattern - pattern.mean()) / np.std(pattern, ddof=1)  # sample deviation exactly 1
    found = detectable_difference(pattern)
    assert found is not None
    trials = rng.normal(found / speakers, 1, (2000, speakers))
    rejected = np.mean([permutation_test(trial).p <= 0.05 for trial in trials])
    assert rejected == pytest.approx(power, abs=0.03)


def test_false_positives_are_no_more_than_allowed() -> None:
    """Two systems of one quality, whose speakers differ a lot: p <= 0.05 in 5 % of 1,000 invented experiments at
    most; counting utterances as if they were independent (McNemar) would claim a difference far more often."""
    rng, units, size = np.random.default_rng(8), 10, 40
    names = np.repeat([f"s{u}" for u in range(units)], size)
    truth = np.tile(np.arange(4), units * size // 4)
    false = naive = 0
    for _ in range(1000):
        quality = np.clip(0.6 + 0.15 * rng.standard_normal((2, units)), 0, 1).repeat(size, axis=1)
        right = rng.random((2, units * size)) < quality
        a, b = (count(names, truth, {0: np.where(row, truth, (truth + 1) % 4)}, 4) for row in right)  # type: ignore[arg-type]
        false += permutation_test(shares(a, b, "uar")).p <= 0.05
        gained, lost = np.sum(right[1] & ~right[0]), np.sum(right[0] & ~right[1])
        naive += abs(gained - lost) > 1.96 * math.sqrt(gained + lost)
    assert 20 <= false <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)
    assert naive > 3 * false


@given(arrays(np.int64, (3, 40), elements=st.integers(0, 2)))
def test_properties_of_any_two_systems(drawn_values: np.ndarray) -> None:
    """A difference is the sum of its shares; exchanging the systems changes signs only; nothing is NaN."""
    truth, first, second = drawn_values
    names = [f"s{place % 5}" for place in range(40)]
    a, b = (count(names, truth, {0: said}, 3) for said in (first, second))
    for metric in METRICS:
        each = shares(a, b, metric)
        assert each.sum() == pytest.approx(b.scores(metric)[0] - a.scores(metric)[0])
        assert shares(b, a, metric) == pytest.approx(-each)
        assert permutation_test(each) == permutation_test(-each)
        found = interval(b, metric, minus=a, draws=100)
        assert found is not None
        assert -1 <= found.low <= found.high <= 1
        assert permutation_test(each).p >= permutation_test(each).smallest


def sides(validation: dict[str, str], test: dict[str, str], seed: int = 0) -> tuple[Counts, Counts]:
    """Validation and test counts of one class: speaker -> a digit an utterance, 1 right, 0 wrong."""
    found = []
    for part in (validation, test):
        names = [name for name, text in part.items() for _ in text]
        wrong = np.array([int(digit == "0") for text in part.values() for digit in text])
        found.append(count(names, np.zeros(len(names), int), {seed: wrong}, 2))
    return found[0], found[1]


def test_the_gap_by_hand() -> None:
    """Validation 4 of 4, test 1 of 4: 75 points. After: 3 of 4 and 2 of 4: 25. In validation a loses 1/4, in test b
    gains 1/4: each has a share of -1/4, and ++ and -- of 4 arrangements are as far from 0."""
    before = sides({"a": "11", "b": "11"}, {"a": "00", "b": "01"})
    after = sides({"a": "10", "b": "11"}, {"a": "00", "b": "11"})
    for metric in METRICS:
        found = gap_contrast("after", "before", before, after, metric)
        assert (found.before, found.after, found.difference) == (0.75, 0.25, -0.5)
        assert found.shares == (-0.25, -0.25)
        assert found.p == 0.5
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == (-0.5, -0.5)  # a twice, b twice or both: always -1/2


def test_the_gap_when_other_speakers_validate_than_are_tested() -> None:
    """Validation speakers a, b are drawn among themselves, c, d too: test accuracy gains 1/2, 1/2 or 0, 1 of theirs."""
    before = sides({"a": "1", "b": "1"}, {"c": "00", "d": "00"})
    after = sides({"a": "1", "b": "1"}, {"c": "00", "d": "11"})
    found = gap_contrast("after", "before", before, after, "wa")
    assert found.speakers == ("a", "b", "c", "d")
    assert found.shares == (0, 0, 0, -0.5)
    assert found.p == 1
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (-1, 0)
    alone = sides({"a": "1"}, {"c": "00", "d": "00"})
    assert gap_contrast("same", "alone", alone, alone, "wa").interval is None
    with pytest.raises(ValueError, match="share no seed"):
        gap_contrast("x", "y", before, sides({"a": "1", "b": "1"}, {"c": "00", "d": "00"}, seed=1), "wa")


@pytest.mark.parametrize("metric", METRICS)
def test_swapping_a_speaker_in_both_parts_turns_its_share_of_the_gap(metric: Metric) -> None:
    """All 2^6 swaps, recomputed from the utterances: six speakers who validate and are tested."""
    dev, test = (Records(np.random.default_rng(seed)) for seed in (20, 21))
    system = [(dev.counts(which), test.counts(which)) for which in (0, 1)]
    each = np.array(gap_contrast("1", "0", system[0], system[1], metric).shares)
    for swap in itertools.product((0, 1), repeat=6):
        owner = np.array(swap)
        gaps = [dev.mean(own, metric) - test.mean(own, metric) for own in (owner, 1 - owner)]
        assert (1 - 2 * owner) @ each == pytest.approx(gaps[1] - gaps[0])


def test_a_single_speaker_in_both_parts_gives_the_gap_no_interval() -> None:
    """b validates and is tested, a and c do one: nothing varies, which is not to know that nothing can."""
    before = sides({"a": "11", "b": "11"}, {"b": "00", "c": "01"})
    after = sides({"a": "10", "b": "11"}, {"b": "00", "c": "11"})
    assert gap_contrast("after", "before", before, after, "wa").interval is None
