"""What a recogniser says of one profile in one recording."""

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
    """A stretch of a recording with one answer: seconds `start` to `end`, its emotion or why there is none.

    `label` is None and `probabilities` empty where the recogniser abstained; `abstained` then says why.
    """

    start: float
    end: float
    label: str | None
    probabilities: Mapping[str, float]
    abstained: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times in milliseconds' precision, probabilities in millionths."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probabilities": rounded(self.probabilities),
            "abstained": self.abstained,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What was heard in one recording, or in one channel of it.

    `label` has the highest of the calibrated `probabilities`, which are in the model's order and sum to 1; where the
    recogniser abstained, `label` and `embedding` are None, `probabilities` is empty and `abstained` says why.
    `embedding` is (E,). `segments` cover the recording without gaps. `duration` and `speech_seconds` are seconds.
    `profile` is what was known of the profile at the end, None without adaptation; `adapting`: it was learnt along the
    way.
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
        """Plain values for JSON; the embedding is left out."""
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
    """Probabilities in millionths."""
    return {label: round(value, 6) for label, value in probabilities.items()}
