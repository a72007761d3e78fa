"""Kaldi's MFCC, log-mel bands, deltas, energy-based VAD and pitch in numpy (pitch by kaldi-native-fbank).

This implementation is faster than kaldi-native-fbank, which returns one frame per call, and closer to Kaldi, because it
reproduces Kaldi's own FFT (see `srfft.py`). `benchmarks/features.py` compares both.

N samples, T frames, L samples per frame, C cepstra, M mel bands. Samples are at 16-bit scale (±32768) throughout.
"""

import threading
import zlib
from array import array
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unheard.errors import ConfigError, FeatureError
from unheard.features.settings import FeatureSettings
from unheard.features.srfft import PowerSpectrum

Floats = npt.NDArray[np.float32]

_WIDTHS = (16, 32, 64, 128)  # frames at a time: few enough for the cache, many enough for numpy
_LARGEST = 1 << 18  # samples at a time, which bounds the buffers if frames are long
_FLOOR = np.finfo(np.float32).eps  # Kaldi's floor under every logarithm


def frame_count(samples: int, settings: FeatureSettings) -> int:
    """Return T, the number of complete frames in `samples` samples (Kaldi's snip-edges)."""
    if samples < settings.samples_per_frame:
        return 0
    return 1 + (samples - settings.samples_per_frame) // settings.samples_per_shift


