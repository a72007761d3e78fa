"""How many trainings an experiment is, and how long they take here: said before the first begins.

A short calibration trains each system that is still missing on one batch of the corpus's usual length, one thread, as a
worker would. It draws from no random stream that a training uses.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unheard.errors import UnheardError
from unheard.experiments.cells import Cell
from unheard.experiments.folder import read_history
from unheard.experiments.launch import usual_workers
from unheard.experiments.settings import Experiment
from unheard.experiments.work import NormalisedFrames, change_of
from unheard.features import FeatureStore, Normaliser
from unheard.training.batches import Task, draw_batches
from unheard.training.device import choose_device
from unheard.training.seeds import derive
from unheard.training.strategies import Setting, build
from unheard.training.trainer import Reading, Trainer

TINY = 2_000_000
"""Frames, all epochs together, that are over before a calibration would be worth its seconds."""


@dataclass(frozen=True)
class Speed:
    """Seconds a frame on one thread, in training and in validation."""

    train: float
    validate: float


@dataclass(frozen=True)
class Estimate:
    """`trainings`, of which `done` are there, and in words what may come on top of them (`more`).

    `seconds` is how long everything that is missing takes with `workers`; None where it was not measured.
    """

    trainings: int
    done: int
    more: tuple[str, ...]
    seconds: float | None
    workers: int

    def __str__(self) -> str:
        said = ", ".join([f"{self.trainings} trainings ({self.done} done before)", *self.more])
        if self.seconds is None:
            return said
        return f"{said}: about {duration(self.seconds)} with {self.workers} worker{'s' * (self.workers > 1)}"


def estimate(
    cells: Sequence[Cell],
    settings: Experiment,
    *,
    more: Mapping[str, Sequence[Cell]] | None = None,
    always: bool = False,
) -> Estimate:
    """The estimate for `cells`, and for `more`: words, {} for how many -> cells that take as long as what comes on top.

    Measured unless it is tiny (then only where `always` is asked for), or done by other machines.
    """
    more = {words: others for words, others in (more or {}).items() if others}
    missing = [cell for cell in cells if cell.result() is None]
    said = (len(cells), len(cells) - len(missing), tuple(words.format(len(others)) for words, others in more.items()))
    missing = [cell for cell in missing if cell.fitted is None]  # a fit is over in seconds
    todo = [*missing, *(cell for others in more.values() for cell in others if cell.fitted is None)]
    workers = max(1, min(settings.workers or usual_workers(settings.device), len(todo)))
    if not todo or settings.engine != "local":
        return Estimate(*said, None, workers)
    epochs = [max(1, cell.recipe.epochs - _gone(cell)) for cell in missing]
    epochs += [cell.recipe.epochs for cell in todo[len(missing) :]]
    frames = [(e * train, e * held) for e, (train, held) in zip(epochs, _frames(todo), strict=True)]
    if not always and sum(map(sum, frames)) < TINY:
        return Estimate(*said, None, workers)
    try:
        speeds = calibrate(todo)
    except (UnheardError, RuntimeError):  # settings that cannot train say so, cell by cell, when they are trained
        return Estimate(*said, None, workers)
    each = [
        train * speeds[cell.system].train + held * speeds[cell.system].validate
        for cell, (train, held) in zip(todo, frames, strict=True)
    ]
    return Estimate(*said, max(sum(each) / workers, *each), workers)


def _gone(cell: Cell) -> int:
    """How many of a cell's epochs are trained, here or in the run whose weights it takes."""
    return len(read_history(cell.folder)) or (cell.recipe.epochs if cell.trained_elsewhere() else 0)


