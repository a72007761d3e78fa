"""Temperature scaling: probabilities that mean what they say on speakers a model has not heard.

One number T divides the logits (Guo, Pleiss, Sun, Weinberger 2017: On Calibration of Modern Neural Networks, ICML);
the likeliest emotion stays the same. It is chosen on validation speakers only, each scored by trainings that had not
heard them; test speakers say what it brought. In cross-validation every speaker validates some fold, so that what it
brought is said with temperatures chosen without the speakers it is said of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ExportError
from unheard.experiments.records import Line, Predictions

COOLEST, WARMEST = 0.2, 20.0
"""Between these the temperature is searched: a few right answers are no ground for certainty."""

BINS = 15
"""Of confidence, equally wide, as in Guo et al."""

_LEAST = 1e-12  # a probability written as 0

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """A temperature, what it was chosen on, and what it brought, before and after.

    `nll` is the mean negative log-likelihood in nats on the `utterances` of validation `speakers`; `dev_error` and
    `test_error` are expected calibration errors on validation and test speakers, the latter with temperatures chosen
    by the others; NaN afterwards where there are no others.
    """

    temperature: float
    utterances: int
    speakers: int
    nll: tuple[float, float]
    dev_error: tuple[float, float]
    test_error: tuple[float, float]

    @property
    def doubtful(self) -> str:
        """Why this temperature is no good one, empty where it may be."""
        if self.temperature > 0.99 * WARMEST:
            return "the search ended at its upper bound: on validation speakers the probabilities say next to nothing"
        if self.temperature < 1.01 * COOLEST:
            return "the search ended at its lower bound: the validation speakers are too few or too easy"
        return ""


def calibrate(line: Line) -> Calibration:
    """The temperature for the system of `line` from all its complete seeds; raises `ExportError` without any."""
    if not line.seeds:
        raise ExportError(
            f"{line.name} has no complete seed to calibrate with",
            mend="Let the experiment finish: a seed counts when all its folds are there.",
        )
    dev, test = ([getattr(seed, part) for seed in line.seeds] for part in ("dev", "test"))
    logits, truth = _joined(dev)
    chosen = best_temperature(logits, truth)
    given, correct = _joined(test)
    return Calibration(
        temperature=chosen,
        utterances=len({name for one in dev for name in one.ids}),
        speakers=len({speaker for one in dev for speaker in one.speakers}),
        nll=(negative_log_likelihood(logits, truth), negative_log_likelihood(logits / chosen, truth)),
        dev_error=(calibration_error(softmax(logits), truth), calibration_error(softmax(logits / chosen), truth)),
        test_error=(calibration_error(softmax(given), correct), _error_of_strangers(dev, test)),
    )


def _error_of_strangers(dev: Sequence[Predictions], test: Sequence[Predictions]) -> float:
    """The calibration error on test speakers, each fold's with the temperature of the validation speakers it lacks."""
    logits, truth = _joined(dev)
    who = np.array([speaker for one in dev for speaker in one.speakers])
    given, correct = _joined(test)
    tested = np.array([speaker for one in test for speaker in one.speakers])
    places = [f"{fold} {reading}" for one in test for fold, reading in zip(one.folds, one.readings, strict=True)]
    scaled = np.empty_like(given)
    for place in set(places):
        own = np.array([other == place for other in places])
        others = ~np.isin(who, tested[own])
        if not others.any():
            return float("nan")
        scaled[own] = given[own] / best_temperature(logits[others], truth[others])
    return calibration_error(softmax(scaled), correct)


def best_temperature(logits: Floats, truth: Labels) -> float:
    """The T that makes `truth` (n,) likeliest under softmax(`logits` / T) (n, C); it lies in COOLEST ... WARMEST."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: negative_log_likelihood(logits / np.exp(log), truth),
        bounds=(np.log(COOLEST), np.log(WARMEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(found.x))


def negative_log_likelihood(logits: Floats, truth: Labels) -> float:
    """Mean of -log p(truth) in nats; `logits` (n, C), `truth` (n,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(truth)), truth]
    return float((np.log(np.exp(shifted).sum(axis=1)) - chosen).mean())


def calibration_error(probabilities: Floats, truth: Labels, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - confidence| of each bin of confidence, weighted by its utterances.

    The confidence is the largest of the `probabilities` (n, C); bins are equally wide, closed above.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, hits - confidence, bins)
    return float(np.abs(gaps).sum() / len(truth))


def softmax(logits: Floats) -> Floats:
    """Probabilities (n, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float64)


def _joined(parts: Sequence[Predictions]) -> tuple[Floats, Labels]:
    """The logits, up to a constant an utterance, and truths of several seeds."""
    probabilities = np.concatenate([one.probabilities for one in parts])
    return np.log(np.maximum(probabilities, _LEAST)), np.concatenate([one.truth for one in parts])
