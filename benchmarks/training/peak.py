"""The most the machine can do, and what the network asks: GFLOP/s of a matrix product, FLOP a frame.

python -m benchmarks.training.peak
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.synchronize import Barrier

import torch
from torch import nn

from benchmarks.training.plain import Network
from benchmarks.training.shapes import draw_lengths

SIDE = 1536  # of the square matrices: large enough that the product is all that counts
SECONDS = 2.0
BACKWARD = 2  # products of a backward pass for each one of the forward pass


def matmul_rate(threads: int, dtype: torch.dtype = torch.float32, seconds: float = SECONDS) -> float:
    """GFLOP/s of the best of the square products that fit into `seconds`, in this process."""
    torch.set_num_threads(threads)
    a, b = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    out = a @ b
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def _sustained(barrier: Barrier, dtype: torch.dtype, rates: multiprocessing.Queue[float]) -> None:
    """Put this process's mean GFLOP/s, one thread, while its neighbours run the same."""
    torch.set_num_threads(1)
    a, b = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    out = a @ b
    barrier.wait()
    start, products = time.perf_counter(), 0
    while time.perf_counter() < start + SECONDS:
        torch.mm(a, b, out=out)
        products += 1
    rates.put(2 * SIDE**3 * products / (time.perf_counter() - start) / 1e9)


def process_rate(processes: int, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of several processes of one thread together: the mean over the time they run side by side."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    rates: multiprocessing.Queue[float] = context.Queue()
    workers = [context.Process(target=_sustained, args=(barrier, dtype, rates)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    total = sum(rates.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def bf16_reason() -> str | None:
    """Why bf16 is not measured, or None where the processor multiplies bf16 natively.

    Without AVX512-BF16 or AMX the product is emulated, and some hundred times slower than fp32.
    """
    if not torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported():
        return "this processor has neither AVX512-BF16 nor AMX"
    return None


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


def main() -> None:
    """Print both."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    frames = float(draw_lengths().mean())
    forward = flop_per_frame(Network(), frames)
    for name, flop in forward.items():
        print(f"{name:<16}{flop:>10,.0f} FLOP a frame, forward")
    training = training_flop_per_frame()
    print(f"{'all':<16}{sum(forward.values()):>10,.0f} forward, {training:,.0f} with backward (3 x forward)")
    reason = bf16_reason()
    for dtype in (torch.float32,) if reason else (torch.float32, torch.bfloat16):
        rates = {f"{threads} thread(s)": matmul_rate(threads, dtype) for threads in (1, 2)}
        rates |= {f"{count} process(es) of 1 thread": process_rate(count, dtype) for count in (1, 2)}
        for name, rate in rates.items():
            at_peak = rate * 1e9 / training
            print(f"{dtype} {name}: {rate:.1f} GFLOP/s, {at_peak:,.0f} frames per second at that peak")
    if reason:
        print(f"torch.bfloat16 is not measured: {reason}")


if __name__ == "__main__":
    main()
