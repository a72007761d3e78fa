"""Metrics against scikit-learn and visible answers; decision rules against every possible answer."""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from unheard.model.network import Head
from unheard.training import metrics
from unheard.training.evaluation import decision_rule
from unheard.training.metrics import confusion, decision_factors, macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.recipe import DECISIONS

CASES = [(seed, classes, size) for seed, (classes, size) in enumerate([(2, 1), (2, 30), (4, 3), (4, 500), (7, 2000)])]


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= 5
    assert result.failed == 0


@pytest.mark.parametrize(("seed", "classes", "size"), CASES)
def test_as_scikit_learn(seed: int, classes: int, size: int) -> None:
    random = np.random.default_rng(seed)  # skewed truths, and predictions that are right about half of the time
    truth = random.choice(classes, size, p=random.dirichlet(np.ones(classes)))
    predicted = np.where(random.random(size) < 0.5, truth, random.integers(0, classes, size))
    labels = range(classes)
    recalls = reference.recall_score(truth, predicted, labels=labels, average=None, zero_division=np.nan)
    np.testing.assert_allclose(metrics.recalls(truth, predicted, classes), recalls)
    assert weighted_accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    assert unweighted_average_recall(truth, predicted, classes) == pytest.approx(np.nanmean(recalls))
    f1 = reference.f1_score(truth, predicted, average="macro")  # over the classes that occur in either
    assert macro_f1(truth, predicted, classes) == pytest.approx(f1)
    counts = reference.confusion_matrix(truth, predicted, labels=labels)
    np.testing.assert_array_equal(confusion(truth, predicted, classes), counts)


def test_visible_answers() -> None:
    truth, predicted = np.array([0] * 9 + [1]), np.zeros(10, int)
    assert weighted_accuracy(truth, predicted) == 0.9
    assert unweighted_average_recall(truth, predicted, 2) == 0.5
    assert confusion(np.array([2, 2, 0]), np.array([1, 1, 0]), 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 2, 0]]
    narrow = np.full(3, 11, np.int8)  # 11 · 12 does not fit in it
    assert confusion(narrow, narrow, 12)[11, 11] == 3


def test_without_utterances() -> None:
    none = np.array([], int)
    assert confusion(none, none, 2).tolist() == [[0, 0], [0, 0]]
    values = weighted_accuracy(none, none), unweighted_average_recall(none, none, 2), macro_f1(none, none, 2)
    assert all(map(math.isnan, values))


@pytest.mark.parametrize(("decision", "wa", "uar"), [("likeliest", 1, 0), ("both", 0.5, 0.5), ("even", 0, 1)])
def test_each_decision_rule_maximises_its_metric(decision: str, wa: float, uar: float) -> None:
    """Of all answers to three utterances of known posteriors none has a higher expected value."""
    p = np.array([[0.55, 0.25, 0.2], [0.5, 0.1, 0.4], [0.6, 0.35, 0.05]])
    prior = p.mean(axis=0)
    counts = (1200 * prior).round().astype(int)

    def expected(answers: tuple[int, ...]) -> float:
        right = np.array([p[utterance, answer] / 3 for utterance, answer in enumerate(answers)])
        recall = sum(one / prior[answer] for one, answer in zip(right, answers, strict=True)) / 3
        return float(wa * right.sum() + uar * recall)

    ours = tuple((p * decision_factors(decision, counts.tolist())).argmax(axis=1).tolist())
    assert expected(ours) == pytest.approx(max(map(expected, itertools.product(range(3), repeat=3))))


@pytest.mark.parametrize("decision", DECISIONS)
def test_an_emotion_without_training_utterances_is_not_favoured(decision: str) -> None:
    assert decision_factors(decision, [5, 5, 5]) == [1, 1, 1]
    assert decision_factors(decision, [0, 10, 30]) == [1.0, *decision_factors(decision, [10, 30])]


def test_a_head_applies_a_decision_rule_within_the_context() -> None:
    head, e = Head(4, (3,), 2, 0.0).eval(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before, bias = head(e).softmax(1), head.output.bias.detach().clone()
    with decision_rule(head, [2.0, 0.5]):
        scaled = before * torch.tensor([2, 0.5])
        torch.testing.assert_close(head(e).softmax(1), scaled / scaled.sum(1, keepdim=True))
    assert torch.equal(head.output.bias, bias)
