"""What batches of similar length are worth to layers that see no padding, and how often the same utterances meet.

Our network trains at IEMOCAP's shape on batches of similar length (the bucketed baseline's) and on purely random ones,
in turns, in one process of one thread; then, without training, how much of a batch met in the epoch before too.

    python -m benchmarks.training.order
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean, median

import torch

from benchmarks.training.bucketed import bucketed_batches
from benchmarks.training.plain import BATCH, LEARNING_RATE, MOMENTUM, collate, random_batches
from benchmarks.training.shapes import EMOTIONS, FEATURES, UTTERANCES, Part, random_data
from unheard.model.network import NETWORKS
from unheard.training.strategies import Batch, Strategy, StrategyConfig, build

SMALL = 270
"""Utterances that train in a fold of EmoDB."""

ORDERS = {"similar": bucketed_batches, "random": random_batches}


def rate(strategy: Strategy, optimiser: torch.optim.Optimizer, part: Part, batches: Iterator[list[int]]) -> float:
    """Valid frames per second of training on `batches`."""
    frames, began = 0, time.perf_counter()
    for ids in batches:
        x, lengths, emotions = collate(part, ids)
        optimiser.zero_grad()
        loss = torch.stack(list(strategy(Batch(x, lengths, emotions, torch.zeros_like(emotions))).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        frames += int(lengths.sum())
    return frames / (time.perf_counter() - began)


def met_again(before: Sequence[Sequence[int]], now: Sequence[Sequence[int]]) -> float:
    """Mean over the batches of `now`: the largest share of one that was in one batch of `before`."""
    return mean(max(len(set(batch) & set(other)) for other in before) / len(batch) for batch in now)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a third of an epoch of each in every round, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batches", type=int, default=19)
    parser.add_argument("--utterances", type=int, default=UTTERANCES, help="fewer only to see that it runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    part = random_data(options.utterances).train
    strategy = build("ser", StrategyConfig(FEATURES, EMOTIONS, 1, NETWORKS["iemocap"], 0)).train()
    optimiser = torch.optim.SGD(strategy.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    rate(strategy, optimiser, part, iter([list(range(BATCH))]))  # compiles
    ratios = []
    for turn in range(options.rounds):
        rates = {}
        for name, order in ORDERS.items():
            chosen = list(order(part, generator))[: options.batches]
            rates[name] = rate(strategy, optimiser, part, iter(chosen))
        ratios.append(rates["random"] / rates["similar"])
        said = ", ".join(f"{name} {found:,.0f}" for name, found in rates.items())
        print(f"round {turn + 1}: {said} frames/s, random / similar {ratios[-1]:.2f}", flush=True)
    print(f"random / similar: {median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})")
    for count in (min(SMALL, options.utterances), options.utterances):
        part = random_data(count).train
        for name, order in ORDERS.items():
            epochs = [list(order(part, generator)) for _ in range(5)]
            share = mean(met_again(one, other) for one, other in pairwise(epochs))
            print(f"{count} utterances, {name}: {100 * share:.0f} % of a batch met in the epoch before too")


if __name__ == "__main__":
    main()