def calibrate(cells: Sequence[Cell]) -> dict[str, Speed]:
    """The speed of each system among `cells`, from one batch of training and one of validation each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker
    try:
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="unheard-") as folder:
            first = {cell.system: cell for cell in reversed(cells)}
            return {system: _speed(cell, Path(folder)) for system, cell in first.items()}
    finally:
        torch.set_num_threads(threads)


def _speed(cell: Cell, folder: Path) -> Speed:
    store = FeatureStore.open(cell.store)
    train = _usual_batch(store, cell.fold.train, cell.recipe.batch_size)
    dev = _usual_batch(store, cell.fold.readings[0].dev, 64)
    trainer = _trainer(cell, store, train, dev, folder)
    trainer.train_ids = train[:4]
    trainer._one_epoch()  # the first steps of all compile, and fetch memory
    trainer.train_ids = train
    trainer._one_epoch()
    record = trainer.history[-1]
    validated = sum(store.entries[name].frames for name in dev)
    return Speed(record["train_seconds"] / record["frames"], (record["seconds"] - record["train_seconds"]) / validated)


def _usual_batch(store: FeatureStore, ids: Sequence[str], size: int) -> tuple[str, ...]:
    """The batch of an epoch whose mean length is nearest to the mean of all."""
    lengths = [store.entries[name].frames for name in ids]
    mean = sum(lengths) / len(lengths)
    batches = draw_batches(len(ids), size, derive("estimate"))
    chosen = min(batches, key=lambda batch: abs(sum(lengths[i] for i in batch) / len(batch) - mean))
    return tuple(ids[i] for i in chosen)


def _trainer(cell: Cell, store: FeatureStore, train: Sequence[str], dev: Sequence[str], folder: Path) -> Trainer:
    """A trainer of the cell's system on a batch; what it learns is thrown away, and it writes nothing."""
    speakers = {name: row.speaker for name, row in cell.rows.items()}
    normaliser = Normaliser("train").fit(store, train, speakers)
    groups = sorted({cell.rows[name].get(cell.group) for name in cell.fold.train})
    y = {name: cell.labels.index(cell.rows[name].emotion) for name in (*train, *dev)}
    s = {name: groups.index(cell.rows[name].get(cell.group)) for name in train}
    frames = NormalisedFrames(store, normaliser, cell.rows)
    alone = replace(cell, recipe=replace(cell.recipe, enrol=0.0))  # it would describe every utterance first
    task = Task(frames, y, s, change_of(alone, frames, store.settings))
    setting = Setting(
        store.dim, len(cell.labels), len(groups), cell.network, derive("estimate"), cell.recipe.label_smoothing
    )
    return Trainer(
        build(cell.system, setting, cell.options),
        task,
        train,
        [Reading("test", tuple(dev), tuple(dev))],  # nobody is tested here
        replace(cell.recipe, epochs=2),
        folder,
        key=("estimate",),
        device=choose_device(cell.device),
    )


def _frames(cells: Sequence[Cell]) -> list[tuple[int, int]]:
    """Frames of each cell that an epoch trains on, and that it validates on."""
    entries = FeatureStore.open(cells[0].store).entries
    of_fold: dict[int, tuple[int, int]] = {}
    for cell in cells:
        if cell.fold.index not in of_fold:
            held = [name for reading in cell.fold.readings for name in reading.dev]
            train, dev = (sum(entries[name].frames for name in ids) for ids in (cell.fold.train, held))
            of_fold[cell.fold.index] = train, dev
    return [of_fold[cell.fold.index] for cell in cells]


def duration(seconds: float) -> str:
    """About how long: `40 s`, `25 min`, `2 h 10 min`, `3 days 4 h`.

    >>> [duration(s) for s in (7, 95, 7800, 300_000)]
    ['10 s', '2 min', '2 h 10 min', '3 days 11 h']
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(10, 10 * math.ceil(seconds / 10))} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return _two(*divmod(10 * round(minutes / 10), 60), "h", "min")
    return _two(*divmod(round(minutes / 60), 24), "days", "h")


def _two(large: int, small: int, unit: str, small_unit: str) -> str:
    return f"{large} {unit}" + (f" {small} {small_unit}" if small else "")
