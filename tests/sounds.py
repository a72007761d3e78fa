"""Sounds made on the spot: murmurs that a VAD takes for speech, and silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def murmur(seconds: float, seed: int = 0, rate: int = RATE, loudness: float = 0.2) -> np.ndarray:
    """Noise in syllables, four a second: float32 (N,)."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (loudness * noise * np.sin(2 * np.pi * 2 * time) ** 2).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def hiss(seconds: float, seed: int = 0, loudness: float = 0.05) -> np.ndarray:
    """Steady noise."""
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (loudness * drawn).astype(np.float32)


def call() -> np.ndarray:
    """Twenty seconds: speech, a pause, louder speech of another colour."""
    other = np.convolve(murmur(7.4, 1, loudness=0.6), np.ones(12) / 12, mode="same").astype(np.float32)
    return np.concatenate([murmur(6.3), silence(6.3), other])


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path
