"""Augmented copies of a recording for training: a changed voice, microphone, room, noise or telephone line.

    samples -> resampled (vocal tract, pitch and tempo together) -> equaliser -> [room] -> [noise] -> [telephone]

Copies are analysed once and stored beside the recordings, since an encoder is too slow to run in every epoch. Random
changes depend only on the samples and the copy's number. Source: Ko et al. 2015 and 2017 (speed, reverberation).
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from unheard.audio import resample

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

RATE = 16_000
WARP = 0.15  # largest change of the speed, as a natural logarithm
EQUALISER_DB = 4.0  # standard deviation of the equaliser's eight gains
REVERBERATION = (0.1, 0.7)  # shortest and longest reverberation time (decay by 60 dB), in seconds
SNR_DB = (5.0, 30.0)
TELEPHONE_HZ = (300, 3400)


def changed(samples: Floats, copy: int) -> Floats:
    """Return augmented copy `copy` (1, 2, ...) of samples (N,) at 16 kHz: (N',), at most 16 % longer or shorter."""
    if len(samples) < RATE // 10 or not np.isfinite(samples).all():
        return samples  # a shorter copy may have no frame; samples that are not finite are reported by the analysis
    random = np.random.default_rng([crc32(samples.tobytes()), copy])
    x = resample(samples, RATE, round(RATE * float(np.exp(random.uniform(-WARP, WARP))))).astype(np.float64)
    x = equalised(x, random)
    if random.random() < 0.5:
        x = in_room(x, random)
    if random.random() < 0.5:
        x = in_noise(x, random, random.uniform(*SNR_DB))
    if random.random() < 0.2:
        x = telephone(x)
    return (x / max(1.0, float(np.abs(x).max()))).astype(np.float32)


def equalised(x: Doubles, random: np.random.Generator) -> Doubles:
    """Apply random gains to eight bands, which are narrower at low frequencies."""
    frequencies = np.log1p(np.fft.rfftfreq(len(x), 1 / RATE) / 300)
    gains = np.interp(frequencies, np.linspace(0, np.log1p(RATE / 600), 8), random.normal(0, EQUALISER_DB, 8))
    return np.fft.irfft(np.fft.rfft(x) * 10 ** (gains / 20), len(x))


def in_room(x: Doubles, random: np.random.Generator) -> Doubles:
    """Add reverberation: exponentially decaying noise, 8 to 24 dB below the direct sound."""
    seconds = random.uniform(*REVERBERATION)
    tail = random.normal(size=round(seconds * RATE))
    tail *= np.exp(-np.log(1000) * np.arange(len(tail)) / len(tail))
    tail *= random.uniform(0.06, 0.4) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    size = len(x) + len(tail)
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(tail, size), size)[: len(x)]


def in_noise(x: Doubles, random: np.random.Generator, snr_db: float = 10.0) -> Doubles:
    """Add noise `snr_db` below the root mean square of the samples."""
    return x + noise(len(x), random) * _rms(x) / 10 ** (snr_db / 20)


def noise(n: int, random: np.random.Generator) -> Doubles:
    """Draw noise (n,) with an RMS of 1, whose spectrum falls by 0 to 7 dB per octave."""
    spectrum = np.fft.rfft(random.normal(size=n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / RATE), 50) ** -random.uniform(0, 1.2)
    x = np.fft.irfft(spectrum, n)
    return x / max(_rms(x), 1e-12)


def telephone(x: Doubles) -> Doubles:
    """Simulate a narrow-band line: 300 to 3400 Hz, 8 kHz, 8 bits with mu-law companding as in G.711."""
    narrow = resample(x.astype(np.float32), RATE, RATE // 2).astype(np.float64)
    spectrum = np.fft.rfft(narrow)
    frequencies = np.fft.rfftfreq(len(narrow), 2 / RATE)
    spectrum[(frequencies < TELEPHONE_HZ[0]) | (frequencies > TELEPHONE_HZ[1])] = 0
    narrow = np.fft.irfft(spectrum, len(narrow))
    peak = max(float(np.abs(narrow).max()), 1e-9)
    levels = np.round(127 * np.log1p(255 * np.abs(narrow) / peak) / np.log(256))
    narrow = np.sign(narrow) * (256 ** (levels / 127) - 1) / 255 * peak
    wide = resample(narrow.astype(np.float32), RATE // 2, RATE).astype(np.float64)
    return np.resize(wide, len(x)) if len(wide) >= len(x) else np.pad(wide, (0, len(x) - len(wide)))


def _rms(x: Doubles) -> float:
    return float(np.sqrt(np.mean(x**2)))
