"""One cell of an experiment: a system on a fold with a seed, in a folder of its own.

    CELL/result.json      figures, proof (digests, versions, seeds, counts), timings last
    CELL/predictions.csv  id, speaker, part, emotion, predicted, p_<label>…
    CELL/embeddings.npz   e (B, E) of the same utterances
    CELL/history.jsonl    a line an epoch
    CELL/model.safetensors  what recognises emotions, and nothing else

The folder's name ends with a hash of all that decides its numbers; state is files.
"""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import unheard
from unheard.errors import TrainingError
from unheard.features import FeatureSettings, FeatureStore, Normaliser
from unheard.files import write_json, write_text, write_whole
from unheard.manifest import Utterance
from unheard.splits import Fold
from unheard.training.batches import Task
from unheard.training.device import choose_device
from unheard.training.metrics import macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.model import Model
from unheard.training.network import NetworkSettings
from unheard.training.recipe import Recipe
from unheard.training.seeds import derive
from unheard.training.strategies import STRATEGIES, Setting, build
from unheard.training.strategies.cgt import CGT
from unheard.training.trainer import Reading, Readout, Trainer

FORMAT = 1
"""Part of every cell's hash; raised when the same settings give other numbers than before."""


@dataclass(frozen=True)
class Cell:
    """Everything that decides a cell's numbers, and where it lives.

    `rows` are the utterances of the fold (train, dev, test); `folder` is the cell's own.
    """

    system: str
    options: Mapping[str, Any]
    fold: Fold
    seed: int
    rows: Mapping[str, Utterance]
    labels: tuple[str, ...]
    group: str
    network: NetworkSettings
    recipe: Recipe
    normalise: str
    store: Path
    out: Path
    split: str
    data: str
    device: str = "auto"
    tensorboard: bool = False

    @property
    def name(self) -> str:
        """`<system>-fold<k>-seed<s>-<hash>`."""
        return f"{self.system}-fold{self.fold.index}-seed{self.seed}-{self.digest}"

    @property
    def folder(self) -> Path:
        """Where the cell lives."""
        return self.out / "cells" / self.name

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over the resolved settings.

        The number of epochs is not among them, so that a longer run continues a shorter one; unless the strategy
        follows a schedule, or warms up, over the whole training.
        """
        recipe = asdict(self.recipe)
        recipe.pop("readouts")
        if self.options.get("schedule", "constant") == "constant" and not self.options.get("warmup"):
            recipe.pop("epochs")
        deciding = {
            "format": FORMAT,
            "options": dict(self.options),
            "fold": asdict(self.fold),
            "labels": self.labels,
            "group": self.group,
            "network": asdict(self.network),
            "recipe": recipe,
            "normalise": self.normalise,
            "data": self.data,
        }
        text = json.dumps(deciding, sort_keys=True)
        return blake2b(text.encode(), digest_size=4).hexdigest()

    def result(self) -> dict[str, Any] | None:
        """The result for exactly this cell's number of epochs, or None while there is none that is whole."""
        folder = self.readout_folder()
        read = _result_in(folder)
        return read if _epochs_of(read) == self.recipe.epochs and _has_all(folder) else None

    def readout_folder(self, epochs: int | None = None) -> Path:
        """Where the result for `epochs` (default: the recipe's own) is, once it exists.

        The longest training's result is in the cell's folder itself, earlier readouts in `readouts/<epochs>`.
        """
        epochs = self.recipe.epochs if epochs is None else epochs
        if _epochs_of(_result_in(self.folder)) == epochs:
            return self.folder
        return _readout(self.folder, epochs)


def _readout(folder: Path, epochs: int) -> Path:
    return folder / "readouts" / f"{epochs:05d}"


def _result_in(folder: Path) -> dict[str, Any]:
    """The content of a `result.json`; nothing where it is missing or damaged."""
    try:
        read = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _epochs_of(result: Mapping[str, Any]) -> int:
    epochs = result.get("epochs")
    return epochs if isinstance(epochs, int) else -1


def _has_all(folder: Path) -> bool:
    """Whether what was written before a `result.json` is still beside it."""
    return all((folder / name).is_file() for name in ("predictions.csv", "embeddings.npz", "model.safetensors"))


@dataclass(frozen=True)
class NormalisedFrames:
    """The store's features as the network sees them."""

    store: FeatureStore
    normaliser: Normaliser
    rows: Mapping[str, Utterance]

    def length(self, utterance: str) -> int:
        """Frames of one utterance."""
        return self.store.entries[utterance].frames

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        """Normalised frames (T, F)."""
        return self.normaliser.apply(self.store[utterance], self.rows[utterance].speaker)


