"""Fitting one cell of a classical system: from its settings to its files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import TrainingError
from unheard.experiments.cells import Cell
from unheard.experiments.fitted import EPOCHS, Decide, Doubles, Fitted
from unheard.experiments.readout import figures_of, proof_of, readings_of, write_predictions
from unheard.features import FeatureStore, Normaliser
from unheard.files import write_json
from unheard.training.evaluation import Scores
from unheard.training.trainer import Readout

Vectors = Mapping[str, NDArray[np.float32]]


def fit_cell(cell: Cell, system: Fitted, vectors: Vectors | None = None) -> dict[str, Any]:
    """Fit one cell; returns the content of its `result.json`.

    `vectors` are the standardised ones (D,) by id; without them they come from the cell's store. The seed plays no
    part: every seed has the same numbers, so that each can be paired with the same seed of a network.
    Raises `TrainingError` where there is nobody to learn from, to choose by or to test.
    """
    began = time.perf_counter()
    x = standardised(cell) if vectors is None else vectors
    y = {name: cell.labels.index(row.emotion) for name, row in cell.rows.items()}
    train = _matrix(x, cell.fold.train)
    truth = np.array([y[name] for name in cell.fold.train], np.int64)
    fits = {value: system.fit(train, truth, len(cell.labels), value) for value in sorted(system.grid)}
    readouts, chosen = [], {}
    for reading in cell.fold.readings:
        if not reading.dev or not reading.test:
            raise TrainingError(
                f"reading '{reading.name}' has nobody to validate on or to test", mend="Check the split."
            )
        tried = {value: _scores(decide, x, y, reading.dev) for value, decide in fits.items()}
        best = max(tried, key=lambda value: (tried[value].wa, -value))
        chosen[reading.name] = best
        test = _scores(fits[best], x, y, reading.test)  # the one place where test utterances are scored
        readouts.append(Readout(reading.name, EPOCHS, EPOCHS, tried[best], test))
    write_predictions(cell, readouts, cell.folder)
    readings = readings_of(readouts)
    for name, value in chosen.items():
        readings[name][system.knob] = value
    values = [f"{system.knob}={value:g}" for value in dict.fromkeys(chosen.values())]
    result = {
        "system": cell.system,
        "name": system.name,
        "fitted": True,
        "fold": cell.fold.index,
        "seed": cell.seed,
        "epochs": EPOCHS,
        **figures_of(cell, readouts),
        "readings": readings,
        "chosen": " ".join(values),
        "settings": {
            "labels": list(cell.labels),
            "group": cell.group,
            "normalise": cell.normalise,
            "transductive": cell.normalise == "speaker",
            "features": system.features.as_dict() if system.features else system.source,
            "grid": list(system.grid),
        },
        "proof": proof_of(cell, "cpu") | {"fitted": system.digest, "numbers": int(train.shape[1])},
        "seconds": round(time.perf_counter() - began, 3),
    }
    write_json(cell.folder / "result.json", result)  # last: it is what makes the others count
    return result


def standardised(cell: Cell) -> dict[str, NDArray[np.float32]]:
    """The vectors (D,) of the cell's store, with mean and deviation taken from the training utterances.

    Or, where the experiment normalises by speaker, from all utterances of each speaker.
    """
    store = FeatureStore.open(cell.store)
    cell.check(store)
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    seen = cell.rows if cell.normalise == "speaker" else cell.fold.train
    normaliser = Normaliser(cell.normalise).fit(store, seen, speakers)
    return {name: normaliser.apply(store[name], speaker)[0] for name, speaker in speakers.items()}


def _matrix(vectors: Vectors, ids: tuple[str, ...]) -> Doubles:
    return np.stack([vectors[name] for name in ids]).astype(np.float64)


def _scores(decide: Decide, vectors: Vectors, y: Mapping[str, int], ids: tuple[str, ...]) -> Scores:
    """Decision values stand where a network has logits: probabilities are their softmax, not calibrated."""
    x = _matrix(vectors, ids)
    truth = np.array([y[name] for name in ids], np.int64)
    return Scores(tuple(ids), truth, decide(x).astype(np.float32), x.astype(np.float32))
