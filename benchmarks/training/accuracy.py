"""Whether speed costs accuracy: three loops on the same folds, utterances, features and first weights of a real corpus.

The plain loop, the bucketed one, our layers in the plain loop (with its very batches) and `unheard`'s own loop train
SER_only from the same weights; before that they take the gradients of one batch, and where ours are farther from the
exact ones than rounding goes, the command refuses to go on. Their accuracy is that on the fold's two unseen speakers
together, the mean over the last epochs: nothing is chosen, so nothing is lucky. Each loop on a fold with a seed is a
process of one thread; what it came to is a line of the results file, and is not computed again.

    python -m benchmarks.training.accuracy --root data/emodb --results accuracy.csv
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training import bucketed, plain
from benchmarks.training.shapes import fold_data
from unheard.experiments.cell import make_trainers
from unheard.experiments.config import Experiment
from unheard.experiments.plan import Cell, make_plan
from unheard.features import FeatureStore
from unheard.model.settings import NetworkSettings
from unheard.parallel import Died, map_unordered
from unheard.training.recipe import TrainingSettings
from unheard.training.strategies import Strategy
from unheard.training.trainer import Trainer

LOOPS = ("ours", "bucketed", "plain", "layers")
LAST = 10
"""Epochs whose accuracy is averaged."""

ROUNDING = 1e-3
"""Gradients on a batch may be so far from the exact ones; PyTorch's own single-precision ones are farther."""

Inputs = tuple[Tensor, Tensor, Tensor]
"""A padded batch: features (B, T, F), lengths (B,), emotions (B,)."""

SAME = {
    "conv1": "embed.tdnn.0.affine",
    "norm1.layers.1": "embed.tdnn.0.norm",
    "conv2": "embed.tdnn.1.affine",
    "norm2.layers.1": "embed.tdnn.1.norm",
    "bilstm.forward_lstm": "embed.rnn.ahead",
    "bilstm.reverse_lstm": "embed.rnn.back",
    "frame.layers.0": "embed.rnn_norm",
    "frame.layers.2": "embed.dense.affine",
    "frame.layers.4": "embed.dense.norm",
    "head.0": "emotion.hidden.0.affine",
    "head.2": "emotion.hidden.0.norm",
    "head.4": "emotion.hidden.1.affine",
    "head.6": "emotion.hidden.1.norm",
    "head.8": "emotion.output",
}
"""Each layer of the baselines and the one of `unheard`'s network that it equals."""

Training = tuple[int, int]
"""Fold and seed."""


def counterpart(name: str) -> str:
    """The name in `unheard`'s network of a baseline's number `name`."""
    if name.startswith("bilstm.lstm."):
        direction = "reverse_lstm" if name.endswith("_reverse") else "forward_lstm"
        name = f"bilstm.{direction}.{name.removeprefix('bilstm.lstm.').removesuffix('_reverse')}"
    layer, number = name.rsplit(".", 1)
    return f"{SAME[layer]}.{number}"


def start_alike(network: nn.Module, trainer: Trainer, x: Tensor, lengths: Tensor) -> None:
    """Give `network` the weights of `trainer`'s; raises ValueError where their answers to a batch differ then."""
    weights = trainer.strategy.state_dict()
    network.load_state_dict({name: weights[counterpart(name)] for name in network.state_dict()})
    with torch.no_grad():
        apart = network.eval()(x, lengths) - trainer.strategy.eval().logits(x, lengths)[0]
    if float(apart.abs().max()) > 1e-4:
        raise ValueError(f"the networks differ by {float(apart.abs().max()):.2g}")


def step_alike(network: nn.Module, trainer: Trainer, batch: Inputs) -> tuple[float, float]:
    """How far the gradients of `network` and of `trainer`'s are from the exact ones of a batch, both in training.

    The exact ones are those of `network` in double precision; of each parameter the largest error counts, as a share of
    its largest gradient, and of all parameters the worst. Raises ValueError where ours are off by more than
    `ROUNDING` and by more than the baseline's own: then the two do not compute the same step.
    """
    x, lengths, emotions = batch
    exact = copy.deepcopy(network).double().train()
    ours = dict(trainer.strategy.train().named_parameters())
    functional.cross_entropy(exact(x.double(), lengths), emotions).backward()  # type: ignore[no-untyped-call]
    for logits in (network.train()(x, lengths), trainer.strategy.logits(x, lengths)[0]):
        functional.cross_entropy(logits, emotions).backward()  # type: ignore[no-untyped-call]
    theirs = dict(network.named_parameters())
    worst = [0.0, 0.0]
    for name, parameter in exact.named_parameters():
        assert parameter.grad is not None
        for place, found in enumerate((theirs[name].grad, ours[counterpart(name)].grad)):
            assert found is not None
            share = (found - parameter.grad).abs().max() / parameter.grad.abs().max()
            worst[place] = max(worst[place], float(share))
    if worst[1] > max(ROUNDING, worst[0]):
        raise ValueError(
            f"on the same batch our gradients are {worst[1]:.2g} off, {worst[0]:.2g} those of the baseline"
        )
    return worst[0], worst[1]


