"""Training one cell: from its settings to its files, or from where a killed one stopped."""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import unheard
from unheard.errors import TrainingError
from unheard.experiments.baselines import EPOCHS, Decide, Doubles, Fitted
from unheard.experiments.config import identity
from unheard.experiments.records import epochs_of, place_of, read_predictions, readout_of, result_in
from unheard.experiments.selection import SEEN
from unheard.features import FeatureSettings, FeatureStore, Normaliser
from unheard.features.normalise import Moments, guarded
from unheard.features.settings import columns_of
from unheard.files import write_json, write_text, write_whole
from unheard.manifest import Utterance
from unheard.model.network import NetworkSettings
from unheard.model.saving import Model
from unheard.splits import Fold
from unheard.training.augment import Companions, augment
from unheard.training.batches import Change, Task
from unheard.training.evaluation import Scores, choose_device
from unheard.training.metrics import macro_f1, unweighted_average_recall, weighted_accuracy
from unheard.training.recipe import TrainingSettings, follows_a_schedule
from unheard.training.strategies import STRATEGIES, Setting, build, derive
from unheard.training.strategies.cgt import CGT
from unheard.training.trainer import Direction, Evaluation, Trainer

# One cell of an experiment: a system on a fold with a seed, in a folder of its own.
#
# CELL/result.json      figures, proof (digests, versions, seeds, counts), timings last
# CELL/predictions.csv  id, speaker, part, emotion, predicted, p_<label>…
# CELL/embeddings.npz   e (B, E) of the same utterances
# CELL/history.jsonl    a line an epoch
# CELL/model.safetensors  what recognises emotions, and nothing else
#
# The folder's name ends with a hash of all that decides its numbers; state is files.

FORMAT = 3
"""Part of every cell's hash; raised when the same settings give other numbers than before."""


@dataclass(frozen=True)
class Cell:
    """Everything that decides a cell's numbers, and where it lives.

    `rows` are the utterances of the fold (train, dev, test); `folder` is the cell's own. `features` is the digest of
    the experiment's feature settings, which `data` covers. A classical system says in `fitted` what it is; `store`
    is its own then.
    """

    system: str
    options: Mapping[str, Any]
    fold: Fold
    seed: int
    rows: Mapping[str, Utterance]
    labels: tuple[str, ...]
    group: str
    network: NetworkSettings
    recipe: TrainingSettings
    normalise: str
    store: Path
    out: Path
    split: str
    data: str
    device: str = "auto"
    tensorboard: bool = False
    features: str = ""
    fitted: Fitted | None = None

    def check(self, store: FeatureStore) -> None:
        """Raises `TrainingError` where a store, shared with another experiment perhaps, is of other recordings now."""
        absent = next((name for name in self.rows if name not in store), None)
        now = absent is None and data_digest(self.fold, self.rows, store.audio_digest, self.features, self.group)
        if now != self.data:
            raise TrainingError(
                "the features in this store are not those that the experiment was laid out with"
                + (f": '{absent}' has none" if absent else ""),
                where=store.folder,
                mend="Another experiment has rebuilt it. Run this one again, with a --store of its own.",
            )

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
        """Eight hexadecimal digits over the resolved settings and the data.

        The number of epochs is not among them, so that a longer run continues a shorter one; unless the learning rate
        or the strategy follows a schedule over the whole training.
        """
        follows = follows_a_schedule(self.options, self.recipe.schedule)
        training = replace(self.recipe, epochs=self.recipe.epochs if follows else 1, report_epochs=())
        own = self.fitted.digest if self.fitted else [asdict(self.network), asdict(training), dict(self.options)]
        return identity(FORMAT, own, self.fold, self.labels, self.group, self.normalise, self.data)

    def result(self) -> dict[str, Any] | None:
        """The result for exactly this cell's number of epochs, or None while there is none that is whole."""
        folder = self.readout_folder()
        read = result_in(folder)
        whole = epochs_of(read) == self.recipe.epochs and self._has_all(folder)
        return read if whole else None

    def readout_folder(self, epochs: int | None = None) -> Path:
        """Where the result for `epochs` (default: the recipe's own) is, once it exists.

        The longest training's result is in the cell's folder itself, earlier readouts in `readouts/<epochs>`.
        """
        return place_of(self.folder, self.recipe.epochs if epochs is None else epochs)

    def _has_all(self, folder: Path) -> bool:
        """Whether what was written before a `result.json` is still beside it, and says something of everybody held out.

        Without a checkpoint it is a published cell: its result and predictions are all there is, and they count.
        """
        names = []
        if (self.folder / "checkpoint.pt").exists():  # from which the rest could be made again
            names += ["embeddings.npz", "model.safetensors"]
        try:
            said = read_predictions(folder / "predictions.csv", self.labels)
        except (OSError, ValueError, KeyError):
            return False
        return said.keys() == set(self.fold.held) and all((folder / name).is_file() for name in names)


