"""Temperature scaling: calibrate the probabilities of a model on validation speakers.

The logits are divided by one number T (Guo, Pleiss, Sun, Weinberger 2017: On Calibration of Modern Neural Networks,
ICML), which leaves the predicted emotion unchanged. T minimises the negative log-likelihood of validation speakers. The
gain on test speakers is measured with temperatures chosen without them, since in cross-validation every speaker
validates some fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from unheard.errors import ExportError
from unheard.experiments.summary import Line, Predictions

LOWEST, HIGHEST = 0.2, 20.0
"""Range of T: a few correct answers do not justify certainty."""

BINS = 15
"""Number of confidence bins of equal width, as in Guo et al."""

BANDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Bounds of the confidence bands of the card."""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Band:
    """Test utterances with a confidence above `low` and up to `high`; `accuracy` is NaN without any."""

    low: float
    high: float
    utterances: int
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """A temperature, the data it was chosen on, and its effect as (before, after).

    `nll` is the mean negative log-likelihood (nats) of the validation speakers; `dev_error` and `test_error` are
    expected calibration errors; the test error afterwards is NaN where all validation speakers are tested too.
    `bands` are the test utterances by confidence, after dividing by a temperature chosen without their speakers, or
    as they are where there is none.
    """

    temperature: float
    utterances: int
    speakers: int
    nll: tuple[float, float]
    dev_error: tuple[float, float]
    test_error: tuple[float, float]
    bands: tuple[Band, ...]

    @property
    def doubtful(self) -> str:
        """Why the temperature is not reliable, empty where it may be."""
        if self.temperature > 0.99 * HIGHEST:
            return "the temperature is at its upper limit: the probabilities hardly predict the validation speakers"
        if self.temperature < 1.01 * LOWEST:
            return "the temperature is at its lower limit: there are too few validation speakers, or they are too easy"
        return ""


def calibrate(line: Line) -> Calibration:
    """Choose the temperature of a system on all its complete seeds; raises `ExportError` where there is none."""
    if not line.seeds:
        raise ExportError(
            f"{line.name} has no complete seed to calibrate with",
            mend="Let the experiment finish: a seed is complete when all its folds are.",
        )
    dev, test = ([getattr(seed, part) for seed in line.seeds] for part in ("dev", "test"))
    (logits, truth), (test_logits, test_truth) = _joined(dev), _joined(test)
    t = best_temperature(logits, truth)
    dev_error = tuple(calibration_error(softmax(one, axis=1), truth) for one in (logits, logits / t))
    scaled = _scaled_without_their_speakers(dev, test)
    return Calibration(
        temperature=t,
        utterances=len({name for one in dev for name in one.ids}),
        speakers=len({speaker for one in dev for speaker in one.speakers}),
        nll=(negative_log_likelihood(logits, truth), negative_log_likelihood(logits / t, truth)),
        dev_error=(dev_error[0], dev_error[1]),
        test_error=(
            calibration_error(softmax(test_logits, axis=1), test_truth),
            float("nan") if scaled is None else calibration_error(softmax(scaled, axis=1), test_truth),
        ),
        bands=bands_of(softmax(test_logits if scaled is None else scaled, axis=1), test_truth),
    )


def _scaled_without_their_speakers(dev: Sequence[Predictions], test: Sequence[Predictions]) -> Floats | None:
    """Scale the test logits of each fold by the temperature of the validation speakers that the fold does not test."""
    (logits, truth), (scaled, _) = _joined(dev), _joined(test)
    validating = np.array([speaker for one in dev for speaker in one.speakers])
    tested = np.array([speaker for one in test for speaker in one.speakers])
    folds = np.array([f"{fold} {way}" for one in test for fold, way in zip(one.folds, one.directions, strict=True)])
    for fold in np.unique(folds):
        others = ~np.isin(validating, tested[folds == fold])
        if not others.any():
            return None
        scaled[folds == fold] /= best_temperature(logits[others], truth[others])
    return scaled


def best_temperature(logits: Floats, truth: Labels) -> float:
    """Return the T from `LOWEST` to `HIGHEST` that maximises the likelihood of `truth` (n,), logits (n, C)."""
    found = minimize_scalar(
        lambda log: negative_log_likelihood(logits / np.exp(log), truth),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(found.x))


def negative_log_likelihood(logits: Floats, truth: Labels) -> float:
    """Return the mean of -log p(truth) in nats; `logits` (n, C), `truth` (n,)."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())


def calibration_error(probabilities: Floats, truth: Labels, bins: int = BINS) -> float:
    """Return the expected calibration error: |accuracy - confidence| of each bin, weighted by its utterances.

    The confidence is the largest of the `probabilities` (n, C); bins are equally wide and closed above.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(place, correct - confidence, bins)).sum() / len(truth))


def bands_of(probabilities: Floats, truth: Labels) -> tuple[Band, ...]:
    """Return utterances and accuracy by confidence: probabilities (n, C), true labels (n,)."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    found = []
    for low, high in pairwise(BANDS):
        here = (confidence > low) & (confidence <= high)
        found.append(Band(low, high, int(here.sum()), float(correct[here].mean()) if here.any() else float("nan")))
    return tuple(found)


def _joined(parts: Sequence[Predictions]) -> tuple[Floats, Labels]:
    """Join seeds: logits (n, C) up to a constant an utterance, true labels (n,)."""
    probabilities = np.concatenate([one.probabilities for one in parts])
    return np.log(np.maximum(probabilities, 1e-12)), np.concatenate([one.truth for one in parts])
