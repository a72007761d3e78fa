"""The results of a recogniser: a prediction for one channel of a recording, made of segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.recogniser.profiles import SpeakerProfile

Embedding = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording from `start` to `end` (seconds) with one label.

    Where the recogniser abstained, `label` is None, `probabilities` is empty and `abstained` is the reason.
    """

    start: float
    end: float
    label: str | None
    probabilities: Mapping[str, float]
    abstained: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; times to the millisecond, probabilities to a millionth."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probabilities": rounded(self.probabilities),
            "abstained": self.abstained,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The prediction for a recording, or for one channel of it.

    `label` has the highest of the calibrated `probabilities`, which are in the model's order and sum to 1. Where the
    recogniser abstained, `label` and `embedding` are None, `probabilities` is empty and `abstained` is the reason.
    `embedding` is (E,). `segments` cover the recording without gaps. `duration` and `speech_seconds` are seconds.
    `profile` is the speaker profile at the end, None without adaptation; `adapting`: it was updated along the way.
    """

    file: str
    label: str | None
    probabilities: Mapping[str, float]
    embedding: Embedding | None
    segments: tuple[Segment, ...]
    abstained: str | None
    duration: float
    speech_seconds: float
    channel: str = "mix"
    profile: SpeakerProfile | None = None
    adapting: bool = False
    model: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the embedding."""
        profile = None
        if self.profile is not None:
            profile = {"name": self.profile.name, "utterances": self.profile.utterances, "adapting": self.adapting}
        return {
            "file": self.file,
            "channel": self.channel,
            "label": self.label,
            "probabilities": rounded(self.probabilities),
            "segments": [segment.as_dict() for segment in self.segments],
            "abstained": self.abstained,
            "duration": round(self.duration, 3),
            "speech": round(self.speech_seconds, 3),
            "profile": profile,
            "model": self.model,
        }


def rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Round probabilities to a millionth."""
    return {label: round(value, 6) for label, value in probabilities.items()}
