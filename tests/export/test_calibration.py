"""Temperature and calibration error where the answer can be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_runs import line
from scipy.special import softmax

from unheard.errors import ExportError
from unheard.experiments.summary import Line, Predictions, SeedRecord
from unheard.export.evidence import HIGHEST, Calibration, best_temperature, calibrate, calibration_error


def test_calibrated_logits_keep_their_temperature() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 4))
    truth = (softmax(logits, axis=1).cumsum(1) > random.random((20_000, 1))).argmax(1)
    assert best_temperature(logits, truth) == pytest.approx(1.0, abs=0.03)
    assert best_temperature(logits * 2.5, truth) == pytest.approx(2.5, abs=0.08)
    assert calibration_error(softmax(logits, axis=1), truth) < 0.02
    assert calibration_error(softmax(logits * 2.5, axis=1), truth) > 0.1


def test_calibration_error_with_visible_answer() -> None:
    # two utterances at 0.9, one right: 0.4 off; two at 0.6, both right: 0.4 off; one at 1.0, wrong: 1 off
    confidence = np.array([0.9, 0.9, 0.6, 0.6, 1.0])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    truth = np.array([0, 1, 0, 0, 1])
    assert calibration_error(probabilities, truth) == pytest.approx((2 * 0.4 + 2 * 0.4 + 1.0) / 5)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def predicted(probabilities: list[list[float]], truth: list[int], speakers: str, folds: list[int]) -> Predictions:
    p = np.array(probabilities)
    return Predictions(
        ids=tuple(f"{speaker}{place}" for place, speaker in enumerate(speakers)),
        speakers=tuple(speakers),
        folds=np.array(folds),
        directions=("test",) * len(p),
        truth=np.array(truth),
        predicted=p.argmax(1),
        probabilities=p,
    )


def calibrated(dev: Predictions, test: Predictions) -> Calibration:
    return calibrate(Line("ser", "", None, (SeedRecord(0, dev, test, ()),), 1, 1))


def test_only_validation_speakers_choose() -> None:
    sure, fold = [[0.99, 0.01]] * 4, [0] * 4
    dev = predicted(sure, [0, 0, 0, 1], "aabb", fold)
    found = [calibrated(dev, predicted(sure, truth, "cccc", fold)) for truth in ([0] * 4, [1] * 4)]
    assert found[0].temperature == found[1].temperature == pytest.approx(np.log(99) / np.log(3), rel=1e-3)
    assert (found[0].utterances, found[0].speakers, found[0].doubtful) == (4, 2, "")
    assert found[0].dev_error == pytest.approx((0.24, 0.0), abs=1e-3)
    assert found[0].test_error == pytest.approx((0.01, 0.25), abs=1e-3)
    assert found[1].test_error == pytest.approx((0.99, 0.75), abs=1e-3)


@pytest.mark.parametrize(("truth", "bound"), [([0, 0, 0], "lower"), ([1, 1, 1], "upper")])
def test_a_search_that_ends_at_a_bound_is_doubtful(truth: list[int], bound: str) -> None:
    dev = predicted([[0.9, 0.1]] * 3, truth, "abc", [0] * 3)
    assert bound in calibrated(dev, dev).doubtful


def test_degenerate_seeds() -> None:
    certain = predicted([[1.0, 0.0]] * 3, [0, 0, 1], "abc", [0] * 3)
    assert np.isfinite(calibrated(certain, certain).temperature)
    with pytest.raises(ExportError, match="no complete seed"):
        calibrate(line("ser", {}))


def test_the_effect_is_measured_without_the_test_speakers() -> None:
    """Both speakers validate and are tested, in two folds; a is always right and b never: each gets the other's T."""
    dev = predicted([[0.99, 0.01]] * 8, [0] * 4 + [1] * 4, "aaaabbbb", [0] * 8)
    found = calibrated(dev, replace(dev, folds=np.repeat([0, 1], 4)))
    assert found.temperature == pytest.approx(HIGHEST, rel=1e-2)  # half is right: no confidence at all
    assert found.dev_error[1] == pytest.approx(0.057, abs=1e-3)
    # with the T of b, a is right with 0.557; with the T of a, b is wrong with certainty
    assert found.test_error[1] == pytest.approx((0.443 + 1.0) / 2, abs=1e-3)
    assert np.isnan(calibrated(dev, dev).test_error[1])
