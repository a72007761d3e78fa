"""Windows, batch norm with bias, ReLU and dropout, and pooling of ragged frames, compiled by numba.

These steps do few operations per number, so their time is dominated by memory access. As PyTorch operations, bias,
ReLU, batch norm and dropout pass over the frames about fifteen times per training step; the kernels need five passes.
Shapes: N frames of a batch, B utterances, C channels. Sums over many frames are taken in blocks that fit in the cache,
and over blocks in double precision, always in the same order.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unheard.model.cpu import as_array
from unheard.model.cpu.lstm import compiled

# mypy: allow-untyped-defs, allow-untyped-calls


# Autograd functions, which cannot be differentiated twice.


def windows(x: Tensor, lengths: Tensor, taps: int, dilation: int) -> Tensor:
    """Return windows of `taps` frames, `dilation` apart: (N, C), (B,) -> (N', taps * C, padded to a multiple of 8)."""
    return cast(Tensor, _Windows.apply(x, lengths, taps, dilation))


class _Windows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor, taps: int, dilation: int) -> Tensor:
        ctx.frames, ctx.how = x.shape, (lengths.numpy(), taps, dilation)
        count = len(x) - len(lengths) * dilation * (taps - 1)
        columns = taps * x.shape[1]
        out = x.new_empty((count, columns + -columns % 8))
        out[:, columns:] = 0.0
        gather_windows(as_array(x), *ctx.how, as_array(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        of_x = gradient.new_empty(ctx.frames)
        scatter_windows(as_array(gradient), *ctx.how, as_array(of_x))
        return of_x, None, None, None


def activation(y: Tensor, bias: Tensor, floor: float, norm: Any, drawn: tuple[Tensor, int] | None) -> Tensor:
    """Apply batch norm to max(y + bias, floor) in training, then dropout by random bytes `drawn`: (N, C) -> (N, C).

    Updates the running statistics of `norm`, a `BatchNorm1d`, as PyTorch does.
    """
    count, channels = y.shape
    mean, squares = np.empty(channels), np.empty(channels)
    statistics(as_array(y), as_array(bias), np.float32(floor), mean, squares)
    norm.num_batches_tracked.add_(1)
    for running, new in ((norm.running_mean, mean), (norm.running_var, squares / (count - 1))):
        running.mul_(1.0 - norm.momentum).add_(torch.from_numpy(new).to(running.dtype), alpha=norm.momentum)
    deviation = np.sqrt(squares / count + norm.eps)
    random, kept = drawn or (torch.zeros(y.shape, dtype=torch.uint8), 256)
    of_batch = mean.astype(np.float32), deviation.astype(np.float32)
    return cast(Tensor, _Activation.apply(y, bias, norm.weight, norm.bias, floor, *of_batch, random, kept))


class _Activation(torch.autograd.Function):
    """weight · (r - mean) / deviation + shift with r = max(y + bias, floor), then dropout by the `random` bytes.

    `y` and `random` are (N, C), the other arguments (C,). Mean and deviation are those of the batch, and the gradient
    of `y` passes through them.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, *how: Any) -> Tensor:
        floor, mean, deviation, random, kept = how
        scale = np.float32(256.0 / kept)
        slope = as_array(weight) / deviation * scale
        offset = as_array(shift) * scale - mean * slope
        out = torch.empty_like(y, memory_format=torch.contiguous_format)
        activate(as_array(y), as_array(bias), np.float32(floor), slope, offset, random.numpy(), kept, as_array(out))
        ctx.save_for_backward(y, bias, random)
        ctx.rest = np.float32(floor), mean, deviation, slope, scale, kept
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, bias, random = ctx.saved_tensors
        floor, mean, deviation, slope, scale, kept = ctx.rest
        frames, channels = y.shape
        before = as_array(y), as_array(bias), floor, mean, random.numpy(), kept, as_array(gradient)
        total, along, of_bias = np.empty(channels), np.empty(channels), np.empty(channels)
        activation_sums(*before, total, along)
        level = (slope * total / frames).astype(np.float32)
        tilt = (slope * along / (frames * deviation.astype(np.float64) ** 2)).astype(np.float32)
        of_y = torch.empty_like(y, memory_format=torch.contiguous_format)
        activation_gradient(*before, slope, level, tilt, as_array(of_y), of_bias)
        of_weight, of_shift = along * scale / deviation, total * scale
        sums = (torch.from_numpy(values.astype(np.float32)) for values in (of_bias, of_weight, of_shift))
        return (of_y, *sums, None, None, None, None, None)


def pooling(x: Tensor, lengths: Tensor, floor: float) -> Tensor:
    """Compute mean and standard deviation of each utterance's frames, the variance floored: (N, C), (B,) -> (B, 2C)."""
    return cast(Tensor, _Pooling.apply(x, lengths, floor))


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor, floor: float) -> Tensor:
        pooled = x.new_empty((len(lengths), 2 * x.shape[1]))
        pool(as_array(x), lengths.numpy(), np.float32(floor), as_array(pooled))
        ctx.save_for_backward(x, lengths, pooled)
        ctx.floor = np.float32(floor)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, lengths, pooled = ctx.saved_tensors
        of_x = torch.empty_like(x)
        pool_gradient(as_array(x), lengths.numpy(), ctx.floor, as_array(pooled), as_array(gradient), as_array(of_x))
        return of_x, None, None


# Kernels.

ROWS = 64  # frames per block: 64 KiB at 256 channels, which fits in the second-level cache

ZERO = np.float32(0)


@compiled
def statistics(y, bias, floor, mean, squares):
    """Compute the mean of max(y + bias, floor) and the sum of squared deviations, (C,) float64 each; `y` (N, C).

    Statistics of blocks are merged (Chan et al. 1979), so that a large mean costs no precision.
    """
    rows, channels = y.shape
    sums, spread = np.empty(channels, np.float32), np.empty(channels, np.float32)
    mean[:] = 0.0
    squares[:] = 0.0
    for begin in range(0, rows, ROWS):
        end = min(begin + ROWS, rows)
        sums[:] = ZERO
        spread[:] = ZERO
        for i in range(begin, end):
            for j in range(channels):
                z = y[i, j] + bias[j]
                sums[j] += floor if z < floor else z  # NaN stays NaN
        share = np.float32(1.0 / (end - begin))
        for j in range(channels):
            sums[j] *= share
        for i in range(begin, end):
            for j in range(channels):
                z = y[i, j] + bias[j]
                d = (floor if z < floor else z) - sums[j]
                spread[j] += d * d
        weight = (end - begin) / end
        for j in range(channels):
            apart = sums[j] - mean[j]
            mean[j] += apart * weight
            squares[j] += spread[j] + apart * apart * (begin * weight)


@compiled
def activate(y, bias, floor, slope, shift, random, kept, out):
    """Compute out = max(y + bias, floor) * slope + shift if the random byte is below `kept`, else 0; (N, C)."""
    rows, channels = y.shape
    for i in range(rows):
        for j in range(channels):
            z = y[i, j] + bias[j]
            value = (floor if z < floor else z) * slope[j] + shift[j]
            out[i, j] = value if random[i, j] < kept else ZERO


@compiled
def activation_sums(y, bias, floor, mean, random, kept, gradient, total, along):
    """Sum over frames the kept gradient, and its product with the deviation from the mean: (C,) float64 each."""
    rows, channels = y.shape
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    total[:] = 0.0
    along[:] = 0.0
    for begin in range(0, rows, ROWS):
        first[:] = ZERO
        second[:] = ZERO
        for i in range(begin, min(begin + ROWS, rows)):
            for j in range(channels):
                z = y[i, j] + bias[j]
                g = gradient[i, j] if random[i, j] < kept else ZERO
                first[j] += g
                second[j] += g * ((floor if z < floor else z) - mean[j])
        for j in range(channels):
            total[j] += first[j]
            along[j] += second[j]


@compiled
def activation_gradient(y, bias, floor, mean, random, kept, gradient, slope, level, tilt, of_y, of_bias):
    """Compute of_y = slope * kept gradient - level - tilt * deviation from the mean if y + bias > floor, else 0.

    `of_bias` (C,) float64 is the sum of `of_y` over frames.
    """
    rows, channels = y.shape
    sums = np.empty(channels, np.float32)
    of_bias[:] = 0.0
    for begin in range(0, rows, ROWS):
        sums[:] = ZERO
        for i in range(begin, min(begin + ROWS, rows)):
            for j in range(channels):
                z = y[i, j] + bias[j]
                g = gradient[i, j] if random[i, j] < kept else ZERO
                d = slope[j] * g - level[j] - tilt[j] * (z - mean[j])
                d = ZERO if z <= floor else d
                of_y[i, j] = d
                sums[j] += d
        for j in range(channels):
            of_bias[j] += sums[j]


@compiled
def gather_windows(x, lengths, taps, dilation, windows):
    """Fill each of `windows` (N', at least taps * C) with its `taps` frames of `x` (N, C), `dilation` apart."""
    channels = x.shape[1]
    span = dilation * (taps - 1)
    start = row = 0
    for utterance in range(len(lengths)):
        for t in range(lengths[utterance] - span):
            for k in range(taps):
                for j in range(channels):
                    windows[row, k * channels + j] = x[start + t + k * dilation, j]
            row += 1
        start += lengths[utterance]


@compiled
def scatter_windows(gradient, lengths, taps, dilation, of_x):
    """Sum the gradient of the windows over the frames they were taken from: `of_x` (N, C)."""
    channels = of_x.shape[1]
    span = dilation * (taps - 1)
    start = row = 0
    for utterance in range(len(lengths)):
        windows = lengths[utterance] - span
        for t in range(lengths[utterance]):
            for j in range(channels):
                of_x[start + t, j] = ZERO
            for k in range(taps):
                w = t - k * dilation
                if 0 <= w < windows:
                    for j in range(channels):
                        of_x[start + t, j] += gradient[row + w, k * channels + j]
        start += lengths[utterance]
        row += windows


@compiled
def pool(x, lengths, floor, pooled):
    """Fill `pooled` (B, 2C) with the mean and standard deviation of each utterance's frames, the variance floored."""
    channels = x.shape[1]
    start = 0
    for utterance in range(len(lengths)):
        frames = lengths[utterance]
        share = np.float32(1.0 / frames)
        mean, deviation = pooled[utterance, :channels], pooled[utterance, channels:]
        mean[:] = ZERO
        deviation[:] = ZERO
        for i in range(start, start + frames):
            for j in range(channels):
                mean[j] += x[i, j]
        for j in range(channels):
            mean[j] *= share
        for i in range(start, start + frames):
            for j in range(channels):
                d = x[i, j] - mean[j]
                deviation[j] += d * d
        for j in range(channels):
            variance = deviation[j] * share
            deviation[j] = np.sqrt(floor if variance < floor else variance)
        start += frames


@compiled
def pool_gradient(x, lengths, floor, pooled, gradient, of_x):
    """Fill `of_x` (N, C) from the `gradient` (B, 2C) of `pooled`."""
    channels = x.shape[1]
    tilt, level = np.empty(channels, np.float32), np.empty(channels, np.float32)
    lowest = np.sqrt(floor)
    start = 0
    for utterance in range(len(lengths)):
        frames = lengths[utterance]
        share = np.float32(1.0 / frames)
        for j in range(channels):
            deviation = pooled[utterance, channels + j]
            slope = gradient[utterance, channels + j] * share / deviation
            tilt[j] = ZERO if deviation <= lowest else slope
            level[j] = gradient[utterance, j] * share
        for i in range(start, start + frames):
            for j in range(channels):
                of_x[i, j] = level[j] + tilt[j] * (x[i, j] - pooled[utterance, j])
        start += frames
