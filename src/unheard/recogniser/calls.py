"""Recognise the turns of a call, with every speaker adapted to by their own other turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from unheard.audio import Samples
from unheard.errors import ConfigError
from unheard.recogniser.formats.turns import Turn, Turns, read_turns, turns_of
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile

if TYPE_CHECKING:
    from unheard.recogniser.recogniser import Recogniser

Segments: TypeAlias = str | Path | Turns | Sequence[Turn | tuple[float, float, str]]
"""Who spoke when: a file or folder, what `read_turns` returned, or the turns of the recording."""


def turns_for(segments: Segments, recording: str) -> list[Turn]:
    """Return the turns of one recording, sorted; raises `UnheardError` where there are none, or broken ones."""
    if isinstance(segments, (str, Path)):
        segments = read_turns(segments)
    if isinstance(segments, Mapping):
        segments = turns_of(segments, recording)
    turns = [one if isinstance(one, Turn) else Turn(*one) for one in segments]
    if not turns:
        raise ConfigError("there are no turns", mend="Give (start, end, speaker) of each.")
    return sorted(turns, key=lambda turn: (turn.start, turn.end))


def predict_turns(
    recogniser: Recogniser,
    samples: Samples,
    turns: Sequence[Turn],
    *,
    adapt: bool | None = None,
    name: str = "",
    channel: str = "mix",
    progress: Callable[[float], object] | None = None,
) -> Prediction:
    """Predict sorted turns of samples (N,) at the model's rate, each as a recording of its own.

    Unless `adapt` is False or the model cannot adapt, a turn is scored with the profile of its speaker's other turns.
    Speakers without a name, or called unknown, are not adapted to. The answer on the whole is the mean over the turns,
    weighted by their speech. Raises `ConfigError` for turns that begin after the end of the samples.
    """
    model, rate = recogniser.model, recogniser.model.metadata.features.sample_rate
    duration = len(samples) / rate
    if turns[-1].start >= duration:
        raise ConfigError(
            f"a turn begins at {turns[-1].start:.1f} s, and the recording ends at {duration:.1f} s",
            where=name or None,
            mend="Give the segments of this recording.",
        )
    recogniser.check_profile(None, adapting=bool(adapt))
    adapt = model.profile_width > 0 if adapt is None else adapt
    pieces = []
    for turn in turns:
        first = round(turn.start * rate)
        pieces.append(samples[first : max(first + 1, round(min(turn.end, duration) * rate))])

    def done(seconds: float) -> None:
        if progress is not None:
            progress(seconds)

    width = model.profile_width if adapt else 0
    learnt = [(np.zeros(width), 0)] * len(turns)
    total: defaultdict[str, tuple[np.ndarray, int]] = defaultdict(lambda: (np.zeros(width), 0))
    for number, (turn, piece) in enumerate(zip(turns, pieces, strict=True)):
        if adapt and turn.known:
            found = list(recogniser.descriptions([piece]))
            learnt[number] = np.sum(found, axis=0, dtype=np.float64) if found else np.zeros(width), len(found)
            before, count = total[turn.speaker]
            total[turn.speaker] = before + learnt[number][0], count + len(found)
            done(min(turn.end, duration) / 2)
    answers = []
    for turn, piece, (own, few) in zip(turns, pieces, learnt, strict=True):
        whole, count = total[turn.speaker] if turn.known else (own, few)
        others = count - few
        profile = SpeakerProfile(model.digest, (whole - own) / others, others) if others else None
        stream = recogniser.stream(profile=profile)
        stream.push(piece)
        answers.append(stream.finish())
        done(duration / 2 + min(turn.end, duration) / 2)
    return _whole(recogniser, turns, answers, duration, name, channel)


def _whole(
    recogniser: Recogniser,
    turns: Sequence[Turn],
    answers: Sequence[Prediction],
    duration: float,
    name: str,
    channel: str,
) -> Prediction:
    """Join the predictions of the turns."""
    segments = tuple(
        Segment(turn.start, min(turn.end, duration), one.label, one.probabilities, one.abstained, turn.speaker)
        for turn, one in zip(turns, answers, strict=True)
    )
    labels, spoken = recogniser.labels, [one for one in answers if one.embedding is not None]
    mean = embedding = None
    if spoken:
        weights = [one.speech_seconds for one in spoken]
        mean = np.average([[one.probabilities[label] for label in labels] for one in spoken], axis=0, weights=weights)
        embedding = np.average([one.embedding for one in spoken], axis=0, weights=weights).astype(np.float32)
    return Prediction(
        file=name,
        label=None if mean is None else labels[int(mean.argmax())],
        probabilities={} if mean is None else dict(zip(labels, mean.tolist(), strict=True)),
        embedding=embedding,
        segments=segments,
        abstained=None if spoken else max(answers, key=lambda one: one.speech_seconds).abstained,
        duration=duration,
        speech_seconds=sum(one.speech_seconds for one in answers),
        channel=channel,
        model=recogniser.model.name,
    )
