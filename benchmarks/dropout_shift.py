"""Where training and use part: dropout and batch norm, each as in training or as in use, on the training utterances.

    python -m benchmarks.dropout_shift runs/ravdess

Takes the networks of a run's SER_only trainings as they were after the last epoch (their checkpoints have to be there)
and prints their accuracy on the utterances they were trained on. No speaker held out has a part in it.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from unheard.experiments.grid import lay_out
from unheard.experiments.settings import load
from unheard.experiments.work import prepare
from unheard.training.dropout import Dropout
from unheard.training.trainer import Trainer

MODES = ((True, True), (True, False), (False, True), (False, False))
"""(dropout drops, batch norm uses the batch's own statistics): training is the first, use is the last."""


@torch.no_grad()
def accuracy(trainer: Trainer, drops: bool, of_the_batch: bool) -> float:
    """Accuracy on the training utterances, in batches of the training's size."""
    strategy = trainer.strategy.eval()
    for layer in strategy.modules():
        if isinstance(layer, Dropout):
            layer.train(drops)
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 0.0  # looking changes no running statistics
            layer.train(of_the_batch)
    right = 0
    for _, batch in trainer.task.in_order(trainer.train_ids, trainer.recipe.batch_size):
        logits, _ = strategy.logits(batch.x, batch.lengths)
        right += int((logits.argmax(1) == batch.y).sum())
    return right / len(trainer.train_ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    run = parser.parse_args().run
    torch.set_num_threads(1)
    settings = load(f"{run}/config.yaml", {"out": run, "systems": ["ser"], "progress": False})
    print("training                      | dropout on, batch | on, running | off, batch | off, running statistics")
    for cell in lay_out(settings).cells:
        if not (cell.folder / "checkpoint.pt").exists():
            print(f"{cell.name:30}| no checkpoint")
            continue
        trainer, _, _ = prepare(cell, None)
        trainer.resume()
        figures = [accuracy(trainer, *mode) for mode in MODES]
        print(f"{cell.name:30}|" + " |".join(f"{100 * figure:8.1f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
