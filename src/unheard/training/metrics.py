"""Metrics and decision rules. Arrays of labels are integer indices, (N,).

WA, weighted (plain) accuracy: the share of correctly classified utterances.
UAR, unweighted average recall (UA): the mean of the emotions' recalls.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]


def confusion(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Compute the confusion matrix (classes, classes): true class by predicted class.

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = np.asarray(truth, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def weighted_accuracy(truth: Labels, predicted: Labels) -> float:
    """Compute WA = correct / all; NaN without utterances.

    >>> weighted_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    0.75
    """
    return float(np.mean(np.asarray(truth) == np.asarray(predicted))) if len(truth) else float("nan")


def recalls(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.float64]:
    """Compute the recall of each class (classes,); NaN for a class without utterances.

    >>> recalls(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).tolist()
    [0.5, 1.0, nan]
    """
    counts = confusion(truth, predicted, classes)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = np.diag(counts) / counts.sum(axis=1)
    return result


def unweighted_average_recall(truth: Labels, predicted: Labels, classes: int) -> float:
    """Compute UAR, the mean recall over the classes that occur (Schuller et al. 2009); NaN without utterances.

    >>> unweighted_average_recall(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    0.8333333333333333
    """
    recall = recalls(truth, predicted, classes)
    return float(np.nanmean(recall)) if len(truth) else float("nan")


def macro_f1(truth: Labels, predicted: Labels, classes: int) -> float:
    """Compute the mean F1 = 2 TP / (2 TP + FP + FN) of classes that occur or are predicted; NaN without utterances.

    >>> round(macro_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2), 4)
    0.7333
    """
    if not len(truth):
        return float("nan")
    counts = confusion(truth, predicted, classes)
    n = counts.sum(axis=0) + counts.sum(axis=1)  # 2 TP + FP + FN
    return float(np.mean(2 * np.diag(counts)[n > 0] / n[n > 0]))


class AccuracyMetrics:
    """Accuracies of predictions: `truth` and `predicted` (n,) are indices of C labels, `probabilities` is (n, C)."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def wa(self) -> float:
        """Weighted accuracy."""
        return weighted_accuracy(self.truth, self.predicted)

    @property
    def uar(self) -> float:
        """Unweighted average recall."""
        return unweighted_average_recall(self.truth, self.predicted, self.probabilities.shape[1])

    @property
    def macro_f1(self) -> float:
        """Macro-averaged F1."""
        return macro_f1(self.truth, self.predicted, self.probabilities.shape[1])

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts (C, C): row the true label, column the predicted one."""
        return confusion(self.truth, self.predicted, self.probabilities.shape[1])


def decision_factors(decision: str, counts: Sequence[int]) -> list[float]:
    """Return the factors (C,) by which a decision rule multiplies probabilities, given training `counts` (C,).

    A network trained by cross-entropy estimates the probability p of an emotion under the training frequencies π.
    "likeliest", the largest p, maximises expected WA; "even", the largest p / π, maximises expected UAR (Menon et al.
    2021, Long-tail learning via logit adjustment); "both", the largest p · (1 + 1 / (C π)) / 2, their mean.
    The probability of an emotion without training utterances is not changed.

    >>> decision_factors("even", [10, 30])
    [2.0, 0.6666666666666666]
    >>> decision_factors("both", [10, 30])
    [1.5, 0.8333333333333333]
    >>> decision_factors("both", [0, 20, 20])
    [1.0, 1.0, 1.0]
    """
    occurring = sum(n > 0 for n in counts)
    rarity = [sum(counts) / (occurring * n) if n else 1.0 for n in counts]
    return {"likeliest": [1.0] * len(counts), "even": rarity, "both": [(1 + r) / 2 for r in rarity]}[decision]


def balanced_weights(classes: Mapping[str, Hashable]) -> dict[str, float]:
    """Return the weight N / (C N_c) of each of N utterances, whose class is one of C and occurs N_c times.

    >>> balanced_weights({"a": 0, "b": 0, "c": 0, "d": 1})["d"]
    2.0
    """
    counts = Counter(classes.values())
    return {name: len(classes) / (len(counts) * counts[label]) for name, label in classes.items()}