def run_cell(cell: Cell, on_epoch: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
    """Train, or finish training, one cell; returns the content of its `result.json`.

    Raises what training raises; what is already on disk stays.
    """
    done = cell.result()
    if done is not None:
        return done
    began = time.perf_counter()
    trainer, normaliser, features = _prepare(cell, on_epoch)
    resumed = trainer.resume()
    if trainer.epoch > cell.recipe.epochs:
        raise TrainingError(
            f"this cell has been trained to {trainer.epoch} epochs and was not read out at {cell.recipe.epochs}",
            where=cell.folder,
            mend="Name a fresh --out, or list the epochs you want in training.readouts before training further.",
        )
    previous = _epochs_of(_result_in(cell.folder))
    if 0 < previous < cell.recipe.epochs:
        _set_apart(cell.folder, previous)
    result: dict[str, Any] = {}
    for epochs in cell.recipe.budgets:
        if epochs < trainer.epoch:
            continue
        readouts = trainer.run(epochs)
        target = cell.folder if epochs == cell.recipe.epochs else _readout(cell.folder, epochs)
        seconds = time.perf_counter() - began
        _write_predictions(cell, readouts, target)
        _write_models(cell, trainer, normaliser, features, readouts, target)
        result = _result(cell, trainer, readouts, features.digest) | {"resumed": resumed, "seconds": round(seconds, 3)}
        write_json(target / "result.json", result)  # last: it is what makes the others count
    return result


def _prepare(
    cell: Cell, on_epoch: Callable[[Mapping[str, Any]], None] | None
) -> tuple[Trainer, Normaliser, FeatureSettings]:
    """The trainer of a cell, its normaliser, and the settings of its features."""
    device = choose_device(cell.device)
    store = FeatureStore.open(cell.store)
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    seen = cell.rows if cell.normalise == "speaker" else cell.fold.train
    normaliser = Normaliser(cell.normalise).fit(store, seen, speakers)
    groups = sorted({cell.rows[name].get(cell.group) for name in cell.fold.train})
    y = {name: cell.labels.index(row.emotion) for name, row in cell.rows.items()}
    s = {name: groups.index(cell.rows[name].get(cell.group)) for name in cell.fold.train}
    task = Task(NormalisedFrames(store, normaliser, cell.rows), y, s)
    seed = derive("weights", cell.fold.index, cell.seed)
    setting = Setting(store.dim, len(cell.labels), len(groups), cell.network, seed)
    strategy = build(cell.system, setting, cell.options)
    if isinstance(strategy, CGT) and cell.normalise in ("none", "sliding"):
        spread = Normaliser("train").fit(store, cell.fold.train).std
        if spread is not None:
            strategy.input_std.copy_(torch.from_numpy(spread[0]))
    readings = [Reading(r.name, r.dev, r.test) for r in cell.fold.readings]
    trainer = Trainer(
        strategy,
        task,
        cell.fold.train,
        readings,
        cell.recipe,
        cell.folder,
        key=("batches", cell.fold.index, cell.seed),
        device=device,
        on_epoch=on_epoch,
    )
    return trainer, normaliser, store.settings


def _set_apart(folder: Path, epochs: int) -> None:
    """Keep a shorter training's result before a longer one takes its place."""
    apart = _readout(folder, epochs)
    for path in [*folder.glob("predictions.csv"), *folder.glob("embeddings.npz"), *folder.glob("model*.safetensors")]:
        write_whole(apart / path.name, partial(shutil.copyfile, path))
    # last and in one step: the result counts here until it counts there, and is whole in both places
    (folder / "result.json").replace(apart / "result.json")


def _write_predictions(cell: Cell, readouts: Sequence[Readout], folder: Path) -> None:
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


def _write_models(
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


def full_name(row: Utterance) -> str:
    """`<corpus>/<speaker>`, which several corpora read together have in the column `speaker` already."""
    return row.speaker if row.speaker.startswith(f"{row.corpus}/") else f"{row.corpus}/{row.speaker}"


def _save_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _result(cell: Cell, trainer: Trainer, readouts: Sequence[Readout], features: str) -> dict[str, Any]:
    """Figures first, then their proof, then timings. Figures of two readings are pooled over their utterances."""
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
    readings = {
        r.reading: {
            "best_epoch": r.best_epoch,
            "val_wa": r.dev.wa,
            "val_uar": r.dev.uar,
            "test_wa": r.test.wa,
            "test_uar": r.test.uar,
            "n_val": len(r.dev.ids),
            "n_test": len(r.test.ids),
            "under_trained": r.under_trained,
        }
        for r in readouts
    }
    train = [cell.rows[name] for name in cell.fold.train]
    frames = sum(record["frames"] for record in trainer.history)
    train_seconds = sum(record["train_seconds"] for record in trainer.history)
    return {
        "system": cell.system,
        "name": STRATEGIES[cell.system][0],
        "fold": cell.fold.index,
        "seed": cell.seed,
        "epochs": trainer.epoch,
        **figures,
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
        "proof": {
            "cell": cell.name,
            "split": cell.split,
            "data": cell.data,
            "features": features,
            "train_utterances": len(train),
            "train_speakers": sorted({row.speaker for row in train}),
            "train_emotions": {label: sum(row.emotion == label for row in train) for label in cell.labels},
            "versions": versions(),
            "device": str(trainer.device),
        },
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
        "platform": f"{platform.system()} {platform.machine()}",
    }
