"""Training one cell: from its settings to its files, or from where a killed one stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unheard.errors import TrainingError
from unheard.experiments.cells import Cell
from unheard.experiments.fit import fit_cell
from unheard.experiments.folder import epochs_of, readout_of, result_in
from unheard.experiments.readout import result_of, write_models, write_predictions
from unheard.features import FeatureSettings, FeatureStore, Normaliser
from unheard.features.columns import columns_of
from unheard.features.normalise import Moments, guarded
from unheard.files import write_json, write_whole
from unheard.manifest import Utterance
from unheard.training.augment import invent
from unheard.training.batches import Change, Task
from unheard.training.device import choose_device
from unheard.training.enrol import Companions
from unheard.training.seeds import derive
from unheard.training.strategies import Setting, build
from unheard.training.strategies.cgt import CGT
from unheard.training.trainer import Reading, Trainer


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
    elsewhere = None if resumed else cell.trained_elsewhere()
    if elsewhere is not None:
        trainer.take_over(elsewhere)
    if trainer.epoch > cell.recipe.epochs:
        raise TrainingError(
            f"this cell has been trained to {trainer.epoch} epochs and was not read out at {cell.recipe.epochs}",
            where=cell.folder,
            mend="Name a fresh --out, or list the epochs you want in training.readouts before training further.",
        )
    previous = epochs_of(result_in(cell.folder))
    if 0 < previous < cell.recipe.epochs:
        _set_apart(cell.folder, previous)
    result: dict[str, Any] = {}
    for epochs in cell.recipe.budgets:
        if epochs < trainer.epoch:
            continue
        readouts = trainer.run(epochs)
        target = cell.folder if epochs == cell.recipe.epochs else readout_of(cell.folder, epochs)
        seconds = time.perf_counter() - began
        write_predictions(cell, readouts, target)
        write_models(cell, trainer, normaliser, features, readouts, target)
        result = result_of(cell, trainer, readouts) | {
            **({"weights_from": elsewhere.name} if elsewhere else {}),
            "resumed": resumed,
            "seconds": round(seconds, 3),
        }
        write_json(target / "result.json", result)  # last: it is what makes the others count
    return result


def prepare(
    cell: Cell, on_epoch: Callable[[Mapping[str, Any]], None] | None = None
) -> tuple[Trainer, Normaliser, FeatureSettings]:
    """The trainer of a cell, its normaliser, and the settings of its features."""
    device = choose_device(cell.device)
    store = FeatureStore.open(cell.store)
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
        return invent(x, columns, how, random)

    return change


def _set_apart(folder: Path, epochs: int) -> None:
    """Keep a shorter training's result before a longer one takes its place."""
    apart = readout_of(folder, epochs)
    for path in [*folder.glob("predictions.csv"), *folder.glob("embeddings.npz"), *folder.glob("model*.safetensors")]:
        write_whole(apart / path.name, partial(shutil.copyfile, path))
    # last and in one step: the result counts here until it counts there, and is whole in both places
    (folder / "result.json").replace(apart / "result.json")
