"""Sounds made on the spot: murmurs that a VAD takes for speech, and silence."""

from __future__ import annotations

import io
from collections.abc import Callable
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


def tone(seconds: float = 1.0, rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(
    samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None, **how: str
) -> bytes:
    """A recording as the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype, **how)
    return file.getvalue()


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


# Sounds without a voice, four seconds each.

Random = np.random.Generator
TIME = np.arange(4 * RATE) / RATE


def harmonics(frequency: np.ndarray | float, count: int = 8) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, TIME.shape)) / RATE
    return sum(np.sin(k * phase) / k for k in range(1, count + 1))


def notes(draw: Random, rate: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of a melody and its envelope, (N,) each."""
    steps = draw.integers(-7, 12, 40)[(TIME * rate).astype(int)]
    since = TIME % (1 / rate)
    return 220 * 2 ** (steps / 12), np.minimum(since / 0.02, 1) * np.exp(-since / 0.2)


def melody(draw: Random) -> np.ndarray:
    frequency, envelope = notes(draw)
    return harmonics(frequency * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * TIME))) * envelope


def chords(draw: Random) -> np.ndarray:
    frequency, envelope = notes(draw, 2.0)
    return sum(harmonics(frequency * ratio) for ratio in (1, 1.25, 1.5)) * envelope


def drums(draw: Random) -> np.ndarray:
    since = TIME % draw.uniform(0.15, 0.3)
    return np.sin(2 * np.pi * 60 * since) * np.exp(-15 * since) + 0.5 * draw.standard_normal(len(TIME)) * np.exp(
        -40 * since
    )


def dtmf(draw: Random) -> np.ndarray:
    place = (TIME * 4).astype(int)
    low, high = draw.choice([697, 770, 852, 941], 16)[place], draw.choice([1209, 1336, 1477], 16)[place]
    return (harmonics(low, 1) + harmonics(high, 1)) * ((TIME * 4) % 1 < 0.6)


def stepped(draw: Random) -> np.ndarray:
    place = (TIME * 3).astype(int)
    return harmonics(draw.uniform(100, 1500, 12)[place], 1) * draw.uniform(0.1, 1, 12)[place]


def siren(draw: Random) -> np.ndarray:
    turn = np.sin(2 * np.pi * draw.uniform(0.3, 3) * TIME)
    return harmonics(600 + 250 * turn, 5) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * TIME))


def ringing(draw: Random) -> np.ndarray:
    return (harmonics(draw.uniform(400, 500), 1) + harmonics(draw.uniform(500, 900), 1)) * (TIME % 1 < 0.5)


def hum(draw: Random) -> np.ndarray:
    return harmonics(50.0) * (1 + 0.8 * np.sin(2 * np.pi * draw.uniform(1, 5) * TIME))


def pink(draw: Random) -> np.ndarray:
    spectrum = np.fft.rfft(draw.standard_normal(len(TIME)))
    return np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), len(TIME)) * np.sin(2 * np.pi * TIME)


def clicks(draw: Random) -> np.ndarray:
    found = np.zeros(len(TIME))
    found[draw.integers(0, len(TIME), 30)] = 1
    return np.convolve(found, np.exp(-np.arange(400) / 60))[: len(TIME)]


def modulated(draw: Random) -> np.ndarray:
    return murmur(4, int(draw.integers(1000)))


def white(draw: Random) -> np.ndarray:
    return hiss(4, int(draw.integers(1000)))


def formant(sound: np.ndarray, hertz: float, width: float) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    place = np.fft.rfftfreq(len(sound), 1 / RATE)
    return np.fft.irfft(spectrum * np.exp(-(((place - hertz) / width) ** 2)), len(sound))


def plucked(draw: Random) -> np.ndarray:
    """Strings after Karplus and Strong, three a second."""
    found = np.zeros(len(TIME))
    for start in range(0, len(TIME), RATE // 3):
        string = draw.standard_normal(round(RATE / (110 * 2 ** (draw.integers(0, 24) / 12))))
        rounds = [string := 0.498 * (string + np.roll(string, 1)) for _ in range(-(-RATE // 3 // len(string)))]
        piece = np.concatenate(rounds)[: len(found) - start][: RATE // 3]
        found[start : start + len(piece)] = piece * np.linspace(1, 0, len(piece))
    return found


def bell(draw: Random) -> np.ndarray:
    gate = (np.sin(2 * np.pi * 20 * TIME) > 0) * 0.7 + 0.3
    return harmonics(draw.uniform(400, 480), 3) * gate * (TIME * 0.7 % 1 < 0.5)


def meow(draw: Random) -> np.ndarray:
    bow = np.sin(np.pi * (TIME % 1))
    sound = harmonics(draw.uniform(400, 700) * (1 + 0.4 * bow), 10) * bow
    return 3 * formant(sound, 1000, 500) + 2 * formant(sound, 2500, 700) + 0.2 * sound


def croaks(draw: Random) -> np.ndarray:
    place = (TIME * 4).astype(int)
    sound = harmonics(draw.uniform(60, 120, 16)[place], 40) * (draw.random(16) < 0.6)[place]
    return formant(sound, draw.uniform(500, 1500), 250) * np.hanning(RATE // 4)[(TIME * RATE).astype(int) % (RATE // 4)]


def band(draw: Random) -> np.ndarray:
    return melody(draw) + 0.5 * chords(draw) + 2 * drums(draw)


def steps(draw: Random) -> np.ndarray:
    since = TIME % draw.uniform(0.4, 0.6)
    return formant(draw.standard_normal(len(TIME)) * np.exp(-since * 50), 300, 400)


KINDS: tuple[Callable[[Random], np.ndarray], ...] = (
    *(melody, chords, drums, dtmf, stepped, siren, ringing, hum, pink, clicks, modulated, white),
    *(plucked, bell, meow, croaks, band, steps),
)
