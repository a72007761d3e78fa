"""Metrics against visible answers, literal formulas, and scikit-learn."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from sklearn import metrics as reference

from unheard.training import metrics


def draw(seed: int, classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed truths and predictions that are right about half of the time."""
    random = np.random.default_rng(seed)
    truth = random.choice(classes, size, p=random.dirichlet(np.ones(classes)))
    predicted = np.where(random.random(size) < 0.5, truth, random.integers(0, classes, size))
    return truth, predicted


CASES = [(seed, classes, size) for seed, (classes, size) in enumerate([(2, 1), (2, 30), (4, 3), (4, 500), (7, 2000)])]


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= 5
    assert result.failed == 0


@pytest.mark.parametrize(("seed", "classes", "size"), CASES)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_as_scikit_learn(seed: int, classes: int, size: int) -> None:
    truth, predicted = draw(seed, classes, size)
    counts = metrics.confusion(truth, predicted, classes)
    assert np.array_equal(counts, reference.confusion_matrix(truth, predicted, labels=range(classes)))
    assert metrics.weighted_accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    if len(set(truth)) > 1:
        uar = metrics.unweighted_average_recall(truth, predicted, classes)
        assert uar == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    f1 = metrics.macro_f1(truth, predicted, classes)
    assert f1 == pytest.approx(reference.f1_score(truth, predicted, average="macro"))


@pytest.mark.parametrize(("seed", "classes", "size"), CASES)
def test_as_the_literal_formulas(seed: int, classes: int, size: int) -> None:
    truth, predicted = draw(seed, classes, size)
    pairs = list(zip(truth.tolist(), predicted.tolist(), strict=True))
    assert metrics.weighted_accuracy(truth, predicted) == pytest.approx(sum(t == p for t, p in pairs) / size)
    recall, f1 = [], []
    for c in range(classes):
        hits = sum(t == p == c for t, p in pairs)
        misses = sum(t == c != p for t, p in pairs)
        alarms = sum(p == c != t for t, p in pairs)
        if hits + misses:
            recall.append(hits / (hits + misses))
            assert metrics.recalls(truth, predicted, classes)[c] == pytest.approx(recall[-1])
        else:
            assert math.isnan(metrics.recalls(truth, predicted, classes)[c])
        if hits + misses + alarms:
            f1.append(2 * hits / (2 * hits + alarms + misses))
    assert metrics.unweighted_average_recall(truth, predicted, classes) == pytest.approx(sum(recall) / len(recall))
    assert metrics.macro_f1(truth, predicted, classes) == pytest.approx(sum(f1) / len(f1))


def test_accuracy_is_weighted_by_utterances_and_recall_is_not() -> None:
    truth, predicted = np.array([0] * 9 + [1]), np.zeros(10, int)
    assert metrics.weighted_accuracy(truth, predicted) == 0.9
    assert metrics.unweighted_average_recall(truth, predicted, 2) == 0.5


def test_rows_are_truths_and_columns_predictions() -> None:
    assert metrics.confusion(np.array([2, 2, 0]), np.array([1, 1, 0]), 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 2, 0]]


def test_narrow_integers_do_not_overflow() -> None:
    truth = np.full(3, 11, np.int8)
    assert metrics.confusion(truth, truth, 12)[11, 11] == 3


def test_no_utterance_has_no_accuracy() -> None:
    none = np.array([], int)
    assert metrics.confusion(none, none, 2).tolist() == [[0, 0], [0, 0]]
    assert math.isnan(metrics.weighted_accuracy(none, none))
    assert math.isnan(metrics.unweighted_average_recall(none, none, 2))
    assert math.isnan(metrics.macro_f1(none, none, 2))
