"""The peak of the machine and the work of the network: GFLOP/s of a matrix product, FLOP a frame."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Barrier

import torch
from torch import nn

from benchmarks.training.plain import Network
from benchmarks.training.shapes import draw_lengths

SIDE = 1536  # of the square matrices: large enough that the product is all that counts
BACKWARD = 2  # products of a backward pass for each one of the forward pass


def _sustained(barrier: Barrier, seconds: float, rates: multiprocessing.Queue[float]) -> None:
    """Put this process's mean GFLOP/s, one thread, while the others run the same."""
    torch.set_num_threads(1)
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    out = a @ b
    barrier.wait()
    start, products = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        torch.mm(a, b, out=out)
        products += 1
    rates.put(2 * SIDE**3 * products / (time.perf_counter() - start) / 1e9)


def process_rate(processes: int, seconds: float = 2.0) -> float:
    """Return the GFLOP/s of several single-threaded processes together: the mean over `seconds`."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    rates: multiprocessing.Queue[float] = context.Queue()
    workers = [context.Process(target=_sustained, args=(barrier, seconds, rates)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    total = sum(rates.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def flop_per_frame(network: nn.Module, frames: float) -> dict[str, float]:
    """FLOP of a forward pass for each valid frame, by layer, from the weights' sizes.

    Two for each weight: a multiplication and an addition. A layer under `head` runs once an utterance, so its
    share of a frame is divided by `frames`, the mean number of frames in an utterance. Biases, activations
    and batch norm are left out; so is that the convolutions shorten an utterance by 16 frames.
    """
    flop: dict[str, float] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv1d | nn.LSTM | nn.Linear):
            weights = sum(p.numel() for key, p in layer.named_parameters() if key.startswith("weight"))
            flop[name] = 2 * weights / (frames if name.startswith("head") else 1)
    return flop


def training_flop_per_frame() -> float:
    """FLOP of a training step for each valid frame at IEMOCAP's lengths: forward, and twice that backward."""
    return (1 + BACKWARD) * sum(flop_per_frame(Network(), float(draw_lengths().mean())).values())
