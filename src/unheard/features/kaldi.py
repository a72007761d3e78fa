"""Kaldi's MFCC (`compute-mfcc-feats`) and deltas (`add-deltas`), over many frames at once in numpy.

N samples, T frames, L samples a frame, C cepstra. Samples are at 16-bit scale (±32768) throughout.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from unheard.features.settings import FeatureSettings

Floats = npt.NDArray[np.float32]

_AT_ONCE = 128  # frames at a time: their windows and spectra stay in the processor's cache
_FLOOR = np.finfo(np.float32).eps  # Kaldi's floor under every logarithm


@dataclass(frozen=True)
class _Tables:
    window: Floats  # (L,)
    fft_size: int
    mel: Floats  # (fft_size / 2 + 1, mel bins)
    dct: Floats  # (mel bins, C), liftered


def frame_count(samples: int, settings: FeatureSettings) -> int:
    """T, the whole frames in so many samples (Kaldi's snip-edges); 0 when there is none."""
    if samples < settings.samples_per_frame:
        return 0
    return 1 + (samples - settings.samples_per_frame) // settings.samples_per_shift


def mfcc(samples: Floats, settings: FeatureSettings) -> Floats:
    """Mel cepstra with c0 the raw log energy: samples (N,) at 16-bit scale -> float32 (T, C).

    Source: Kaldi, feat/feature-window.cc, mel-computations.cc, feature-mfcc.cc.
    """
    tables = _tables(settings)
    length, shift = settings.samples_per_frame, settings.samples_per_shift
    frames = frame_count(len(samples), settings)
    cepstra = np.empty((frames, settings.cepstra), np.float32)
    if not frames:
        return cepstra
    noise = None
    if settings.dither:
        noise = np.random.default_rng([settings.dither_seed, zlib.crc32(samples.tobytes())])
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[::shift]
    padded = np.zeros((min(frames, _AT_ONCE), tables.fft_size), np.float32)
    preemphasis = np.float32(settings.preemphasis)
    for begin in range(0, frames, _AT_ONCE):
        out = cepstra[begin : begin + _AT_ONCE]
        frame = windows[begin : begin + _AT_ONCE]
        if noise is not None:
            frame = frame + np.float32(settings.dither) * noise.standard_normal(frame.shape, np.float32)
        frame = frame - frame.mean(axis=1, keepdims=True)
        energy = np.einsum("tl,tl->t", frame, frame)
        emphasised = padded[: len(frame), :length]
        np.multiply(frame[:, :-1], preemphasis, out=emphasised[:, 1:])
        np.subtract(frame[:, 1:], emphasised[:, 1:], out=emphasised[:, 1:])
        emphasised[:, 0] = frame[:, 0] - preemphasis * frame[:, 0]
        emphasised *= tables.window
        spectrum = np.fft.rfft(padded[: len(frame)], axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mel = np.maximum(power.astype(np.float32, copy=False) @ tables.mel, _FLOOR)
        np.matmul(np.log(mel, out=mel), tables.dct, out=out)
        out[:, 0] = np.log(np.maximum(energy, _FLOOR))
    return cepstra


def add_deltas(features: Floats, order: int, window: int) -> Floats:
    """Features (T, C) -> (T, C · (1 + order)): the features, then their derivatives of rising order.

    Every order is one kernel applied to the original features with the edge frame repeated, which differs
    from differentiating twice in the first and last frames. Source: Kaldi, feat/feature-functions.cc.
    """
    frames, width = features.shape
    out = np.empty((frames, width * (1 + order)), np.float32)
    out[:, :width] = features
    if not frames:
        return out
    padded = np.pad(features, ((order * window, order * window), (0, 0)), mode="edge")
    for at in range(1, order + 1):
        kernel = delta_kernel(at, window)
        begin = (order - at) * window
        total = np.zeros_like(features)
        for shift, weight in enumerate(kernel):
            if weight:
                total += weight * padded[begin + shift : begin + shift + frames]
        out[:, at * width : (at + 1) * width] = total
    return out


@lru_cache(maxsize=32)
def delta_kernel(order: int, window: int) -> Floats:
    """The kernel (2 · order · window + 1,) of one order: [-2 … 2] / 10 convolved `order` times with itself."""
    slope = np.arange(-window, window + 1, dtype=np.float64)
    slope /= np.sum(slope**2)
    kernel = np.ones(1)
    for _ in range(order):
        kernel = np.convolve(kernel, slope)
    return kernel.astype(np.float32)


@lru_cache(maxsize=8)
def _tables(settings: FeatureSettings) -> _Tables:
    length = settings.samples_per_frame
    fft_size = 1 << (length - 1).bit_length()
    at = np.arange(length)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * at / (length - 1))) ** 0.85  # Povey's
    mels, count = settings.mel_bins, settings.cepstra
    dct = np.cos(np.pi / mels * np.outer(np.arange(mels) + 0.5, np.arange(count))) * np.sqrt(2 / mels)
    dct[:, 0] = np.sqrt(1 / mels)
    if settings.lifter:
        dct *= 1 + 0.5 * settings.lifter * np.sin(np.pi * np.arange(count) / settings.lifter)
    banks = _mel_banks(settings, fft_size)
    return _Tables(window.astype(np.float32), fft_size, banks, dct.astype(np.float32))


def _mel_banks(settings: FeatureSettings, fft_size: int) -> Floats:
    """Triangles that are even on the mel scale, (fft_size / 2 + 1, mel bins); the Nyquist bin is left out."""

    def mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)

    high = settings.high_hz or settings.sample_rate / 2
    edges = np.linspace(mel(settings.low_hz), mel(high), settings.mel_bins + 2)
    bins = mel(np.arange(fft_size // 2) * settings.sample_rate / fft_size)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    banks = np.zeros((fft_size // 2 + 1, settings.mel_bins), np.float32)
    banks[:-1] = np.maximum(triangles, 0)
    return banks
