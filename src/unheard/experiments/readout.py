"""What a trained cell leaves: predictions, embeddings, models, and the result with its proof."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import unheard
from unheard.experiments.cells import FORMAT, Cell
from unheard.experiments.choice import SEEN
from unheard.features import FeatureSettings, Normaliser
from unheard.files import write_text, write_whole
from unheard.manifest import Utterance
from unheard.training.metrics import macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.model import Model
from unheard.training.strategies import STRATEGIES
from unheard.training.trainer import Readout, Trainer


def write_predictions(cell: Cell, readouts: Sequence[Readout], folder: Path) -> None:
    """`predictions.csv` and `embeddings.npz`: dev and test of every reading, in the same order."""
    parts = [(part, scores) for r in readouts for part, scores in (("dev", r.dev), ("test", r.test))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "speaker", "part", "emotion", "predicted", *(f"p_{label}" for label in cell.labels)])
    for part, scores in parts:
        for name, predicted, probabilities in zip(scores.ids, scores.predicted, scores.probabilities, strict=True):
            row = cell.rows[name]
            words = [name, row.speaker, part, row.emotion, cell.labels[predicted]]
            writer.writerow([*words, *(f"{p:.6g}" for p in probabilities)])
    write_text(folder / "predictions.csv", text.getvalue())
    arrays = {
        "e": np.concatenate([scores.embeddings for _, scores in parts]),
        "id": np.array([name for _, scores in parts for name in scores.ids]),
        "part": np.array([part for part, scores in parts for _ in scores.ids]),
    }
    write_whole(folder / "embeddings.npz", lambda path: _save_npz(path, arrays))


def write_models(
    cell: Cell,
    trainer: Trainer,
    normaliser: Normaliser,
    features: FeatureSettings,
    readouts: Sequence[Readout],
    folder: Path,
) -> None:
    """`model.safetensors` of the first reading, `model-<reading>.safetensors` of a second."""
    for place, readout in enumerate(readouts):
        weights = trainer.best[readout.reading].weights
        model = Model.of(trainer.strategy, weights, cell.network, cell.labels, normaliser, features)
        heard = {full_name(cell.rows[utterance]) for utterance in cell.fold.train}
        about = {
            "cell": cell.name,
            "reading": readout.reading,
            "epoch": str(readout.best_epoch),
            "train_speakers": json.dumps(sorted(heard)),
        }
        name = "model.safetensors" if place == 0 else f"model-{readout.reading}.safetensors"
        write_whole(folder / name, partial(model.save, about=about))


NAMESAKES = "neither table names a corpus, so these may be other people: a column `corpus` would tell them apart"


def full_name(row: Utterance) -> str:
    """`<corpus>/<speaker>`, which several corpora read together have in the column `speaker` already.

    Where a table names no corpus nobody knows whether an equal name is the same person: see `NAMESAKES`.
    """
    return row.speaker if row.speaker.startswith(f"{row.corpus}/") else f"{row.corpus}/{row.speaker}"


def _save_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def figures_of(cell: Cell, readouts: Sequence[Readout]) -> dict[str, Any]:
    """WA, UAR and macro-F1 of both parts; those of two readings are pooled over their utterances."""
    figures: dict[str, Any] = {}
    for part in ("dev", "test"):
        chosen = [getattr(r, part) for r in readouts]
        truth = np.concatenate([s.truth for s in chosen])
        predicted = np.concatenate([s.predicted for s in chosen])
        prefix = "val" if part == "dev" else "test"
        figures[f"{prefix}_wa"] = weighted_accuracy(truth, predicted)
        figures[f"{prefix}_uar"] = unweighted_average_recall(truth, predicted, len(cell.labels))
        figures[f"{prefix}_macro_f1"] = macro_f1(truth, predicted, len(cell.labels))
        figures[f"n_{prefix}"] = len(truth)
    return figures


def readings_of(readouts: Sequence[Readout]) -> dict[str, dict[str, Any]]:
    """The figures of each reading, by its name."""
    return {
        r.reading: {
            "val_wa": r.dev.wa,
            "val_uar": r.dev.uar,
            "test_wa": r.test.wa,
            "test_uar": r.test.uar,
            "n_val": len(r.dev.ids),
            "n_test": len(r.test.ids),
        }
        for r in readouts
    }


def proof_of(cell: Cell, device: str) -> dict[str, Any]:
    """What a cell's numbers stand on: digests, training data, versions."""
    train = [cell.rows[name] for name in cell.fold.train]
    return {
        "cell": cell.name,
        "format": FORMAT,
        "split": cell.split,
        "data": cell.data,
        "features": cell.features,
        **({"epsilon": SEEN} if cell.system == "cgt" else {}),
        "train_utterances": len(train),
        "train_speakers": sorted({row.speaker for row in train}),
        "train_emotions": {label: sum(row.emotion == label for row in train) for label in cell.labels},
        "versions": versions(),
        "device": device,
    }


def result_of(cell: Cell, trainer: Trainer, readouts: Sequence[Readout]) -> dict[str, Any]:
    """What a training came to: figures first, then their proof, then timings."""
    readings = {
        r.reading: {"best_epoch": r.best_epoch, **figures, "under_trained": r.under_trained}
        for r, figures in zip(readouts, readings_of(readouts).values(), strict=True)
    }
    frames = sum(record["frames"] for record in trainer.history)
    train_seconds = sum(record["train_seconds"] for record in trainer.history)
    return {
        "system": cell.system,
        "name": STRATEGIES[cell.system][0],
        "fold": cell.fold.index,
        "seed": cell.seed,
        "epochs": trainer.epoch,
        **figures_of(cell, readouts),
        "best_epoch": max(r.best_epoch for r in readouts),
        "under_trained": any(r.under_trained for r in readouts),
        "readings": readings,
        "updates": sum(record["steps"] for record in trainer.history),
        "settings": {
            "labels": list(cell.labels),
            "group": cell.group,
            "options": dict(cell.options),
            "network": asdict(cell.network),
            "recipe": asdict(cell.recipe),
            "normalise": cell.normalise,
            "transductive": cell.normalise == "speaker",
        },
        "proof": proof_of(cell, str(trainer.device)),
        "frames": frames,
        "train_seconds": round(train_seconds, 3),
        "frames_per_second": round(frames / train_seconds, 1) if train_seconds else 0.0,
    }


def versions() -> dict[str, str]:
    """The versions a number may depend on."""
    return {
        "unheard": unheard.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": _numba(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _numba() -> str:
    """The version of numba, which computes the LSTM's recurrence where it is installed, or ""."""
    try:
        return version("numba")
    except PackageNotFoundError:
        return ""
