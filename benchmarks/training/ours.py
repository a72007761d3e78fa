"""`unheard`'s own training in the benchmarks: processes of one thread that train a cell each, from a mapped store."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.training.plain import BATCH
from benchmarks.training.shapes import EMOTIONS, FEATURES, draw_lengths
from unheard.features import FeatureSettings, FeatureStore, Normaliser, build_store
from unheard.manifest import Manifest, Utterance
from unheard.model.network import NETWORKS
from unheard.parallel import ENVIRONMENT, Died, map_unordered
from unheard.training.batches import Dataset
from unheard.training.recipe import TrainingSettings
from unheard.training.strategies import StrategyConfig, build
from unheard.training.trainer import Trainer

SPEAKERS = 8  # that train in one fold of IEMOCAP


def write_random_store(folder: Path, utterances: int, seed: int = 0) -> None:
    """A feature store of random frames at IEMOCAP's lengths, the longest first."""
    rng = np.random.default_rng(seed)
    lengths = sorted(draw_lengths(utterances, seed).tolist(), reverse=True)
    manifest = Manifest(tuple(Utterance(str(i), "", "speaker", "neutral") for i in range(utterances)))
    with tempfile.TemporaryDirectory() as arrays:
        for row, frames in zip(manifest, lengths, strict=True):
            np.save(Path(arrays, f"{row.id}.npy"), rng.standard_normal((frames, FEATURES), np.float32))
        build_store(manifest, folder, FeatureSettings(kind="npy", folder=arrays), workers=1, progress=False)


class MappedFrames:
    """The frames of a store normalised as an experiment's are, as `Dataset` reads them."""

    def __init__(self, store: FeatureStore) -> None:
        self.store, self.normaliser = store, Normaliser("train").fit(store, store.ids)

    def length(self, utterance: str) -> int:
        return self.store.entries[utterance].frames

    def __getitem__(self, utterance: str) -> NDArray[np.float32]:
        return self.normaliser.apply(self.store[utterance])


def make_trainer(system: str, store: FeatureStore, folder: Path, seed: int = 0) -> Trainer:
    """A trainer of `system` at IEMOCAP's shape; it trains the utterances it is told to later."""
    rng = np.random.default_rng(0)
    emotions, speakers = rng.integers(EMOTIONS, size=len(store)), rng.integers(SPEAKERS, size=len(store))
    y = {name: int(k) for name, k in zip(store.ids, emotions, strict=True)}
    s = {name: int(k) for name, k in zip(store.ids, speakers, strict=True)}
    config = StrategyConfig(FEATURES, EMOTIONS, SPEAKERS, NETWORKS["iemocap"], seed)
    directions = {"test": (store.ids[-4:-2], store.ids[-2:])}
    folder.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(MappedFrames(store), y, s)
    recipe = TrainingSettings(batch_size=BATCH)
    return Trainer(build(system, config), dataset, store.ids, directions, recipe, folder, key=(seed,))


def train_once(trainer: Trainer, ids: Sequence[str]) -> tuple[int, float]:
    """One epoch over `ids` by the trainer's own loop: (valid frames, seconds without scoring)."""
    trainer.train_ids = tuple(ids)
    trainer.run(trainer.epoch + 1)
    record = trainer.history[-1]
    return int(record["frames"]), float(record["train_seconds"])


class Process:
    """A process of one thread that trains what it is sent."""

    def __init__(self, store: Path, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, store, seed), daemon=True)
        os.environ.update(ENVIRONMENT)
        self.process.start()
        theirs.close()  # so that a process that dies ends the wait for it

    def send(self, *what: Any) -> None:
        """Let it train: (system, ids)."""
        self.pipe.send(what)

    def receive(self) -> tuple[int, float]:
        """What the training came to: (valid frames, seconds)."""
        frames, seconds = self.pipe.recv()
        return frames, seconds

    def stop(self) -> None:
        """Let it end."""
        with suppress(OSError):  # it is gone
            self.pipe.send(None)
        self.process.join(timeout=10)


def _serve(pipe: Connection, store: Path, seed: int) -> None:
    torch.set_num_threads(1)
    opened = FeatureStore(store)
    trainers: dict[str, Trainer] = {}
    with tempfile.TemporaryDirectory() as scratch:
        while (order := pipe.recv()) is not None:
            system, ids = order
            if system not in trainers:
                trainers[system] = make_trainer(system, opened, Path(scratch) / system, seed)
            pipe.send(train_once(trainers[system], ids))


@contextmanager
def team(store: Path, size: int) -> Iterator[list[Process]]:
    """So many processes, for as long as it lasts."""
    processes = [Process(store, seed) for seed in range(size)]
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()


def together(processes: Sequence[Process], system: str, ids: Sequence[str]) -> float:
    """All processes train `ids` at the same time: the sum of their valid frames per second."""
    for process in processes:
        process.send(system, list(ids))
    return sum(frames / seconds for frames, seconds in (process.receive() for process in processes))


def _memory_of(store: Path) -> float:
    opened = FeatureStore(store)
    longest, rest = opened.ids[:BATCH], opened.ids[BATCH : 5 * BATCH]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer("ser", opened, Path(scratch))  # reads every page of the store, to normalise
        peak = 0.0
        for ids in (longest, rest or longest, longest):  # the most that a batch can ask for
            train_once(trainer, ids)
            peak = max(peak, _anonymous_mb())
    return peak


def _anonymous_mb() -> float:
    """Memory of this process that is no mapped file, in MB (Linux; elsewhere 0)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def memory(store: Path) -> float:
    """Return the anonymous memory (RssAnon, MB) of a fresh process that trains from `store` and has read all of it."""
    ((_, peak),) = map_unordered(_memory_of, [store], workers=1, isolate=True)
    if isinstance(peak, Died):
        raise RuntimeError(peak.reason)
    return peak
