"""Kaldi's power spectrum, bit for bit, for many frames at once.

Kaldi's split-radix FFT works in single precision with single-precision tables, and its last stage computes each twiddle
factor from the previous one. If a frame contains one strong tone, other FFTs differ from Kaldi's in the quiet bands by
as much as these contain, and the cepstra by several percent. This implementation does the same operations in the same
order, on arrays (…, T) of T frames. It does not call BLAS, so the result does not depend on the number of threads.

Source: Kaldi, matrix/srfft.cc (after Malvar, Signal Processing with Lapped Transforms, 1992).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Step = tuple[np.ufunc, Floats, Floats, Floats]

_HALF = np.array(0.5, np.float32)
# At 45 degrees Kaldi multiplies once: (real and imaginary, bins 1 and 3 modulo 4, 1, 1).
_SQRT_HALF = np.float32(np.sqrt(0.5)) * np.array([[1, 1], [1, -1]], np.float32)[:, :, None, None]


class PowerSpectrum:
    """|DFT|² of T real frames of 2N samples: fill `samples`, call `run`, read `power`; not thread-safe.

    `samples` is (2, N, T): samples 0, 2, … and then 1, 3, … of every frame. `power` is (N + 1, T). The steps and their
    buffers are prepared once: with arrays of this size, creating views costs as much as adding.
    """

    def __init__(self, points: int, frames: int) -> None:
        self._steps: list[Step] = []
        counts, order = _plan(points)
        blocks = {size: np.empty((2, count, size, frames), np.float32) for size, count in counts.items()}
        self.samples: Floats = blocks[points][:, 0]
        self.power: Floats = np.zeros((points + 1, frames), np.float32)
        self._transform(points, frames, counts, blocks)
        self._leaves = blocks[1][:, :, 0]
        half = points // 2
        self._low, self._high = order[1 : half + 1], order[: half - 1 : -1]
        self._first = int(order[0])
        self._spectra = np.empty((2, 2, half, frames), np.float32)
        self._last_steps = self._unravel(points, frames)

    def run(self) -> None:
        """Compute `power` from `samples`."""
        for function, left, right, out in self._steps:
            function(left, right, out)
        np.take(self._leaves, self._low, axis=1, out=self._spectra[0], mode="clip")
        np.take(self._leaves, self._high, axis=1, out=self._spectra[1], mode="clip")
        for function, left, right, out in self._last_steps:
            function(left, right, out)
        real, imag = self._leaves[:, self._first]
        np.square(real + imag, out=self.power[0])
        np.square(real - imag, out=self.power[-1])

    def _transform(self, points: int, frames: int, counts: dict[int, int], blocks: dict[int, Floats]) -> None:
        """Prepare the steps of the complex DFT of N points.

        All blocks of one size are transformed together: a block of size m gives one block of size m/2 (the even bins)
        and two of size m/4 (bins 1 and 3 modulo 4).
        """
        scratch = np.empty((3, 2 * points * frames), np.float32)

        def buffer(index: int, *shape: int) -> Floats:
            return scratch[index, : int(np.prod(shape))].reshape(shape)

        filled = dict.fromkeys(counts, 0)
        size = points
        while size > 1:
            half, quarter, count = size // 2, size // 4, counts[size]
            low, high = blocks[size][:, :, :half], blocks[size][:, :, half:]
            at = filled[half]
            self._steps.append((np.add, low, high, blocks[half][:, at : at + count]))
            filled[half] += count
            if size == 2:  # the difference of a pair is a block of size 1
                self._steps.append((np.subtract, low, high, blocks[1][:, filled[1] :]))
                break
            difference = buffer(0, 2, count, half, frames)
            self._steps.append((np.subtract, low, high, difference))
            at = filled[quarter]
            turned = blocks[quarter][:, at : at + 2 * count].reshape(2, 2, count, quarter, frames)
            filled[quarter] += 2 * count
            self._turn(difference, turned, buffer(1, 2, 2, count, 1, frames)[:, :, :, 0], buffer)
            size = half

    def _turn(self, difference: Floats, turned: Floats, middle: Floats, buffer: Callable[..., Floats]) -> None:
        """Prepare the steps from differences (2, blocks, 2·Q, T) to quarter blocks `turned` (2, 2, blocks, Q, T)."""
        kinds, count, quarter, frames = turned.shape[1:]
        (real_low, imag_low), (real_high, imag_high) = difference[:, :, :quarter], difference[:, :, quarter:]
        (real1, real3), (imag1, imag3) = turned
        steps = self._steps
        steps.append((np.add, real_low, imag_high, real1))
        steps.append((np.subtract, real_low, imag_high, real3))
        steps.append((np.subtract, imag_low, real_high, imag1))
        steps.append((np.add, imag_low, real_high, imag3))
        eighth = quarter // 2
        if not eighth:
            return
        steps.append((np.add, real1[:, eighth], imag1[:, eighth], middle[0, 0]))
        steps.append((np.subtract, imag1[:, eighth], real1[:, eighth], middle[1, 0]))
        steps.append((np.subtract, imag3[:, eighth], real3[:, eighth], middle[0, 1]))
        steps.append((np.add, real3[:, eighth], imag3[:, eighth], middle[1, 1]))
        if quarter > 2:
            cosine, minus_sum, sine_minus = _twiddles(quarter)
            real, imag = turned[:, :, :, 1:]
            both = buffer(2, kinds, count, quarter - 1, frames)
            other = buffer(0, kinds, count, quarter - 1, frames)  # the differences are no longer needed
            steps.append((np.add, real, imag, both))
            steps.append((np.multiply, both, cosine, both))
            steps.append((np.multiply, real, minus_sum, other))
            steps.append((np.multiply, imag, sine_minus, real))
            steps.append((np.add, real, both, real))
            steps.append((np.add, other, both, imag))
        steps.append((np.multiply, middle, _SQRT_HALF, turned[:, :, :, eighth]))

    def _unravel(self, points: int, frames: int) -> list[Step]:
        """Return the steps from the complex DFT of N points to the power of the real DFT of 2N.

        With B_k and B_{N-k} in `_spectra`, C = (B_k + conj B_{N-k}) / 2 is the DFT of the even samples and D the DFT of
        the odd samples; the bins are |C + wD|² at k and |C - wD|² at N - k.
        """
        half = points // 2
        low, high = self._spectra
        sums, differences, even, odd, odd_imag, plus = np.empty((6, 2, half, frames), np.float32)
        turns = _last_twiddles(points)
        # C = (sums[0], differences[1]) / 2 and D = (sums[1], -differences[0]) / 2.
        return [
            (np.add, low, high, sums),
            (np.subtract, low, high, differences),
            (np.multiply, sums[0], _HALF, even[0]),
            (np.multiply, differences[1], _HALF, even[1]),
            (np.multiply, sums[1], _HALF, sums[1]),
            (np.multiply, differences[0], _HALF, differences[0]),
            (np.multiply, turns, sums[1], odd),
            (np.multiply, turns[::-1], differences[0], odd_imag),
            (np.add, odd[0], odd_imag[0], odd[0]),
            (np.subtract, odd[1], odd_imag[1], odd[1]),
            (np.add, even, odd, plus),
            (np.subtract, even, odd, even),
            (np.multiply, plus, plus, plus),
            (np.multiply, even, even, even),
            (np.add, plus[0], plus[1], self.power[1 : half + 1]),
            (np.add, even[0, :-1], even[1, :-1], self.power[points - 1 : half : -1]),
        ]


@lru_cache(maxsize=8)
def _plan(points: int) -> tuple[dict[int, int], npt.NDArray[np.intp]]:
    """Return the number of blocks of each size, and the leaf of each bin."""
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
    return {size: len(starts) for size, starts in offsets.items()}, leaf_at[reverse]


@lru_cache(maxsize=16)
def _twiddles(quarter: int) -> tuple[Floats, Floats, Floats]:
    """Return cos, -(sin + cos) and sin - cos for n = 1 … Q - 1 and both blocks, each (2, 1, Q - 1, 1)."""
    n = np.arange(1, quarter, dtype=np.float64)
    angles = np.stack([factor * n * (2 * np.pi) / (4 * quarter) for factor in (1, 3)])
    cosine, sine = _cos_sin(angles.astype(np.float32)[:, None, :, None])
    return cosine, -(sine + cosine), sine - cosine


@lru_cache(maxsize=8)
def _last_twiddles(points: int) -> Floats:
    """Return exp(-2πik / 2N) for k = 1 … N/2, each computed from the previous one as in Kaldi: (2, N/2, 1)."""
    (root_real,), (root_imag,) = _cos_sin(np.array([-2 * np.pi / (2 * points)], np.float32))
    real, imag = np.float32(1), np.float32(0)
    turns = np.empty((2, points // 2, 1), np.float32)
    for k in range(points // 2):
        real, imag = real * root_real - imag * root_imag, real * root_imag + imag * root_real
        turns[:, k, 0] = real, imag
    return turns


def _cos_sin(angles: Floats) -> tuple[Floats, Floats]:
    """Return cosine and sine as computed by the C library's single-precision functions (|angle| below about 3π/2).

    Those are nearly always the correctly rounded values; the exceptions matter in quiet bands. The polynomials are from
    Arm's optimized routines, which glibc uses.
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
