"""What a synthetic corpus is made of, and three shapes it can take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unheard.errors import ConfigError, did_you_mean
from unheard.manifest import FOUR, LABELS

VERSION = 1
"""Of the generator: audio made by another version is another corpus."""

PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class SyntheticSettings:
    """A synthetic corpus: everything in it follows from these values.

    The last `test_speakers` speakers are the part `test`, the `dev_speakers` before them `dev`; women and men
    alternate. Each speaker says each of `sentences` sentences `repetitions` times in each emotion, unless
    `counts` (a row a speaker, a column an emotion) says how often. `entanglement` in [0, 1] is the dial.
    Durations are seconds, log-normal around `mean_duration` with `std_duration`, cut to [shortest, longest].
    `sessions` puts two successive speakers in one session. Raises `ConfigError` for a value out of range.
    """

    speakers: int = 16
    sentences: int = 4
    repetitions: int = 1
    emotions: tuple[str, ...] = FOUR
    entanglement: float = 0.0
    seed: int = 0
    sample_rate: int = 16000
    mean_duration: float = 2.0
    std_duration: float = 0.4
    shortest: float = 0.8
    longest: float = 30.0
    dev_speakers: int = 4
    test_speakers: int = 4
    counts: tuple[tuple[int, ...], ...] | None = None
    sessions: bool = False
    format: str = "wav"

    def __post_init__(self) -> None:
        object.__setattr__(self, "emotions", tuple(self.emotions))
        if self.counts is not None:
            object.__setattr__(self, "counts", tuple(tuple(row) for row in self.counts))
        for label in self.emotions:
            if label not in LABELS:
                raise ConfigError(f"unknown emotion '{label}'", mend=did_you_mean(label, LABELS))
        train = self.speakers - self.dev_speakers - self.test_speakers
        limits = {
            "at least one emotion, each once": 0 < len(self.emotions) == len(set(self.emotions)),
            "entanglement from 0 to 1": 0 <= self.entanglement <= 1,
            "sentences and repetitions from 1 to 999": 1 <= self.sentences <= 999 >= self.repetitions >= 1,
            "dev_speakers and test_speakers that leave a training speaker": (
                train >= 1 and self.dev_speakers >= 0 <= self.test_speakers
            ),
            "a sample_rate from 8000 to 48000": 8000 <= self.sample_rate <= 48000,
            "0.3 <= shortest <= mean_duration <= longest <= 600": (
                0.3 <= self.shortest <= self.mean_duration <= self.longest <= 600
            ),
            "a finite std_duration of 0 or more": 0 <= self.std_duration < math.inf,
            "the format wav or flac": self.format in ("wav", "flac"),
            "counts with a row a speaker and a column an emotion, none negative": self.counts is None
            or (
                len(self.counts) == self.speakers
                and all(len(row) == len(self.emotions) and min(row) >= 0 for row in self.counts)
            ),
        }
        for wanted, holds in limits.items():
            if not holds:
                raise ConfigError(f"a synthetic corpus needs {wanted}", mend="Change that setting.")

    def part(self, speaker: int) -> str:
        """The part of speaker number `speaker`, from 0."""
        if speaker >= self.speakers - self.test_speakers:
            return "test"
        return "dev" if speaker >= self.speakers - self.test_speakers - self.dev_speakers else "train"


def demo(entanglement: float = 0.0, seed: int = 0) -> SyntheticSettings:
    """Sixteen speakers, 512 short utterances: made in seconds."""
    return SyntheticSettings(repetitions=2, entanglement=entanglement, seed=seed)


def iemocap_shaped(counts: Mapping[str, Mapping[str, int]], seed: int = 0) -> SyntheticSettings:
    """Ten speakers in five sessions, long-tailed durations: median 3.4 s, up to 29 s.

    `counts` says how many utterances of which emotion each speaker has (speaker -> emotion -> number), the
    woman before the man of each session. Raises `ConfigError` for an odd number of speakers.
    """
    if len(counts) % 2:
        raise ConfigError(f"{len(counts)} speakers do not make pairs", mend="Give two a session.")
    emotions = tuple(label for label in LABELS if any(row.get(label) for row in counts.values()))
    return SyntheticSettings(
        speakers=len(counts),
        sentences=40,
        emotions=tuple(sorted(emotions)),
        counts=tuple(tuple(row.get(label, 0) for label in sorted(emotions)) for row in counts.values()),
        dev_speakers=1,
        test_speakers=1,
        sessions=True,
        mean_duration=4.4,
        std_duration=3.6,
        shortest=0.6,
        longest=29.0,
        seed=seed,
    )


def mandarin_shaped(entanglement: float = 0.0, seed: int = 0) -> SyntheticSettings:
    """250 speakers, 53,803 utterances of 2.80 ± 0.68 s: 43,202 / 5,407 / 5,194 in train / dev / test."""
    totals = [*_spread(43202, 200), *_spread(5407, 25), *_spread(5194, 25)]
    counts = []
    for speaker, total in enumerate(totals):
        row = _spread(total, len(FOUR))
        turn = speaker % len(row)  # so that the emotion with one utterance more is another for each speaker
        counts.append((*row[turn:], *row[:turn]))
    base = SyntheticSettings(mean_duration=2.8, std_duration=0.68, longest=8.0, sentences=100, seed=seed)
    return replace(
        base,
        speakers=250,
        dev_speakers=25,
        test_speakers=25,
        counts=tuple(counts),
        entanglement=entanglement,
    )


def _spread(total: int, places: int) -> Sequence[int]:
    """`total` in `places` whole numbers that differ by at most one."""
    return [total // places + (place < total % places) for place in range(places)]
