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
    blocks = {size: np.empty((2, count, size, frames), np.float32) for size, count in counts.items() if size < points}
    filled = dict.fromkeys(counts, 0)
    blocks[points] = np.stack([real, imag])[:, None]
    size = points
    while size > 1:
        block = blocks[size]
        half, quarter, count = size // 2, size // 4, counts[size]
        at = filled[half]
        np.add(block[:, :, :half], block[:, :, half:], out=blocks[half][:, at : at + count])
        filled[half] += count
        difference = block[:, :, :half] - block[:, :, half:]
        if size == 2:
            # A pair's difference is a block of size 1 itself.
            blocks[1][:, filled[1] : filled[1] + count] = difference
            filled[1] += count
        else:
            at = filled[quarter]
            first = blocks[quarter][:, at : at + count]
            third = blocks[quarter][:, at + count : at + 2 * count]
            _turn(difference, first, third, quarter)
            filled[quarter] += 2 * count
        size = half
    leaves = blocks[1][:, :, 0]
    return leaves[0, order], leaves[1, order]


def _turn(difference: Floats, first: Floats, third: Floats, quarter: int) -> None:
    """The two quarter-size blocks of bins 1 and 3 modulo 4, (2, blocks, quarter, T), turned for their DFTs."""
    real, imag = difference
    np.add(real[:, :quarter], imag[:, quarter:], out=first[0])
    np.subtract(imag[:, :quarter], real[:, quarter:], out=first[1])
    np.subtract(real[:, :quarter], imag[:, quarter:], out=third[0])
    np.add(imag[:, :quarter], real[:, quarter:], out=third[1])
    eighth = quarter // 2
    if not eighth:
        return
    real1, imag1, real3, imag3 = (part[:, eighth].copy() for part in (first[0], first[1], third[0], third[1]))
    if quarter > 2:
        for block, (cosine, minus_sum, difference_) in zip((first, third), _twiddles(quarter), strict=True):
            x, y = block[0, :, 1:], block[1, :, 1:]
            both = x + y
            both *= cosine
            x_turned = difference_ * y
            x_turned += both
            both += minus_sum * x
            block[0, :, 1:] = x_turned
            block[1, :, 1:] = both
    first[0][:, eighth] = _SQRT_HALF * (real1 + imag1)
    first[1][:, eighth] = _SQRT_HALF * (imag1 - real1)
    third[0][:, eighth] = _SQRT_HALF * (imag3 - real3)
    third[1][:, eighth] = -_SQRT_HALF * (real3 + imag3)


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
def _twiddles(quarter: int) -> tuple[tuple[Floats, Floats, Floats], ...]:
    """For n = 1 … quarter - 1 and both blocks: cos, -(sin + cos) and sin - cos, each (quarter - 1, 1)."""
    n = np.arange(1, quarter, dtype=np.float64)
    tables = []
    for factor in (1, 3):
        cosine, sine = _cos_sin((factor * n * (2 * np.pi) / (4 * quarter)).astype(np.float32))
        tables.append((cosine[:, None], -(sine + cosine)[:, None], (sine - cosine)[:, None]))
    return tuple(tables)


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
