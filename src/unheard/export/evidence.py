"""What was measured of a recipe on speakers it had not heard, from a run's folder: for the card.

The figures are those of the run's own test predictions: each is of a training that neither heard the speaker nor chose
anything by it. They are of the recipe, not of one file: a run has a training for every fold and seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ExportError, did_you_mean
from unheard.experiments.records import Line, Predictions, RunRecords, SeedRecord
from unheard.export.calibration import Calibration, calibrate
from unheard.model.saving import Model
from unheard.report.protocol import corpus_name, describe
from unheard.training.metrics import recalls, unweighted_average_recall, weighted_accuracy


@dataclass(frozen=True)
class Figures:
    """WA and UAR of a group of test speakers, each a value a seed; `corpus` and `gender` are empty for all."""

    corpus: str
    gender: str
    speakers: int
    utterances: int
    wa: tuple[float, ...]
    uar: tuple[float, ...]


@dataclass(frozen=True)
class Own:
    """What the exported model itself, the training of one fold and seed, came to on its test speakers."""

    fold: int
    seed: int
    speakers: int
    utterances: int
    wa: float
    uar: float


@dataclass(frozen=True)
class Evidence:
    """A system of a run: `groups` begins with all test speakers; `recall` is by label, the mean over seeds.

    `lowest` and `highest` are a speaker's WA, mean over seeds. `own` is of the exported model where that is one
    of the run's trainings.
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


def evidence_of(model: Model, run: RunRecords, system: str = "") -> Evidence:
    """The figures of `system` (default: the model's own) in `run`.

    Raises `ExportError` where the run is of another recipe than the model, or has no complete seed of that system.
    """
    _same_recipe(model, run)
    line = _line(model, run, system)
    seeds = line.seeds
    speakers = sorted(set(seeds[0].test.speakers)) if seeds else []
    calibration = calibrate(line)  # refuses a line without a complete seed
    each = [
        statistics.fmean(_wa(seed.test, np.array(seed.test.speakers) == speaker) for seed in seeds)
        for speaker in speakers
    ]
    by_label = np.stack([recalls(seed.test.truth, seed.test.predicted, len(run.labels)) for seed in seeds])
    return Evidence(
        system=line.name,
        corpora=corpus_name(run),
        protocol=describe(run),
        folds=len(run.folds),
        seeds=len(seeds),
        groups=tuple(_groups(run, seeds)),
        recall=dict(zip(run.labels, map(float, by_label.mean(axis=0)), strict=True)),
        lowest=min(each),
        highest=max(each),
        calibration=calibration,
        own=_own(model, seeds),
    )


def _same_recipe(model: Model, run: RunRecords) -> None:
    """Figures of another recipe say nothing of this model."""
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


def _line(model: Model, run: RunRecords, system: str) -> Line:
    own = model.about.get("cell", "")
    of_cell = [line for line in run.lines for seed in line.seeds for cell in seed.cells if cell.name == own]
    name = system or own.partition("-fold")[0]
    known = {line.system: line for line in reversed(run.lines)}  # the first of each
    if of_cell:
        if system not in ("", of_cell[0].system):
            raise ExportError(
                f"this model is a training of the run's '{of_cell[0].system}', not of '{system}'",
                where=run.folder,
                mend="Leave --system out: it is for models that are no training of the run.",
            )
        return of_cell[0]
    if not name and len(known) == 1:
        return run.lines[0]
    if name not in known:
        what = f"this run has no system '{name}'" if name else "this run has several systems"
        raise ExportError(what, where=run.folder, mend=f"Name one with --system. {did_you_mean(name, known)}")
    return known[name]


def _own(model: Model, seeds: tuple[SeedRecord, ...]) -> Own | None:
    name, reading = model.about.get("cell", ""), model.about.get("reading", "")
    for seed in seeds:
        for cell in seed.cells:
            here = (seed.test.folds == cell.fold) & (np.array(seed.test.readings) == reading)
            if name and cell.name == name and here.any():
                speakers = len(set(np.array(seed.test.speakers)[here]))
                return Own(cell.fold, seed.seed, speakers, int(here.sum()), _wa(seed.test, here), _uar(seed.test, here))
    return None


def _groups(run: RunRecords, seeds: tuple[SeedRecord, ...]) -> list[Figures]:
    """All test speakers, then each corpus, each gender, and each gender of a corpus, where there are several."""

    def column(name: str) -> NDArray[np.str_]:
        return np.array([run.utterances[utterance].get(name, "") for utterance in seeds[0].test.ids])

    corpus, gender = column("corpus"), column("gender")
    corpora = sorted(set(corpus)) if len(set(corpus)) > 1 else []
    genders = sorted(set(gender) - {""})
    wanted = [("", ""), *product(corpora, [""]), *product([""], genders), *product(corpora, genders)]
    found = []
    for one, other in wanted:
        here = ((corpus == one) | (one == "")) & ((gender == other) | (other == ""))
        if here.any():
            found.append(
                Figures(
                    corpus=one,
                    gender=other,
                    speakers=len(set(np.array(seeds[0].test.speakers)[here])),
                    utterances=int(here.sum()),
                    wa=_each(seeds, here, _wa),
                    uar=_each(seeds, here, _uar),
                )
            )
    return found


def _each(
    seeds: tuple[SeedRecord, ...], here: NDArray[np.bool_], figure: Callable[[Predictions, NDArray[np.bool_]], float]
) -> tuple[float, ...]:
    return tuple(figure(seed.test, here) for seed in seeds)


def _wa(said: Predictions, here: NDArray[np.bool_]) -> float:
    return weighted_accuracy(said.truth[here], said.predicted[here])


def _uar(said: Predictions, here: NDArray[np.bool_]) -> float:
    return unweighted_average_recall(said.truth[here], said.predicted[here], said.probabilities.shape[1])


def read_evidence(model: Model, folder: str | Path, system: str = "") -> Evidence:
    """`evidence_of` the run in `folder`; raises `RunError` where it holds none."""
    from unheard.experiments.records import read_run

    return evidence_of(model, read_run(folder), system)
