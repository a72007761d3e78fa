"""Training speed, side by side in one run: a plain loop, a bucketed one, and `unheard`'s processes.

Each round trains a slice of each, one after the other, so that whatever slows the machine slows all three. The plain
loop is slow: it gets a few batches of its epoch. The others get 25 batches a round, a third of their epoch.

    python -m benchmarks.training.run
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.training.bucketed import GatheredBiLSTM, bucketed_batches
from benchmarks.training.ours import memory, team, together, write_random_store
from benchmarks.training.peak import process_rate, training_flop_per_frame
from benchmarks.training.plain import BATCH, LEARNING_RATE, MOMENTUM, Network, collate, random_batches
from benchmarks.training.shapes import UTTERANCES, Part, random_data
from unheard.features import FeatureStore

CGT_BATCHES = 8


class Loop:
    """A baseline that trains a few batches at a time, through as many epochs as it takes."""

    def __init__(self, network: nn.Module, part: Part, batches: Iterator[list[int]]) -> None:
        self.network, self.part, self.batches = network.train(), part, batches
        self.optimiser = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True)

    def rate(self, batches: int) -> float:
        """Valid frames per second over the next `batches`."""
        frames, began = 0, time.perf_counter()
        for _ in range(batches):
            x, lengths, emotions = collate(self.part, next(self.batches))
            loss = functional.cross_entropy(self.network(x, lengths), emotions)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            loss.item()
            frames += int(lengths.sum())
        return frames / (time.perf_counter() - began)


def endless(draw: Callable[[Part, torch.Generator], Iterator[list[int]]], part: Part) -> Iterator[list[int]]:
    """Batches of epoch after epoch."""
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from draw(part, generator)


def load() -> float:
    """The load average of the last minute, where the system tells it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def report(name: str, rates: list[float], peak: float) -> None:
    """One line: the median rate, its range, and its share of the peak."""
    rate = statistics.median(rates)
    spread = f"{min(rates):>9,.0f} .. {max(rates):<9,.0f}"
    print(f"{name:<44}{rate:>10,.0f} frames/s  {spread}{100 * rate / peak:>6.1f} % of the peak")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-batches", type=int, default=5, help="of the plain loop, a round")
    parser.add_argument("--batches", type=int, default=25, help="of the others, a round")
    parser.add_argument("--utterances", type=int, default=UTTERANCES, help="fewer only to see that it runs")
    parser.add_argument("--processes", type=int, default=2, help="of ours, and threads of the baselines")
    parser.add_argument("--peak-seconds", type=float, default=2.0, help="of matrix products, a round")
    options = parser.parse_args(arguments)
    utterances, processes = options.utterances, options.processes

    busy = load()
    if busy > 0.5:
        print(f"WARNING: the load average is {busy:.2f}: something else is running, and the numbers will be too low.")
    torch.set_num_threads(processes)
    part = random_data(utterances).train
    torch.manual_seed(0)
    plain = Loop(Network(), part, endless(random_batches, part))
    bucketed = Loop(Network(GatheredBiLSTM), part, endless(bucketed_batches, part))
    sums: dict[str, list[float]] = {"plain": [], "bucketed": [], "ours": [], "peak": []}
    cgt: list[float] = []
    ser: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        write_random_store(store, utterances)
        with team(store, processes) as members:
            for system in ("ser", "cgt"):  # the first batches are slow
                together(members, system, [str(i) for i in range(0, utterances, max(1, utterances // 48))])
            for _ in range(2):
                plain.rate(1)
                bucketed.rate(1)
            for turn in range(options.rounds):
                sums["plain"].append(plain.rate(options.plain_batches))
                sums["bucketed"].append(bucketed.rate(options.batches))
                every = max(1, utterances // (options.batches * BATCH))
                ids = [str(i) for i in range(turn % every, utterances, every)][: options.batches * BATCH]
                sums["ours"].append(together(members, "ser", ids))
                few = ids[:: max(1, len(ids) // (CGT_BATCHES * BATCH))][: CGT_BATCHES * BATCH]
                ser.append(together(members, "ser", few))
                cgt.append(together(members, "cgt", few))
                sums["peak"].append(process_rate(processes, options.peak_seconds))
                print(f"round {turn + 1}: " + ", ".join(f"{k} {v[-1]:,.0f}" for k, v in sums.items()), flush=True)
        twice = Path(scratch) / "twice"
        write_random_store(twice, 2 * utterances)
        small, large = memory(store), memory(twice)
        sizes = [FeatureStore(folder).matrix.nbytes / 2**20 for folder in (store, twice)]

    flop = training_flop_per_frame()
    peak = max(sums["peak"]) * 1e9 / flop
    every_plain = f"{options.rounds} x {options.plain_batches} batches"
    every_other = f"{options.rounds} x {options.batches} batches"
    print(
        f"\nSER_only at IEMOCAP's shape: {utterances} utterances, {part.frames:,} frames an epoch, batches of {BATCH}"
    )
    report(f"plain, {processes} threads, {every_plain}", sums["plain"], peak)
    report(f"bucketed, {processes} threads, {every_other}", sums["bucketed"], peak)
    report(f"ours, {processes} processes, {every_other} each", sums["ours"], peak)
    print(f"peak: {max(sums['peak']):.1f} GFLOP/s of {processes} processes", end=", ")
    print(f"{flop:,.0f} FLOP a frame: {peak:,.0f} frames/s")
    for name in ("plain", "bucketed"):
        ratios = [a / b for a, b in zip(sums["ours"], sums[name], strict=True)]
        middle = statistics.median(ratios)
        print(f"ours / {name}: {middle:.2f} ({min(ratios):.2f} .. {max(ratios):.2f} over the rounds)")
    ratios = [a / b for a, b in zip(ser, cgt, strict=True)]
    print(f"SER_SR_CGT costs {statistics.median(ratios):.2f} times SER_only ({min(ratios):.2f} .. {max(ratios):.2f})")
    print(f"memory while training (RssAnon): {small:.0f} MB from a store of {sizes[0]:.0f} MB", end=", ")
    print(f"{large:.0f} MB from one of {sizes[1]:.0f} MB")
    print(f"load average now {load():.2f} (this benchmark itself keeps {processes} cores busy)")


if __name__ == "__main__":
    main()