class Layers(nn.Module):
    """`unheard`'s network as the plain loop trains it: forward((B, T, F), (B,)) -> logits (B, C)."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__()
        self.strategy = strategy

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.strategy.logits(x, lengths)[0]


def train(loop: str, cell: Cell) -> float:
    """Accuracy of `loop` on the unseen speakers of `cell`, the mean over the last epochs."""
    torch.set_num_threads(1)
    cell.folder.mkdir(parents=True, exist_ok=True)
    (trainer,), _, _ = make_trainers(cell)
    one, other = cell.fold.directions  # each validates on one of the two unseen speakers
    count = {"dev": len(one.dev), "test": len(other.dev)}
    if loop == "ours":
        trainer.run(cell.settings.training.epochs)
        records = [{"dev": r[f"val_wa_{one.name}"], "test": r[f"val_wa_{other.name}"]} for r in trainer.history]
    else:
        parts = {"train": cell.fold.train, "dev": one.dev, "test": other.dev}
        rows = [{"id": i, "emotion": cell.rows[i].emotion, "part": part} for part, ids in parts.items() for i in ids]
        data = fold_data(FeatureStore(cell.store), rows)
        bilstm = plain.PackedBiLSTM if loop == "plain" else bucketed.GatheredBiLSTM
        network: nn.Module = plain.Network(bilstm, cell.settings.network.dropout)
        assert data.test is not None
        twin = plain.Network(bilstm, cell.settings.network.dropout)
        for one_of_two in (network, twin):
            start_alike(one_of_two, trainer, *plain.collate(data.test, list(range(min(8, len(data.test)))))[:2])
        if cell.settings.network.dropout == 0:  # else their masks differ
            order = next(plain.random_batches(data.train, torch.Generator().manual_seed(0)))
            print(
                "gradients off by: {:.1e} the baseline's, {:.1e} ours".format(
                    *step_alike(twin, trainer, plain.collate(data.train, order))
                ),
                flush=True,
            )
        batches = bucketed.bucketed_batches if loop == "bucketed" else plain.random_batches
        if loop == "layers":
            network = Layers(trainer.strategy)
        _, records = plain.fit(
            network, batches, data, cell.settings.training.epochs, cell.seed, cell.settings.training.lr
        )
    right: float = mean(sum(record[part] * n for part, n in count.items()) for record in records[-LAST:])
    return right / sum(count.values())


def train_all(work: Sequence[tuple[str, Cell]], workers: int) -> Iterator[tuple[str, Training, float]]:
    """Yield loop, training and accuracy for every loop and cell of `work`, as they finish."""
    for place, wa in map_unordered(_train, work, workers=workers):
        if isinstance(wa, Died):
            raise RuntimeError(wa.reason)
        loop, cell = work[place]
        yield loop, (cell.fold.index, cell.seed), wa


def _train(work: tuple[str, Cell]) -> float:
    return train(*work)


def read(results: Path, how: str) -> dict[str, dict[Training, float]]:
    """What earlier calls of the same settings `how` found."""
    scores: dict[str, dict[Training, float]] = defaultdict(dict)
    if results.exists():
        with results.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["how"] == how:
                    scores[row["loop"]][int(row["fold"]), int(row["seed"])] = float(row["wa"])
    return scores


def report(scores: dict[str, dict[Training, float]]) -> None:
    """Print the mean accuracy of each loop and the paired differences."""
    for name in LOOPS:
        if scores[name]:
            found = scores[name].values()
            print(f"{name:<10} mean WA on unseen speakers {100 * mean(found):.2f} %, of {len(found)} trainings")
    for name in LOOPS[1:]:
        both = sorted(scores["ours"].keys() & scores[name].keys())
        differences = [100 * (scores["ours"][key] - scores[name][key]) for key in both]
        if len(differences) > 1:
            error = stdev(differences) / len(differences) ** 0.5
            print(f"ours - {name}: {mean(differences):+.2f} points, standard error {error:.2f}, {len(both)} pairs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not in the results file yet, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="", help="EmoDB")
    parser.add_argument("--manifest", default="", help="pairs of speakers instead of EmoDB")
    parser.add_argument("--results", type=Path, required=True, help="a CSV file, gone on with where it exists")
    parser.add_argument("--loops", default=",".join(LOOPS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=5e-3, help="five times the paper's, to learn in few epochs")
    parser.add_argument("--dropout", type=float, default=0.0, help="of all three: at 0 they see the same but the order")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)

    began = time.perf_counter()
    how = f"{options.epochs} epochs, the last {LAST} of them, learning rate {options.lr}, dropout {options.dropout}"
    scores = read(options.results, how)
    if not options.results.exists():
        options.results.write_text("loop,fold,seed,wa,how\n")
    with tempfile.TemporaryDirectory() as scratch:
        settings = Experiment(
            corpus="" if options.manifest else "emodb",
            root=options.root,
            manifest=options.manifest,
            out=scratch,
            systems=("ser",),
            protocol="paired",
            test="both",
            folds=options.folds,
            seeds=options.seeds,
            training=TrainingSettings(epochs=options.epochs, lr=options.lr),
            network=NetworkSettings(dropout=options.dropout),
            device="cpu",
            progress=False,
        )
        cells = list(make_plan(settings, lambda line: print(line, flush=True)).cells)
        loops = options.loops.split(",")
        work = [(loop, c) for loop in loops for c in cells if (c.fold.index, c.seed) not in scores[loop]]
        for loop, (fold, seed), wa in train_all(work, options.workers):
            scores[loop][fold, seed] = wa
            with options.results.open("a") as file:
                file.write(f'{loop},{fold},{seed},{wa:.6f},"{how}"\n')
            seconds = time.perf_counter() - began
            print(f"{seconds:6.0f} s  {loop:<10} fold {fold} seed {seed}: WA {100 * wa:.2f} %", flush=True)
    print(f"\n{how}")
    report(scores)


if __name__ == "__main__":
    main()
