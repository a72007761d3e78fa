"""Whether speed costs accuracy: three loops on the same folds, utterances, features and seeds of a real corpus.

The plain loop, the bucketed one and `unheard experiment`'s train SER_only; each chooses its epoch on the validation
speakers and scores the test speakers there. All run as processes of one thread, as many as there are cores.

    python -m benchmarks.training.accuracy --root EMODB --epochs 15
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import mean, stdev

from benchmarks.training import bucketed, plain
from benchmarks.training.shapes import fold_data
from unheard.experiments.cells import Cell
from unheard.experiments.grid import lay_out
from unheard.experiments.launch import run_cells, worker_environment
from unheard.experiments.settings import Experiment, NetworkChoice, TrainingSettings
from unheard.features import FeatureStore

LOOPS = {"plain": plain.train_epochs, "bucketed": bucketed.train_epochs}
NAMES = (*LOOPS, "ours")
Training = tuple[int, int]
"""Fold and seed."""


def baseline(loop: str, cell: Cell) -> float:
    """Test accuracy of a baseline on the fold and seed of `cell`, at the epoch chosen on its validation speakers."""
    (reading,) = cell.fold.readings
    parts = {"train": cell.fold.train, "dev": reading.dev, "test": reading.test}
    rows = [
        {"id": name, "emotion": cell.rows[name].emotion, "part": part} for part, ids in parts.items() for name in ids
    ]
    data = fold_data(FeatureStore.open(cell.store), rows)
    _, history = LOOPS[loop](data, cell.recipe.epochs, cell.seed, 1, cell.recipe.lr, cell.network.dropout)
    return plain.best_epoch(history)["test"]


def baselines(cells: list[Cell], workers: int) -> Iterator[tuple[str, Training, float]]:
    """Every baseline on every fold and seed: loop, training, test accuracy."""
    with worker_environment(), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [(loop, cell, pool.submit(baseline, loop, cell)) for cell in cells for loop in LOOPS]
        for loop, cell, future in waiting:
            yield loop, (cell.fold.index, cell.seed), future.result()


def ours(cells: list[Cell], workers: int) -> Iterator[tuple[str, Training, float]]:
    """The same from `unheard`'s own cells; raises RuntimeError where one fails."""
    for event in run_cells(cells, workers, "cpu"):
        if event.kind == "failed":
            raise RuntimeError(f"{event.cell.name}: {event.record['reason']}")
        if event.kind == "done":
            yield "ours", (event.cell.fold.index, event.cell.seed), float(event.record["test_wa"])


def main() -> None:
    """Train, and print the mean test accuracy of each and the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="emodb")
    parser.add_argument("--root", required=True)
    parser.add_argument("--protocol", default="paired")
    parser.add_argument("--test", default="male", choices=("male", "female"))
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=1e-2, help="ten times the paper's, to learn in few epochs")
    parser.add_argument("--dropout", type=float, default=0.0, help="of all three; the paper's 0.5 learns slowly")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    began = time.perf_counter()
    scores: dict[str, dict[Training, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as scratch:
        settings = Experiment(
            corpus=options.corpus,
            root=options.root,
            out=scratch,
            systems=("ser",),
            protocol=options.protocol,
            test=options.test,
            folds=options.folds,
            seeds=options.seeds,
            epochs=options.epochs,
            training=TrainingSettings(lr=options.lr),
            network=NetworkChoice(dropout=options.dropout),
            progress=False,
        )
        cells = list(lay_out(settings, lambda line: print(line, flush=True)).cells)
        for results in (ours(cells, options.workers), baselines(cells, options.workers)):
            for name, (fold, seed), wa in results:
                scores[name][fold, seed] = wa
                seconds = time.perf_counter() - began
                print(f"{seconds:6.0f} s  {name:<10} fold {fold} seed {seed}: test WA {100 * wa:.2f} %", flush=True)

    print(f"\n{len(cells)} trainings each ({options.folds} folds x {options.seeds} seeds), {options.epochs} epochs")
    for name in NAMES:
        print(f"{name:<10} mean test WA {100 * mean(scores[name].values()):.2f} %")
    for name in LOOPS:
        differences = [100 * (scores["ours"][key] - scores[name][key]) for key in scores["ours"]]
        spread = f", standard error {stdev(differences) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
        print(f"ours - {name}: {mean(differences):+.2f} points{spread}")


if __name__ == "__main__":
    main()
