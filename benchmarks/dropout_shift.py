"""Where training and use part: dropout and batch norm, each as in training or as in use.

    python -m benchmarks.dropout_shift results/emodb-paper --systems ser,dat

Takes the networks of a run as they were after the last epoch (their checkpoints have to be there) and prints their
accuracy on the utterances they were trained on; then on the validation speakers, in use, and in use after the running
statistics have been taken anew on the training utterances without dropout. No speaker is tested.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import nn

from unheard.experiments.cell import make_trainers
from unheard.experiments.config import load
from unheard.experiments.plan import make_plan
from unheard.model.layers import Dropout
from unheard.training.evaluation import reestimated_batchnorm
from unheard.training.trainer import Trainer

MODES = ((True, True), (True, False), (False, True), (False, False))
"""(dropout drops, batch norm uses the batch's own statistics): training is the first, use is the last."""


@torch.no_grad()
def right(trainer: Trainer, ids: Sequence[str], drops: bool, of_the_batch: bool) -> int:
    """How many of `ids` are told, in batches of the training's size."""
    strategy = trainer.strategy.eval()
    for layer in strategy.modules():
        if isinstance(layer, Dropout):
            layer.train(drops)
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 0.0  # looking changes no running statistics
            layer.train(of_the_batch)
    told = 0
    for _, batch in trainer.dataset.in_order(ids, trainer.recipe.batch_size):
        logits, _ = strategy.logits(batch.x, batch.lengths)
        told += int((logits.argmax(1) == batch.y).sum())
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--systems", default="ser")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    overrides = {"out": given.run, "systems": given.systems, "seeds": given.seeds, "progress": False}
    print(
        "                              on training utterances: dropout, statistics                | validation speakers"
    )
    print("                              | on, batch | on, running | off, batch | off, running (use) | in use | anew")
    pooled: dict[str, list[int]] = {}
    for cell in make_plan(load(f"{given.run}/config.yaml", overrides)).cells:
        if not (cell.folder / "checkpoint.pt").exists():
            print(f"{cell.name:30}| no checkpoint")
            continue
        (trainer,), _, _ = make_trainers(cell)
        trainer.resume()
        n = len(trainer.train_ids)
        figures = [right(trainer, trainer.train_ids, *mode) / n for mode in MODES]
        held = [name for dev, _ in trainer.directions.values() for name in dev]
        used = right(trainer, held, False, False)
        inputs = (trainer.strategy, trainer.dataset, trainer.train_ids, trainer.recipe.batch_size)
        with reestimated_batchnorm(*inputs, device=trainer.device, precision=trainer.recipe.precision):
            anew = right(trainer, held, False, False)
        sums = pooled.setdefault(f"{cell.system}, seed {cell.seed}", [0, 0, 0])
        pooled[f"{cell.system}, seed {cell.seed}"] = [a + b for a, b in zip(sums, (used, anew, len(held)), strict=True)]
        figures += [used / len(held), anew / len(held)]
        print(f"{cell.name:30}|" + " |".join(f"{100 * figure:8.1f}" for figure in figures), flush=True)
    for name, (used, anew, n) in pooled.items():
        print(
            f"{name}: validation, pooled, {100 * used / n:.1f} in use, {100 * anew / n:.1f} with statistics taken anew"
        )


if __name__ == "__main__":
    main()
