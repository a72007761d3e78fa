"""Who says what, how: the invented speakers and everything they will say, before any sound is made.

The dial works here. At `entanglement` d every training speaker has a favourite emotion, which takes the share
70 % · d of the speaker's utterances beside its even share, and every speaker of every part has a channel colour
of depth d. A training speaker's colour belongs to the favourite emotion; elsewhere it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from unheard.corpora.synthetic.settings import SyntheticSettings

FAVOURED = 0.7
"""The share of a training speaker's utterances that the dial at 1 moves to the favourite emotion."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker's habits. f0 Hz; tract: formants against an adult man's; rate: syllables per second;
    tilt dB per octave; span: semitones of pitch movement; breath, jitter: shares; level dB; strength: how much
    of an emotion the speaker shows; colour: which channel, of `depth` in [0, 1]."""

    name: str
    gender: str
    f0: float
    tract: float
    rate: float
    tilt: float
    span: float
    breath: float
    jitter: float
    level: float
    strength: float
    colour: int
    depth: float


@dataclass(frozen=True, slots=True)
class Manner:
    """How an emotion departs from the speaker's habit: level and slope in semitones, span and rate as
    factors (their natural logarithm), energy in dB, tilt in dB per octave, jitter and breath as shares,
    smile in dB around 2.5 kHz, where spread lips strengthen the formants."""

    level: float = 0.0
    slope: float = 0.0
    span: float = 0.0
    rate: float = 0.0
    energy: float = 0.0
    tilt: float = 0.0
    jitter: float = 0.0
    breath: float = 0.0
    smile: float = 0.0


MANNERS = {
    "neutral": Manner(),
    "angry": Manner(3.0, -1.5, 0.40, 0.12, 6.0, 3.2, 0.010, -0.02, 0.5),
    "happy": Manner(3.5, 1.5, 0.60, 0.08, 2.5, 0.8, 0.000, 0.00, 4.0),
    "sad": Manner(-1.5, -1.0, -0.60, -0.22, -5.0, -2.8, 0.004, 0.06, -0.5),
    "surprised": Manner(4.5, 4.0, 0.70, 0.00, 2.0, 0.5, 0.000, 0.02, -2.0),
    "fearful": Manner(4.0, 0.5, -0.20, 0.18, -1.0, -0.5, 0.015, 0.06, 1.0),
    "disgusted": Manner(-1.0, -2.0, 0.10, -0.15, 1.0, 1.2, 0.010, 0.01, -3.0),
    "calm": Manner(-1.0, 0.0, -0.30, -0.12, -2.5, -1.0, -0.002, 0.02, 0.5),
    "bored": Manner(-1.5, -0.5, -0.80, -0.18, -1.5, -1.0, 0.002, 0.01, -2.0),
    "excited": Manner(5.0, 1.0, 0.80, 0.18, 4.0, 1.8, 0.002, 0.00, 3.0),
    "frustrated": Manner(1.0, -2.5, 0.30, -0.02, 3.0, 1.8, 0.006, 0.00, -1.0),
    "other": Manner(0.5, 2.0, 0.00, 0.05, 0.5, 0.0, 0.000, 0.00, 0.0),
}
"""The emotions' departures; their size and that of the spread were set once, for a linear classifier of mean
and deviation of MFCC to be right about unseen speakers three to four times in five, with the dial at 0."""

_SPREAD = Manner(1.2, 1.5, 0.20, 0.08, 1.6, 0.8, 0.003, 0.015, 1.2)
"""Standard deviation of what every utterance adds of its own."""


@dataclass(frozen=True, slots=True)
class Take:
    """One utterance to be made: `delivery` is its departure from the speaker's habit, the spread included."""

    id: str
    speaker: int
    emotion: str
    sentence: int
    duration: float
    delivery: Manner


@lru_cache(maxsize=4)
def voices(settings: SyntheticSettings) -> tuple[Voice, ...]:
    """The speakers, all drawn alike, whatever their part."""
    width = len(str(settings.speakers))
    made = []
    seen: dict[tuple[str, bool], int] = {}
    for index in range(settings.speakers):
        draw = Random(f"{settings.seed}/voice/{index}")
        female = index % 2 == 0
        # Within a part and a gender, colours go round: as many speakers have each.
        turn = seen.get((settings.part(index), female), 0)
        seen[settings.part(index), female] = turn + 1
        made.append(
            Voice(
                name=f"s{index + 1:0{width}d}",
                gender="female" if female else "male",
                f0=(205 if female else 118) * math.exp(draw.gauss(0, 0.12)),
                tract=(1.16 if female else 1.0) * math.exp(draw.gauss(0, 0.035)),
                rate=5.0 * math.exp(draw.gauss(0, 0.10)),
                tilt=draw.gauss(-5.0, 1.2),
                span=3.0 * math.exp(draw.gauss(0, 0.20)),
                breath=0.05 * math.exp(draw.gauss(0, 0.40)),
                jitter=0.008 * math.exp(draw.gauss(0, 0.30)),
                level=draw.gauss(0, 1.8),
                strength=math.exp(draw.gauss(0, 0.15)),
                colour=turn % len(settings.emotions),
                depth=settings.entanglement,
            )
        )
    return tuple(made)


def counts(settings: SyntheticSettings, speaker: int) -> list[int]:
    """How often a speaker says each emotion of `settings.emotions`; the dial keeps the speaker's total."""
    even = [settings.sentences * settings.repetitions] * len(settings.emotions)
    row = list(settings.counts[speaker]) if settings.counts is not None else even
    if settings.part(speaker) != "train" or not settings.entanglement:
        return row
    moved = FAVOURED * settings.entanglement
    favourite = voices(settings)[speaker].colour
    total = sum(row)
    wanted = [(1 - moved) * n + moved * total * (e == favourite) for e, n in enumerate(row)]
    whole = [math.floor(n) for n in wanted]
    by_rest = sorted(range(len(row)), key=lambda e: (whole[e] - wanted[e], e))
    for e in by_rest[: total - sum(whole)]:
        whole[e] += 1
    return whole


def takes(settings: SyntheticSettings) -> Iterator[Take]:
    """Every utterance in order: by speaker, emotion, sentence, repetition."""
    for speaker, voice in enumerate(voices(settings)):
        for emotion, count in zip(settings.emotions, counts(settings, speaker), strict=True):
            # A speaker with few utterances begins with another sentence than the next speaker.
            first = 0 if count % settings.sentences == 0 else speaker * 7
            for number in range(count):
                sentence = (first + number) % settings.sentences
                yield _take(settings, speaker, voice, emotion, sentence, number // settings.sentences)


def _take(
    settings: SyntheticSettings, speaker: int, voice: Voice, emotion: str, sentence: int, repetition: int
) -> Take:
    name = f"{voice.name}-{emotion}-{sentence + 1:03d}-{repetition + 1:03d}"
    draw = Random(f"{settings.seed}/take/{name}")
    variance = math.log1p((settings.std_duration / settings.mean_duration) ** 2)
    duration = settings.mean_duration * math.exp(draw.gauss(-variance / 2, math.sqrt(variance)))
    duration = min(max(duration, settings.shortest), settings.longest)
    shown = voice.strength * max(0.0, draw.gauss(1, 0.25))
    manner = MANNERS[emotion]
    delivery = Manner(*(shown * getattr(manner, name) + draw.gauss(0, getattr(_SPREAD, name))
                        for name in Manner.__slots__))  # fmt: skip
    return Take(name, speaker, emotion, sentence, duration, delivery)
