"""Kaldi's power spectrum, bit for bit, for many frames at once.

Kaldi's split-radix FFT works in single precision with single-precision tables, and its last stage multiplies
twiddle factors up one from the other. Where a frame holds one strong tone, what other FFTs put into the
quiet bands differs from that by as much as the bands hold, and the cepstra by several percent. This one does
the same operations in the same order, each on arrays (…, T) for T frames at a time; it calls no BLAS, so
that its answer does not depend on the number of threads.

Source: Kaldi, matrix/srfft.cc (after Malvar, Signal Processing with Lapped Transforms, 1992).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_HALF = np.float32(0.5)
_SQRT_HALF = np.float32(np.sqrt(0.5))


def power_spectrum(even: Floats, odd: Floats) -> Floats:
    """|DFT|² of T real frames of 2N samples: samples 0, 2, … and 1, 3, …, both (N, T) -> (N + 1, T)."""
    points, frames = even.shape
    real, imag = _complex_fft(even, odd)
    turn_real, turn_imag = _last_twiddles(points)
    half = points // 2
    low_real, low_imag = real[1 : half + 1], imag[1 : half + 1]
    high_real, high_imag = real[: half - 1 : -1], imag[: half - 1 : -1]
    # The spectra of the even (c) and odd (d) samples, and the odd one turned: for bin k and bin N - k.
    c_real, c_imag = _HALF * (low_real + high_real), _HALF * (low_imag - high_imag)
    d_real, d_imag = _HALF * (low_imag + high_imag), -_HALF * (low_real - high_real)
    turned_real = turn_real * d_real - turn_imag * d_imag
    turned_imag = turn_real * d_imag + turn_imag * d_real
    power = np.empty((points + 1, frames), np.float32)
    power[1 : half + 1] = np.square(c_real + turned_real) + np.square(c_imag + turned_imag)
    power[points - 1 : half : -1] = (np.square(c_real - turned_real) + np.square(turned_imag - c_imag))[:-1]
    power[0] = np.square(real[0] + imag[0])
    power[points] = np.square(real[0] - imag[0])
    return power


def _complex_fft(real: Floats, imag: Floats) -> tuple[Floats, Floats]:
    """The DFT over axis 0 of (N, T), in the order of frequency.

    All blocks of one size are transformed together: a block of size m leaves one block of size m/2 (the even
    bins) and two of size m/4 (bins 1 and 3 modulo 4).
    """
    points, frames = real.shape
    counts, order = _plan(points)
    blocks = {points: np.stack([real, imag])[:, None]}
    filled = dict.fromkeys(counts, 0)
    size = points
    while size > 1:
        half, quarter, count = size // 2, size // 4, counts[size]
        for smaller in {half, max(quarter, 1)}:
            if smaller not in blocks:
                blocks[smaller] = np.empty((2, counts[smaller], smaller, frames), np.float32)
        block = blocks.pop(size)
        low, high = block[:, :, :half], block[:, :, half:]
        at = filled[half]
        np.add(low, high, out=blocks[half][:, at : at + count])
        filled[half] += count
        if size == 2:  # the difference of a pair is a block of size 1 itself
            at = filled[1]
            np.subtract(low, high, out=blocks[1][:, at : at + count])
        else:
            at = filled[quarter]
            turned = blocks[quarter][:, at : at + 2 * count].reshape(2, 2, count, quarter, frames)
            _turn(low - high, turned)
            filled[quarter] += 2 * count
        size = half
    leaves = blocks[1][:, :, 0]
    return leaves[0, order], leaves[1, order]


def _turn(difference: Floats, turned: Floats) -> None:
    """Differences (2, blocks, 2·Q, T) -> the quarter blocks of bins 1 and 3 modulo 4, ready for their DFTs.

    `turned` is (real and imaginary, 1 and 3, blocks, Q, T). Its first row is a plain sum; the others are
    multiplied in place, for which the imaginary part is put where the real one will be.
    """
    quarter = turned.shape[3]
    real, imag = difference
    real_low, real_high = real[:, :quarter], real[:, quarter:]
    imag_low, imag_high = imag[:, :quarter], imag[:, quarter:]
    for rows, at_real in ((slice(0, 1), 0), (slice(1, None), 1)):
        if rows.start >= quarter:
            return
        to_real, to_imag = turned[at_real, :, :, rows], turned[1 - at_real, :, :, rows]
        np.add(real_low[:, rows], imag_high[:, rows], out=to_real[0])
        np.subtract(real_low[:, rows], imag_high[:, rows], out=to_real[1])
        np.subtract(imag_low[:, rows], real_high[:, rows], out=to_imag[0])
        np.add(imag_low[:, rows], real_high[:, rows], out=to_imag[1])
    eighth = quarter // 2
    (imag1, imag3), (real1, real3) = turned[:, :, :, eighth].copy()
    if quarter > 2:
        cosine, minus_sum, difference_ = _twiddles(quarter)
        imags, reals = turned[0, :, :, 1:], turned[1, :, :, 1:]
        both = reals + imags
        both *= cosine
        reals *= minus_sum
        reals += both  # the imaginary part by now
        imags *= difference_
        imags += both  # the real part by now
    # At 45 degrees Kaldi multiplies once.
    turned[0, 0, :, eighth] = _SQRT_HALF * (real1 + imag1)
    turned[1, 0, :, eighth] = _SQRT_HALF * (imag1 - real1)
    turned[0, 1, :, eighth] = _SQRT_HALF * (imag3 - real3)
    turned[1, 1, :, eighth] = -_SQRT_HALF * (real3 + imag3)


@lru_cache(maxsize=8)
def _plan(points: int) -> tuple[dict[int, int], npt.NDArray[np.intp]]:
    """How many blocks of each size there are, and at which leaf each bin ends."""
    offsets: dict[int, list[int]] = {points: [0]}
    size = points
    while size > 1:
        half, quarter = size // 2, size // 4
        here = offsets[size]
        offsets.setdefault(half, []).extend(here)
        if size == 2:
            offsets[1].extend(offset + 1 for offset in here)
        else:
            after = offsets.setdefault(quarter, [])
            after.extend(offset + half for offset in here)
            after.extend(offset + half + quarter for offset in here)
        size = half
    leaf_at = np.argsort(np.array(offsets[1]))
    bits = points.bit_length() - 1
    reverse = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(points)]
    return {size: len(found) for size, found in offsets.items()}, leaf_at[reverse]


@lru_cache(maxsize=16)
def _twiddles(quarter: int) -> tuple[Floats, Floats, Floats]:
    """cos, -(sin + cos) and sin - cos for n = 1 … Q - 1 and both blocks, each (2, 1, Q - 1, 1)."""
    n = np.arange(1, quarter, dtype=np.float64)
    angles = np.stack([factor * n * (2 * np.pi) / (4 * quarter) for factor in (1, 3)])
    cosine, sine = _cos_sin(angles.astype(np.float32)[:, None, :, None])
    return cosine, -(sine + cosine), sine - cosine


@lru_cache(maxsize=8)
def _last_twiddles(points: int) -> tuple[Floats, Floats]:
    """exp(-2πik / 2N) for k = 1 … N/2, each from the one before as Kaldi does, as (N/2, 1) pairs."""
    (root_real,), (root_imag,) = _cos_sin(np.array([-2 * np.pi / (2 * points)], np.float32))
    real, imag = np.float32(1), np.float32(0)
    turns = np.empty((2, points // 2, 1), np.float32)
    for k in range(points // 2):
        real, imag = real * root_real - imag * root_imag, real * root_imag + imag * root_real
        turns[:, k, 0] = real, imag
    return turns[0], turns[1]


def _cos_sin(angles: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine as the C library's single-precision functions give them (|angle| below 3π/2 or so).

    They are nearly always, but not always, the correctly rounded values, and the quiet bands hear the
    difference. The polynomials are those of Arm's optimized routines, which glibc uses.
    """
    wide = angles.astype(np.float64)
    quadrant = np.rint(wide * (2 / np.pi)).astype(int)
    x = wide - quadrant * (np.pi / 2)
    x2 = x * x
    x4, x3 = x2 * x2, x * x2
    sine = (x + x3 * float.fromhex("-0x1.555545995a603p-3")) + (x3 * x2) * (
        float.fromhex("0x1.1107605230bc4p-7") + x2 * float.fromhex("-0x1.994eb3774cf24p-13")
    )
    cosine = ((1.0 + x2 * float.fromhex("-0x1.ffffffd0c621cp-2")) + x4 * float.fromhex("0x1.55553e1068f19p-5")) + (
        x4 * x2
    ) * (float.fromhex("-0x1.6c087e89a359dp-10") + x2 * float.fromhex("0x1.99343027bf8c3p-16"))
    turn = quadrant % 4
    cosines = np.choose(turn, [cosine, -sine, -cosine, sine]).astype(np.float32)
    sines = np.choose(turn, [sine, cosine, -sine, -cosine]).astype(np.float32)
    return cosines, sines
