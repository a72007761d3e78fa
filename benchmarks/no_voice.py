"""Whether sounds without a voice are told from speech, also where they last half a second.

    python -m benchmarks.no_voice --corpora data --names emodb,ravdess,ased,nemo
    python -m benchmarks.no_voice --corpora data --names emodb,ravdess,ased,nemo --fit

A seeded half of each corpus's speakers, and every other seed of each synthesised sound, choose the weights of short
sounds in `unheard.recogniser.speech` (--fit prints them); the other half is reported: the share that would be left
without an answer, of utterances (their first 3 s), of excerpts of 0.35 to 0.9 s, alone and between silence, and of
synthesised sounds as short as these. The threshold of short sounds leaves 1 % of the first half's excerpts out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unheard.audio import read_audio
from unheard.corpora import read_corpus
from unheard.features.analysis import log_energies
from unheard.features.settings import FeatureSettings
from unheard.recogniser.speech import RATE, SHORT, score, statistics
from unheard.recogniser.windows import find_speech

Floats = NDArray[np.float32]
Random = np.random.Generator

SETTINGS = FeatureSettings(deltas=0)
LEFT_OUT = 0.01
"""Share of the excerpts of the first half below the threshold."""


class Measured(NamedTuple):
    """One sound: where it is from, how it was cut, whether it is reported, its statistics and score."""

    source: str
    cut: str
    reported: bool
    voice: bool
    seconds: float
    abstained: str
    values: NDArray[np.float64] | None
    score: float

    @property
    def unanswered(self) -> bool:
        return bool(self.abstained) or self.score < 0


def measured(source: str, cut: str, reported: bool, voice: bool, samples: Floats) -> Measured:
    log_energy = log_energies(samples, SETTINGS)
    speech = find_speech(log_energy, SETTINGS)
    given = samples, log_energy, speech.frames
    reason = speech.too_little or ""
    return Measured(source, cut, reported, voice, speech.seconds, reason, statistics(*given), score(*given))


def between_silence(samples: Floats) -> Floats:
    return np.pad(samples, RATE // 2)


def excerpt(samples: Floats, random: Random) -> Floats | None:
    """Draw 0.35 to 0.9 s that begin where the recording is louder than its median."""
    length = round(RATE * random.uniform(0.35, 0.9))
    if len(samples) <= length:
        return None
    energy = np.convolve(samples**2, np.ones(800), "same")[: len(samples) - length : 160]
    first = int(random.choice(np.flatnonzero(energy >= np.median(energy)))) * 160
    return samples[first : first + length]


def of_corpora(folder: Path, names: Sequence[str], files: int, random: Random) -> Iterator[Measured]:
    """Measure utterances and excerpts of `files` recordings of each corpus."""
    for name in names:
        manifest = read_corpus(name, folder / name, partial=True)
        speakers = random.permutation(manifest.speakers)
        reported = set(speakers[: len(speakers) // 2])
        for place in random.permutation(len(manifest))[:files]:
            row = manifest[int(place)]
            samples = read_audio(row.audio, start=row.start, end=row.end, sample_rate=RATE)
            yield measured(name, "whole", row.speaker in reported, True, samples[: 3 * RATE])
            short = excerpt(samples, random)
            if short is not None:
                yield measured(name, "short", row.speaker in reported, True, short)
                yield measured(name, "short, between silence", row.speaker in reported, True, between_silence(short))


def sine(time: NDArray[np.float64], frequency: NDArray[np.float64] | float, harmonics: int = 1) -> NDArray[np.float64]:
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, time.shape)) / RATE
    found: NDArray[np.float64] = np.sum([np.sin(k * phase) / k for k in range(1, harmonics + 1)], axis=0)
    return found


def fading(time: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hanning(len(time)) ** 0.5


KINDS: dict[str, Callable[[Random, NDArray[np.float64]], NDArray[np.float64]]] = {
    "tone": lambda draw, t: sine(t, draw.uniform(80, 4000)),
    "trembling tone": lambda draw, t: sine(t, draw.uniform(80, 4000)) * (0.6 + 0.4 * sine(t, draw.uniform(2, 12))),
    "fading tone": lambda draw, t: sine(t, draw.uniform(80, 4000)) * fading(t),
    "struck tone": lambda draw, t: sine(t, draw.uniform(80, 4000)) * np.exp(-t * draw.uniform(3, 15)),
    "two tones": lambda draw, t: (sine(t, draw.uniform(200, 1000)) + sine(t, draw.uniform(1000, 2000))) * fading(t),
    "two beeps": lambda draw, t: sine(t, draw.uniform(200, 2000, 2)[(2 * t > t[-1]).astype(int)]) * np.abs(sine(t, 3)),
    "sweep": lambda draw, t: sine(t, draw.uniform(100, 3000) + draw.uniform(0, 2000) * t),
    "string": lambda draw, t: sine(t, draw.uniform(80, 500), 12) * np.exp(-t * draw.uniform(0, 10)),
    "organ": lambda draw, t: np.sign(sine(t, draw.uniform(60, 600))) * fading(t),
    "vibrato": lambda draw, t: sine(t, draw.uniform(150, 800) * (1 + 0.02 * sine(t, 5.5)), 8) * fading(t),
    "chord": lambda draw, t: np.sum([sine(t, draw.uniform(150, 400) * r, 5) for r in (1, 1.25, 1.5)], axis=0),
    "noise": lambda draw, t: draw.standard_normal(len(t)) * fading(t),
    "struck noise": lambda draw, t: draw.standard_normal(len(t)) * np.exp(-t * draw.uniform(5, 25)),
    "drum": lambda draw, t: sine(t, draw.uniform(50, 90)) * np.exp(-10 * t),
    "clicks": lambda draw, t: np.convolve(draw.random(len(t)) < 6 / len(t), np.exp(-np.arange(400) / 60))[: len(t)],
}  # fmt: skip


def of_synthesis(seeds: int, seed: int) -> Iterator[Measured]:
    """Measure short sounds of every kind."""
    for (place, (name, make)), number in (
        (kind, number) for kind in enumerate(KINDS.items()) for number in range(seeds)
    ):
        draw = np.random.default_rng((seed, place, number))
        time = np.arange(round(RATE * draw.uniform(0.35, 0.9))) / RATE
        sound = make(draw, time)
        noise = draw.uniform(0, 1e-3) * draw.standard_normal(len(time))
        samples = (draw.uniform(0.05, 0.9) * sound / max(np.abs(sound).max(), 1e-9) + noise).astype(np.float32)
        yield measured(name, "short", number % 2 == 0, False, samples)
        yield measured(name, "short, between silence", number % 2 == 0, False, between_silence(samples))


def fitted(sounds: Sequence[Measured]) -> dict[str, NDArray[np.float64]]:
    """Fit a logistic regression on the short sounds of the first half; returns its weights with the threshold in."""
    from sklearn.linear_model import LogisticRegression

    own = [one for one in sounds if not one.reported and one.cut != "whole" and not one.abstained]
    own = [one for one in own if one.values is not None and one.seconds < SHORT / 100]
    values, voice = (
        np.stack([one.values for one in own if one.values is not None]),
        np.array([one.voice for one in own]),
    )
    mean, scale = values[voice].mean(axis=0), values[voice].std(axis=0)
    unit = np.clip((values - mean) / scale, -4, 4)
    model = LogisticRegression(C=3, max_iter=5000, class_weight="balanced").fit(np.hstack([unit, unit**2]), voice)
    linear, square = np.split(model.coef_[0], 2)
    raw = unit @ linear + unit**2 @ square
    bias = -np.quantile(raw[voice], LEFT_OUT)
    return {"mean": mean, "scale": scale, "linear": linear, "square": square, "bias": np.array([bias])}


def table(sounds: Sequence[Measured]) -> str:
    """Return a Markdown table of the reported half: how many sounds, and the share without an answer."""

    def cells(name: str, of: Sequence[Measured]) -> str:
        enough = [one for one in of if not one.abstained.startswith("too little")]
        share = np.mean([one.unanswered for one in enough]) if enough else np.nan
        return f"| {name} | {len(enough)} | {100 * share:.1f} |"

    reported = [one for one in sounds if one.reported]
    lines = ["| Sound | n | without an answer, % |", "|---|---:|---:|"]
    for voice, word in ((True, "speech"), (False, "synthesised")):
        for cut in dict.fromkeys(one.cut for one in reported if one.voice == voice):
            of = [one for one in reported if one.voice == voice and one.cut == cut]
            lines.append(cells(f"{word}, {cut}", of))
            for name in dict.fromkeys(one.source for one in of):
                lines.append(cells(f"… {name}", [one for one in of if one.source == name]))
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, help="folder with a folder for each corpus")
    parser.add_argument("--names", default="", help="corpora, separated by commas")
    parser.add_argument("--files", type=int, default=400, help="recordings of each corpus")
    parser.add_argument("--sounds", type=int, default=80, help="synthesised sounds of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", action="store_true", help="print weights for short sounds")
    options = parser.parse_args(words)
    names = [name for name in options.names.split(",") if name]
    sounds = list(of_corpora(options.corpora, names, options.files, np.random.default_rng(options.seed)))
    sounds += of_synthesis(options.sounds, options.seed)
    if options.fit:
        for name, values in fitted(sounds).items():
            print(f"{name}: {', '.join(f'{value:.4f}' for value in values)}")
    print(table(sounds))


if __name__ == "__main__":
    main(sys.argv[1:])