def data_digest(fold: Fold, rows: Mapping[str, Utterance], audio: Mapping[str, str], features: str, group: str) -> str:
    """A hash of what a fold is made of: labels, speakers, groups, audio, and how features were made of it."""
    digest = blake2b(features.encode(), digest_size=8)
    for name in fold.ids:
        row = rows[name]
        words = [name, row.emotion, row.speaker, audio[name]]
        if group != "speaker":
            words.append(row.get(group))
        digest.update("\t".join(words).encode() + b"\n")
    return digest.hexdigest()


# What a trained cell leaves: predictions, embeddings, models, and the result with its proof.


def write_predictions(cell: Cell, readouts: Sequence[Evaluation], folder: Path) -> None:
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
    normaliser: Normaliser,
    features: FeatureSettings,
    readouts: Sequence[Evaluation],
    folder: Path,
) -> None:
    """`model.safetensors` of the first reading, `model-<reading>.safetensors` of a second."""
    for place, readout in enumerate(readouts):
        model = Model.of(readout.weights, cell.network, cell.labels, normaliser, features)
        heard = {full_name(cell.rows[utterance]) for utterance in cell.fold.train}
        about = {
            "cell": cell.name,
            "reading": readout.direction,
            "epoch": str(readout.best_epoch),
            "train_speakers": json.dumps(sorted(heard)),
        }
        name = "model.safetensors" if place == 0 else f"model-{readout.direction}.safetensors"
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


def figures_of(cell: Cell, readouts: Sequence[Evaluation]) -> dict[str, Any]:
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