def spectral_frames(samples: Floats, settings: FeatureSettings, *, energy_only: bool = False) -> Floats:
    """Compute raw log energy and mel cepstra 1 … C - 1 or log-mel bands: samples (N,) -> float32 (T, C or 1 + M).

    With `energy_only`, only the first column is computed: (T, 1).

    Source: Kaldi, feat/feature-window.cc, mel-computations.cc, feature-mfcc.cc, feature-fbank.cc.
    """
    frames = frame_count(len(samples), settings)
    cepstral = settings.kind == "mfcc"
    features = np.empty(
        (frames, 1 if energy_only else settings.cepstra if cepstral else 1 + settings.mel_bins), np.float32
    )
    if not frames:
        return features
    tables, length = _tables(settings), settings.samples_per_frame
    noise = np.random.default_rng([settings.dither_seed, zlib.crc32(samples.tobytes())]) if settings.dither else None
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[:: settings.samples_per_shift]
    preemphasis = np.float32(settings.preemphasis)
    widths = [width for width in _WIDTHS if width * tables.fft_size <= _LARGEST] or _WIDTHS[:1]
    begin = 0
    while begin < frames:
        width = next((width for width in widths if width >= frames - begin), widths[-1])
        out = features[begin : begin + width]
        frame = np.zeros((length, width), np.float32)  # (L, T): every step below is vectorised over frames
        emphasised = np.empty_like(frame)
        frame[:, : len(out)] = windows[begin : begin + width].T
        if noise is not None:
            drawn = noise.standard_normal((len(out), length), np.float32)
            frame[:, : len(out)] += np.float32(settings.dither) * drawn.T
        frame -= frame.sum(axis=0) / np.float32(length)
        energy = np.square(frame, out=emphasised).sum(axis=0)[: len(out)]
        np.log(np.maximum(energy, _FLOOR), out=out[:, 0])
        begin += width
        if energy_only:
            continue
        np.multiply(frame[:-1], preemphasis, out=emphasised[1:])
        np.multiply(frame[0], preemphasis, out=emphasised[0])
        np.subtract(frame, emphasised, out=emphasised)
        spectrum = _spectrum(tables.fft_size // 2, width)
        for at, part in enumerate(spectrum.samples):  # even and odd
            used = len(range(at, length, 2))
            np.multiply(emphasised[at::2], tables.window[at::2], out=part[:used])
            part[used:] = 0
        spectrum.run()
        mel = np.log(np.maximum(_mel_energies(spectrum.power, tables), _FLOOR))
        coefficients = np.einsum("mt,mc->ct", mel, tables.dct) if cepstral else mel
        out[:, 1:] = coefficients.T[: len(out)]
    return features


_local = threading.local()


def _spectrum(points: int, width: int) -> PowerSpectrum:
    """Return this thread's power spectrum, with its buffers, of `points` points and `width` frames."""
    spectra: dict[tuple[int, int], PowerSpectrum] = _local.__dict__.setdefault("spectra", {})
    if (points, width) not in spectra:
        spectra[points, width] = PowerSpectrum(points, width)
    return spectra[points, width]


def add_deltas(features: Floats, order: int, window: int) -> Floats:
    """Append derivatives of order 1 to `order` to the features: (T, C) -> (T, C · (1 + order)).

    Every order applies one kernel to the original features with repeated edge frames, which differs from repeated
    differentiation in the first and last frames. Source: Kaldi, feat/feature-functions.cc.
    """
    frames = len(features)
    padded = np.pad(features, ((order * window,) * 2, (0, 0)), mode="edge") if frames else features
    blocks = [features]
    for at in range(1, order + 1):
        total, begin = np.zeros_like(features), (order - at) * window
        for shift, weight in enumerate(delta_kernel(at, window), start=begin):
            if weight:
                total += weight * padded[shift : shift + frames]
        blocks.append(total)
    return np.hstack(blocks)


@lru_cache(maxsize=32)
def delta_kernel(order: int, window: int) -> Floats:
    """Return the kernel (2 · order · window + 1,) of one order: with window 2, [-2 … 2] / 10 convolved with itself."""
    slope = np.arange(-window, window + 1, dtype=np.float64)
    slope /= np.sum(slope**2)
    kernel = np.ones(1)
    for _ in range(order):
        kernel = np.convolve(kernel, slope)
    return kernel.astype(np.float32)


class _Tables(NamedTuple):
    """Constants of one setting; the mel filters are stored as slopes between their edges.

    A bin lies between two neighbouring edges, on the falling side of one filter and on the rising side of the next, so
    two sums over each interval compute all filters without a matrix product.
    """

    window: Floats  # (L, 1)
    fft_size: int
    rising: Floats  # (bins, 1)
    falling: Floats  # (bins, 1)
    first: npt.NDArray[np.intp]  # (mel bins + 1,), the first bin of every interval
    bins: slice  # bins between the lowest and the highest edge
    empty: npt.NDArray[np.bool_]  # (mel bins + 1, 1), intervals without a bin
    dct: Floats  # (mel bins, C - 1), liftered


def _mel_energies(power: Floats, tables: _Tables) -> Floats:
    """Compute mel energies (mel bins, T) from power (bins, T)."""
    inside = power[tables.bins]
    rising, falling = (np.add.reduceat(inside * side, tables.first, axis=0) for side in (tables.rising, tables.falling))
    if tables.empty.any():
        rising, falling = np.where(tables.empty, 0, rising), np.where(tables.empty, 0, falling)
    energies: Floats = rising[:-1] + falling[1:]
    return energies


@lru_cache(maxsize=8)
def _tables(settings: FeatureSettings) -> _Tables:
    length = settings.samples_per_frame
    fft_size = max(4, 1 << (length - 1).bit_length())
    at = np.arange(length)
    window = (0.5 - 0.5 * np.cos(2 * np.pi / (length - 1) * at)) ** 0.85  # Povey's
    mels, count = settings.mel_bins, settings.cepstra
    dct = np.cos(np.pi / mels * np.outer(np.arange(mels) + 0.5, np.arange(count))) * np.sqrt(2 / mels)
    if settings.lifter:
        dct *= 1 + 0.5 * settings.lifter * np.sin(np.pi * np.arange(count) / settings.lifter)

    # Single precision in every step, as in Kaldi: rounding matters for a strong tone near an edge.
    single = np.float32
    low, high = _mel(single(settings.low_hz)), _mel(single(settings.high_hz or settings.sample_rate / 2))
    step = (high - low) / single(mels + 1)
    edges = low + np.arange(mels + 2, dtype=single) * step
    bins = _mel(np.arange(fft_size // 2, dtype=single) * single(settings.sample_rate / fft_size))
    first = np.searchsorted(bins, edges, side="right")
    inside = slice(int(first[0]), int(first[-1]))
    interval = np.searchsorted(first, np.arange(inside.start, inside.stop), side="right") - 1
    mel, left, right = bins[inside], edges[interval], edges[interval + 1]
    counts = np.diff(first)
    if inside.start == inside.stop or np.any(counts[:-1] + counts[1:] == 0):
        what = f"{mels} mel bins are too many: some contain no bin of the {fft_size}-point spectrum"
        raise ConfigError(what, mend="Use fewer mel bins or longer frames.")
    return _Tables(
        window=window.astype(single)[:, None],
        fft_size=fft_size,
        rising=((mel - left) / (right - left))[:, None],
        falling=((right - mel) / (right - left))[:, None],
        first=np.minimum(first[:-1] - inside.start, inside.stop - inside.start - 1),
        bins=inside,
        empty=(counts == 0)[:, None],
        dct=dct[:, 1:].astype(single),
    )


def _mel(hz: npt.NDArray[np.float32] | np.float32) -> Floats:
    """Convert Hz to Kaldi's mel scale, with the logarithm rounded to single precision."""
    ratio = np.float32(1) + np.asarray(hz, np.float32) / np.float32(700)
    mels: Floats = np.float32(1127) * np.log(ratio.astype(np.float64)).astype(np.float32)
    return mels


# Energy-based voice activity detection (`compute-vad`).


@dataclass(frozen=True, slots=True)
class EnergyVad:
    """Parameters of the VAD: a frame is voiced if enough frames around it exceed a threshold of the log energy.

    The threshold is `threshold + mean_scale · mean(log energy)`. At least `proportion` of the existing frames
    t - `context` … t + `context` must exceed it.
    """

    threshold: float
    mean_scale: float
    context: int
    proportion: float


VAD_PRESETS = {
    "xvector": EnergyVad(threshold=5.5, mean_scale=0.5, context=2, proportion=0.12),
    "ivector": EnergyVad(threshold=5.5, mean_scale=0.5, context=0, proportion=0.6),
    "kaldi_default": EnergyVad(threshold=5.0, mean_scale=0.5, context=0, proportion=0.6),
}
"""Settings of Kaldi's x-vector recipes, its i-vector recipes, and the defaults of `compute-vad`."""


def voiced_frames(log_energy: npt.NDArray[np.float32], vad: EnergyVad) -> npt.NDArray[np.bool_]:
    """Return the mask of voiced frames, bool (T,), from log energies (T,) at 16-bit scale.

    Source: Kaldi, `ComputeVadEnergy` in ivector/voice-activity-detection.cc.
    """
    frames = len(log_energy)
    mean = log_energy.sum(dtype=np.float64) / max(frames, 1)
    threshold = np.float32(vad.threshold + vad.mean_scale * mean)
    loud = np.concatenate([[0], np.cumsum(log_energy > threshold)])
    at = np.arange(frames)
    first, last = np.maximum(at - vad.context, 0), np.minimum(at + vad.context + 1, frames)
    # Compared in single precision, as in Kaldi: 5 · 0.6f is not 3.
    needed = (last - first).astype(np.float32) * np.float32(vad.proportion)
    voiced: npt.NDArray[np.bool_] = (loud[last] - loud[first]).astype(np.float32) >= needed
    return voiced


# Pitch: `compute-and-process-kaldi-pitch-feats`, computed by kaldi-native-fbank (Ghahremani et al. 2014, A pitch
# extraction algorithm tuned for automatic speech recognition). Columns, in Kaldi's order:
#
#   voicing    Kaldi's POV feature: the normalised cross-correlation at the pitch's lag, warped; -1.5 for a perfectly
#              periodic frame, 0 for an aperiodic one
#   log pitch  2 · (log F0 - its mean over 1.5 s, weighted by voicing); with `log_pitch` normalised or both
#   change     10 · the slope of log F0 over five frames, with Kaldi's noise of 0.005 (a fixed sequence)
#   raw        log F0, F0 in Hz; with `log_pitch` raw or both
#
# F0 is defined in every frame: in unvoiced frames it is interpolated from voiced neighbours.


def pitch_frames(samples: Floats, settings: FeatureSettings) -> Floats:
    """Compute pitch features of samples (N,) at 16-bit scale: float32 (T, 3), or (T, 4) with both kinds of log pitch.

    T is the same as for the spectral features: pitch is extracted at 4 kHz, where rounding may give one frame more or
    less, so the last one is dropped or repeated. Raises `FeatureError` without kaldi-native-fbank.
    """
    knf = pitch_library()
    search = knf.PitchExtractionOptions(
        samp_freq=settings.sample_rate,
        frame_shift_ms=settings.frame_shift_ms,
        frame_length_ms=settings.frame_length_ms,
        min_f0=settings.pitch_low_hz,
        max_f0=settings.pitch_high_hz,
    )
    process = knf.ProcessPitchOptions(
        add_normalized_log_pitch=settings.log_pitch != "raw", add_raw_log_pitch=settings.log_pitch != "normalised"
    )
    pitch = knf.compute_and_process_kaldi_pitch(search, process, array("f", samples.tobytes()))  # faster than a list
    pitch = np.asarray(pitch, np.float32).reshape(-1, settings.pitch_dim)
    indices = np.minimum(np.arange(frame_count(len(samples), settings)), len(pitch) - 1)
    return pitch[indices] if len(pitch) else np.zeros((len(indices), settings.pitch_dim), np.float32)


def pitch_library() -> Any:
    """Import and return kaldi_native_fbank; raises `FeatureError` if it is missing or too old for pitch."""
    module = None
    with suppress(ImportError):
        module = import_module("kaldi_native_fbank")
    if not hasattr(module, "compute_and_process_kaldi_pitch"):
        mend = 'Install it with: pip install -U "kaldi-native-fbank>=1.23", or leave out pitch.'
        raise FeatureError("pitch needs kaldi-native-fbank 1.23 or later, which is not installed", mend=mend)
    return module
