"""Accuracy of a recipe on unseen speakers, from the test predictions of a run, for the model card.

The figures describe the recipe, not one model file: a run has a training for every fold and seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ExportError, did_you_mean
from unheard.experiments.records import RunRecords, read_run
from unheard.experiments.summary import Line, Predictions, SeedRecord
from unheard.export.calibration import Calibration, calibrate
from unheard.model.saving import Model
from unheard.report.protocol import corpus_name, describe
from unheard.training.metrics import recalls, unweighted_average_recall, weighted_accuracy


@dataclass(frozen=True)
class Figures:
    """WA and UAR of a group of test speakers, one value a seed; `corpus` and `gender` are empty for all of them."""

    corpus: str
    gender: str
    speakers: int
    utterances: int
    wa: tuple[float, ...]
    uar: tuple[float, ...]


@dataclass(frozen=True)
class Own:
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

    `lowest` and `highest` are WA of single speakers, mean over seeds. `own` is set where the exported model is one of
    the run's trainings.
    """

    system: str
    corpora: str
    protocol: str
    folds: int
    seeds: int
    groups: tuple[Figures, ...]
    recall: Mapping[str, float]
    lowest: float
    highest: float
    calibration: Calibration
    own: Own | None = None


def read_evidence(model: Model, folder: str | Path, system: str = "") -> Evidence:
    """Read the run in `folder` for `evidence_of`; raises `RunError` where there is none."""
    return evidence_of(model, read_run(folder), system)


def evidence_of(model: Model, run: RunRecords, system: str = "") -> Evidence:
    """Collect the results of `system` (default: the model's own) in `run`.

    Raises `ExportError` where the run has another recipe than the model, or no complete seed of that system.
    """
    settings = run.settings
    pairs = {
        "labels": (model.labels, run.labels),
        "features": (model.features, settings.features),
        "network": (model.settings, settings.network.resolved(settings.features)),
        "normalisation": (model.normaliser.kind, settings.normalise),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ExportError(
                f"this run has other {what} than the model",
                where=run.folder,
                mend="Name the run whose recipe the model was trained with.",
            )
    line = _line(model, run, system)
    calibration = calibrate(line)  # refuses a line without a complete seed
    tests = [seed.test for seed in line.seeds]
    speakers = np.array(tests[0].speakers)
    by_speaker = [statistics.fmean(_wa(test, speakers == one) for test in tests) for one in np.unique(speakers)]
    by_label = np.stack([recalls(test.truth, test.predicted, len(run.labels)) for test in tests]).mean(axis=0)
    return Evidence(
        system=line.name,
        corpora=corpus_name(run),
        protocol=describe(run),
        folds=len(run.folds),
        seeds=len(line.seeds),
        groups=tuple(_groups(run, tests)),
        recall=dict(zip(run.labels, by_label.tolist(), strict=True)),
        lowest=min(by_speaker),
        highest=max(by_speaker),
        calibration=calibration,
        own=_own(model, line.seeds),
    )


def _line(model: Model, run: RunRecords, system: str) -> Line:
    """Return the results of `system`, of the system that the model is a training of, or of the only one."""
    own = model.about.get("cell", "")
    for line in run.lines:
        if any(cell.name == own for seed in line.seeds for cell in seed.cells):
            if system not in ("", line.system):
                raise ExportError(
                    f"this model is a training of the run's '{line.system}', not of '{system}'",
                    where=run.folder,
                    mend="Leave --system out: it is for a model that is not a training of the run.",
                )
            return line
    name = system or own.partition("-fold")[0]
    known = {line.system: line for line in reversed(run.lines)}  # the first of each
    if not name and len(known) == 1:
        return run.lines[0]
    if name not in known:
        what = f"this run has no system '{name}'" if name else "this run has several systems"
        raise ExportError(what, where=run.folder, mend=f"Name one with --system. {did_you_mean(name, known)}")
    return known[name]


def _own(model: Model, seeds: tuple[SeedRecord, ...]) -> Own | None:
    name, way = model.about.get("cell", ""), model.about.get("direction", "")
    for seed, cell in ((one, cell) for one in seeds for cell in one.cells):
        here = (seed.test.folds == cell.fold) & (np.array(seed.test.directions) == way)
        if name and cell.name == name and here.any():
            speakers = len(set(np.array(seed.test.speakers)[here]))
            return Own(cell.fold, seed.seed, speakers, int(here.sum()), _wa(seed.test, here), _uar(seed.test, here))
    return None


def _groups(run: RunRecords, tests: list[Predictions]) -> list[Figures]:
    """Return all test speakers, then each corpus, each gender, and each gender of a corpus, where there are several."""
    corpus, gender = (
        np.array([run.utterances[name].get(column, "") for name in tests[0].ids]) for column in ("corpus", "gender")
    )
    corpora = sorted(set(corpus)) if len(set(corpus)) > 1 else []
    genders = sorted(set(gender) - {""})
    found = []
    for one, other in [("", ""), *product(corpora, [""]), *product([""], genders), *product(corpora, genders)]:
        here = ((corpus == one) | (one == "")) & ((gender == other) | (other == ""))
        if here.any():
            speakers = len(set(np.array(tests[0].speakers)[here]))
            wa, uar = (tuple(figure(test, here) for test in tests) for figure in (_wa, _uar))
            found.append(Figures(one, other, speakers, int(here.sum()), wa, uar))
    return found


def _wa(test: Predictions, here: NDArray[np.bool_]) -> float:
    return weighted_accuracy(test.truth[here], test.predicted[here])


def _uar(test: Predictions, here: NDArray[np.bool_]) -> float:
    return unweighted_average_recall(test.truth[here], test.predicted[here], test.probabilities.shape[1])
