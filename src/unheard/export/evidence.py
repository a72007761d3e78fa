"""Accuracy and calibration of a recipe on unseen speakers, from the predictions of a run, for the model card.

The figures describe the recipe, not one model file: a run has a training for every fold and seed.

Temperature scaling divides the logits by one number T (Guo, Pleiss, Sun, Weinberger 2017: On Calibration of Modern
Neural Networks, ICML), which leaves the predicted emotion unchanged. T minimises the negative log-likelihood of
validation speakers, or of test speakers where all others train. The gain on test speakers is measured with temperatures
chosen without them, since in cross-validation every speaker validates or tests some fold. A T that suits new speakers
of known corpora may be too low for other microphones, sentences and languages, so `unheard starter` chooses it on
corpora left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from unheard.errors import ExportError, did_you_mean
from unheard.experiments.records import RunRecords
from unheard.experiments.summary import Line, Predictions, SeedRecord
from unheard.model.saving import Model
from unheard.report.protocol import corpus_name, describe
from unheard.training.metrics import Labels, recalls

LOWEST, HIGHEST = 0.2, 20.0  # range of T: a few correct answers do not justify certainty
BINS = 15  # number of confidence bins of equal width, as in Guo et al.
BANDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # bounds of the confidence bands of the card

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class GroupResult:
    """WA and UAR of a group of test speakers, one value a seed; `corpus` and `gender` are empty for all of them."""

    corpus: str
    gender: str
    speakers: int
    utterances: int
    wa: tuple[float, ...]
    uar: tuple[float, ...]


@dataclass(frozen=True)
class ModelResult:
    """The test result of the exported model itself, the training of one fold and seed."""

    fold: int
    seed: int
    speakers: int
    utterances: int
    wa: float
    uar: float


@dataclass(frozen=True)
class Evidence:
    """Results of one system of a run: `groups` begins with all test speakers, `recall` is the mean over seeds by label.

    `lowest` and `highest` are WA of single speakers, mean over seeds. `corpora_left_out` says that each corpus was
    tested by trainings on the others. `own` is set where the exported model is one of the run's trainings.
    """

    system: str
    corpora: str
    protocol: str
    corpora_left_out: bool
    folds: int
    seeds: int
    groups: tuple[GroupResult, ...]
    recall: Mapping[str, float]
    lowest: float
    highest: float
    calibration: Calibration
    own: ModelResult | None = None


def evidence_of(model: Model, run: RunRecords, system: str = "", *, calibration: Calibration | None = None) -> Evidence:
    """Collect the results of `system` (default: the model's own) in `run`; `calibration` defaults to `calibrate`'s.

    Raises `ExportError` where the run has another recipe than the model, or no complete seed of that system.
    """
    settings = run.settings
    pairs = {
        "labels": (model.labels, run.labels),
        "features": (model.features, settings.features),
        "network": (model.settings, settings.network.resolved(settings.features).joined(settings.training.networks)),
        "normalisation": (model.normaliser.kind, settings.normalise),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            mend = "Name the run whose recipe the model was trained with."
            raise ExportError(f"this run has other {what} than the model", where=run.folder, mend=mend)
    line = _line(model, run, system)
    calibration = calibration or calibrate(line)  # refuses a line without a complete seed
    tests = [seed.test for seed in line.seeds]
    speakers = np.array(tests[0].speakers)
    by_speaker = [statistics.fmean(test.where(speakers == one).wa for test in tests) for one in np.unique(speakers)]
    by_label = np.mean([recalls(test.truth, test.predicted, len(run.labels)) for test in tests], axis=0)
    return Evidence(
        system=line.name,
        corpora=corpus_name(run),
        protocol=describe(run),
        corpora_left_out=settings.protocol == "leave-corpus-out",
        folds=len(run.folds),
        seeds=len(line.seeds),
        groups=tuple(_groups(run, tests)),
        recall=dict(zip(run.labels, by_label.tolist(), strict=True)),
        lowest=min(by_speaker),
        highest=max(by_speaker),
        calibration=calibration,
        own=_model_result(model, line.seeds),
    )


def _line(model: Model, run: RunRecords, system: str) -> Line:
    """Return the results of `system`, of the system that the model is a training of, or of the only one."""
    own = model.about.get("cell", "")
    for line in run.lines:
        if any(cell.name == own for cell in line.cells):
            if system not in ("", line.system):
                what = f"this model is a training of the run's '{line.system}', not of '{system}'"
                mend = "Leave --system out: it is for a model that is not a training of the run."
                raise ExportError(what, where=run.folder, mend=mend)
            return line
    name = system or own.partition("-fold")[0]
    known = {line.system: line for line in reversed(run.lines)}  # the first of each
    if not name and len(known) == 1:
        return run.lines[0]
    if name not in known:
        what = f"this run has no system '{name}'" if name else "this run has several systems"
        raise ExportError(what, where=run.folder, mend=f"Name one with --system. {did_you_mean(name, known)}")
    return known[name]


def _model_result(model: Model, seeds: tuple[SeedRecord, ...]) -> ModelResult | None:
    name, direction = model.about.get("cell", ""), model.about.get("direction", "")
    for seed in seeds:
        for fold in [cell.fold for cell in seed.cells if name and cell.name == name]:
            p = seed.test.where((seed.test.folds == fold) & (np.array(seed.test.directions) == direction))
            if p.ids:
                return ModelResult(fold, seed.seed, len(set(p.speakers)), len(p.ids), p.wa, p.uar)
    return None


def _groups(run: RunRecords, tests: list[Predictions]) -> list[GroupResult]:
    """Return all test speakers, then each corpus, each gender, and each gender of a corpus, where there are several."""
    corpus, gender = (
        np.array([run.utterances[name].get(column, "") for name in tests[0].ids]) for column in ("corpus", "gender")
    )
    corpora = sorted(set(corpus)) if len(set(corpus)) > 1 else []
    genders = sorted(set(gender) - {""})
    results = []
    for c, g in [("", ""), *product(corpora, [""]), *product([""], genders), *product(corpora, genders)]:
        group = [test.where(((corpus == c) | (c == "")) & ((gender == g) | (g == ""))) for test in tests]
        if group[0].ids:
            wa, uar = tuple(test.wa for test in group), tuple(test.uar for test in group)
            results.append(GroupResult(c, g, len(set(group[0].speakers)), len(group[0].ids), wa, uar))
    return results


# Calibration


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

    `dev_error` and `test_error` are expected calibration errors; the test error afterwards is NaN where all validation
    speakers are tested too. `bands` are the test utterances by confidence, after dividing by a temperature chosen
    without their speakers, or as they are where there is none. For a temperature that was chosen on another run,
    `utterances` and `speakers` are 0 and `dev_error` is NaN.
    """

    temperature: float
    utterances: int
    speakers: int
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


def calibrate(line: Line, *, on: Literal["dev", "test"] = "dev", temperature: float | None = None) -> Calibration:
    """Choose the temperature of a system on all its complete seeds, or measure a `temperature` chosen elsewhere.

    It is chosen on validation speakers, or with `on="test"` on test speakers, for a model trained on all of them.
    Raises `ExportError` where no seed is complete.
    """
    if not line.seeds:
        mend = "Let the experiment finish: a seed is complete when all its folds are."
        raise ExportError(f"{line.name} has no complete seed to calibrate with", mend=mend)
    dev, test = (Predictions.joined([getattr(seed, part) for seed in line.seeds]) for part in ("dev", "test"))
    dev = dev if dev.ids and on == "dev" else test  # speakers that other folds test
    logits, test_logits = _logits(dev), _logits(test)
    scaled = _cross_calibrated(dev, test) if temperature is None else test_logits / temperature
    t = temperature or best_temperature(logits, dev.truth)

    def error(logits: Doubles, of: Predictions) -> float:
        return calibration_error(softmax(logits, axis=1), of.truth)

    probabilities = softmax(test_logits if scaled is None else scaled, axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == test.truth
    bands = [(low, high, (confidence > low) & (confidence <= high)) for low, high in pairwise(BANDS)]
    return Calibration(
        temperature=t,
        utterances=0 if temperature else len(set(dev.ids)),
        speakers=0 if temperature else len(set(dev.speakers)),
        dev_error=(float("nan"),) * 2 if temperature else (error(logits, dev), error(logits / t, dev)),
        test_error=(error(test_logits, test), float("nan") if scaled is None else error(scaled, test)),
        bands=tuple(
            Band(low, high, int(here.sum()), float(correct[here].mean()) if here.any() else float("nan"))
            for low, high, here in bands
        ),
    )


def _logits(predictions: Predictions) -> Doubles:
    """Return logits (n, C), up to a constant for each utterance."""
    return np.log(np.maximum(predictions.probabilities, 1e-12))


def _cross_calibrated(dev: Predictions, test: Predictions) -> Doubles | None:
    """Divide the test logits of each fold by the temperature of the validation speakers whom it does not test."""
    scaled, tested = _logits(test), np.array(test.speakers)
    folds = np.array([f"{fold} {direction}" for fold, direction in zip(test.folds, test.directions, strict=True)])
    for fold in np.unique(folds):
        others = dev.where(~np.isin(np.array(dev.speakers), tested[folds == fold]))
        if not others.ids:
            return None
        scaled[folds == fold] /= best_temperature(_logits(others), others.truth)
    return scaled


def best_temperature(logits: Doubles, truth: Labels) -> float:
    """Return the T from `LOWEST` to `HIGHEST` that maximises the likelihood of `truth` (n,), logits (n, C)."""
    result = minimize_scalar(
        lambda log: negative_log_likelihood(logits / np.exp(log), truth),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(result.x))


def negative_log_likelihood(logits: Doubles, truth: Labels) -> float:
    """Return the mean of -log p(truth) in nats; `logits` (n, C), `truth` (n,)."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())


def calibration_error(probabilities: Doubles, truth: Labels) -> float:
    """Return the expected calibration error: |accuracy - confidence| of each bin, weighted by its utterances.

    The confidence is the largest of the `probabilities` (n, C); bins are equally wide and closed above.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, correct - confidence, BINS)).sum() / len(truth))