def readings_of(readouts: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """The figures of each reading, by its name."""
    return {
        r.direction: {
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


def result_of(cell: Cell, trainer: Trainer, readouts: Sequence[Evaluation]) -> dict[str, Any]:
    """What a training came to: figures first, then their proof, then timings."""
    readings = {
        r.direction: {"best_epoch": r.best_epoch, **figures, "under_trained": r.under_trained}
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


# Fitting one cell of a classical system: from its settings to its files.

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
        readouts.append(Evaluation(reading.name, EPOCHS, EPOCHS, tried[best], test))
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
    store = FeatureStore(cell.store)
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
    """Train, or finish training, or fit one cell; returns the content of its `result.json`.

    Raises what training raises; what is already on disk stays.
    """
    done = cell.result()
    if done is not None:
        return done
    if cell.fitted is not None:
        return fit_cell(cell, cell.fitted)
    began = time.perf_counter()
    trainer, normaliser, features = prepare(cell, on_epoch)
    resumed = trainer.resume()
    if trainer.epoch > cell.recipe.epochs:
        raise TrainingError(
            f"this cell has been trained to {trainer.epoch} epochs and was not read out at {cell.recipe.epochs}",
            where=cell.folder,
            mend="Name a fresh --out, or list the epochs you want in training.report_epochs before training further.",
        )
    previous = epochs_of(result_in(cell.folder))
    if 0 < previous < cell.recipe.epochs:
        _set_apart(cell.folder, previous)
    result: dict[str, Any] = {}
    for epochs in cell.recipe.budgets:
        if epochs < trainer.epoch:
            continue
        evaluations = trainer.run(epochs)
        target = cell.folder if epochs == cell.recipe.epochs else readout_of(cell.folder, epochs)
        seconds = time.perf_counter() - began
        own = [e for e in evaluations if e.mode == evaluations[0].mode]
        again = evaluations[len(own) :]  # the same weights with batch norm re-estimated
        # a folder's result.json is written last: it is what makes the others count
        for folder, readouts in ((target / "reestimated", again), (target, own)):
            if readouts:
                write_predictions(cell, readouts, folder)
                write_models(cell, normaliser, features, readouts, folder)
                result = result_of(cell, trainer, readouts) | {"resumed": resumed, "seconds": round(seconds, 3)}
                write_json(folder / "result.json", result)
    return result


def prepare(
    cell: Cell, on_epoch: Callable[[Mapping[str, Any]], None] | None = None
) -> tuple[Trainer, Normaliser, FeatureSettings]:
    """The trainer of a cell, its normaliser, and the settings of its features."""
    device = choose_device(cell.device)
    store = FeatureStore(cell.store)
    cell.check(store)
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    seen = cell.rows if cell.normalise == "speaker" else cell.fold.train
    normaliser = Normaliser(cell.normalise).fit(store, seen, speakers)
    groups = sorted({cell.rows[name].get(cell.group) for name in cell.fold.train})
    y = {name: cell.labels.index(row.emotion) for name, row in cell.rows.items()}
    s = {name: groups.index(cell.rows[name].get(cell.group)) for name in cell.fold.train}
    frames = NormalisedFrames(store, normaliser, cell.rows)
    task = Task(frames, y, s, change_of(cell, frames, store.settings))
    seed = derive("weights", cell.fold.index, cell.seed)
    even = cell.recipe.class_weights == "balanced"
    weights = balanced([y[name] for name in cell.fold.train], len(cell.labels)) if even else ()
    setting = Setting(
        store.dim,
        len(cell.labels),
        len(groups),
        cell.network,
        seed,
        cell.recipe.label_smoothing,
        weights,
    )
    strategy = build(cell.system, setting, cell.options)
    if isinstance(strategy, CGT) and cell.normalise in ("none", "sliding"):
        strategy.input_std.copy_(torch.from_numpy(_deviation(frames, cell.fold.train)))
    readings = [Direction(r.name, r.dev, r.test) for r in cell.fold.readings]
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


def _deviation(frames: NormalisedFrames, ids: Sequence[str]) -> NDArray[np.float32]:
    """The standard deviation (F,) of the frames that the network sees of `ids`."""
    moments = Moments(frames.store.dim)
    for name in ids:
        moments.add(frames[name])
    return guarded(np.sqrt(moments.variance)).astype(np.float32)


def balanced(emotions: Sequence[int], count: int) -> tuple[float, ...]:
    """The weight of each of `count` emotions that makes all matter alike: N / (C N_c), 0 of one that is not there."""
    found = np.bincount(emotions, minlength=count)
    return tuple(len(emotions) / (count * n) if n else 0.0 for n in found.tolist())


def change_of(cell: Cell, frames: NormalisedFrames, features: FeatureSettings) -> Change | None:
    """What the recipe does to an utterance each time it is trained on: a voice taken away, a speaker invented."""
    how, share = cell.recipe.augment, cell.recipe.enrol
    columns = columns_of(features)
    how.check(columns)
    if not (how.on or share):
        return None
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    companions = Companions(frames, cell.fold.train, speakers) if share else None

    def change(name: str, x: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        if companions is not None and random.random() < share:
            x = x - companions.draw(name, random)
        return augment(x, columns, how, random)

    return change


def _set_apart(folder: Path, epochs: int) -> None:
    """Keep a shorter training's result before a longer one takes its place."""
    apart = readout_of(folder, epochs)
    for path in [*folder.glob("predictions.csv"), *folder.glob("embeddings.npz"), *folder.glob("model*.safetensors")]:
        write_whole(apart / path.name, partial(shutil.copyfile, path))
    # last and in one step: the result counts here until it counts there, and is whole in both places
    (folder / "result.json").replace(apart / "result.json")
