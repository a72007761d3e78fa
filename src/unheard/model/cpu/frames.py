"""What lies between the matrix products, each in as few walks through memory as it can do with; compiled by numba.

These steps do a few operations a number, so their time is that of reading and writing it. Shapes: N frames of a batch,
B utterances, C channels. Sums over many frames are taken in blocks that stay in the cache, and the blocks' sums in
double precision, always in one order.
"""

from __future__ import annotations

import numpy as np

from unheard.model.cpu.lstm import compiled

# mypy: allow-untyped-defs, allow-untyped-calls


ROWS = 64
"""Frames in a block: 64 KiB at 256 channels, which stay in the second-level cache."""

ZERO = np.float32(0)


@compiled
def statistics(y, bias, floor, mean, squares):
    """Mean and sum of squared distances from it, (C,) float64 each, of max(y + bias, floor); `y` (N, C).

    Each block's own are merged with those before it (Chan et al. 1979), so that a large mean costs no precision.
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
    """out = max(y + bias, floor) * slope + shift where the random byte is below `kept`, else 0; all (N, C).

    Without random bytes (no rows) nothing is dropped.
    """
    rows, channels = y.shape
    if len(random) == 0:
        for i in range(rows):
            for j in range(channels):
                z = y[i, j] + bias[j]
                out[i, j] = (floor if z < floor else z) * slope[j] + shift[j]
    else:
        for i in range(rows):
            for j in range(channels):
                z = y[i, j] + bias[j]
                value = (floor if z < floor else z) * slope[j] + shift[j]
                out[i, j] = value if random[i, j] < kept else ZERO


@compiled
def activation_sums(y, bias, floor, mean, random, kept, gradient, total, along):
    """Over the frames: of the kept gradient, and of it times the distance from the mean; (C,) float64 each."""
    rows, channels = y.shape
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    total[:] = 0.0
    along[:] = 0.0
    for begin in range(0, rows, ROWS):
        first[:] = ZERO
        second[:] = ZERO
        for i in range(begin, min(begin + ROWS, rows)):
            if len(random) == 0:
                for j in range(channels):
                    z = y[i, j] + bias[j]
                    g = gradient[i, j]
                    first[j] += g
                    second[j] += g * ((floor if z < floor else z) - mean[j])
            else:
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
    """of_y = slope * kept gradient - level - tilt * distance from the mean where y + bias > floor, else 0.

    `of_bias` (C,) float64 is its sum over the frames.
    """
    rows, channels = y.shape
    sums = np.empty(channels, np.float32)
    of_bias[:] = 0.0
    for begin in range(0, rows, ROWS):
        sums[:] = ZERO
        for i in range(begin, min(begin + ROWS, rows)):
            if len(random) == 0:
                for j in range(channels):
                    z = y[i, j] + bias[j]
                    d = slope[j] * gradient[i, j] - level[j] - tilt[j] * (z - mean[j])
                    d = ZERO if z <= floor else d
                    of_y[i, j] = d
                    sums[j] += d
            else:
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
    """The `taps` frames of `x` (N, C), `dilation` apart, of each window within an utterance: (W, at least taps * C)."""
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
    """The gradient of the windows brought back to the frames they were taken from: (N, C)."""
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
    """Mean and standard deviation of each utterance's frames of `x` (N, C): (B, 2C); the variance is floored."""
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
    """The gradient (B, 2C) of `pooled` brought back to the frames (N, C)."""
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
