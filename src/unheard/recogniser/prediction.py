"""The results of a recogniser: a prediction for one channel of a recording, made of segments."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unheard.errors import UnheardError
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

    def __repr__(self) -> str:
        return f"Segment({self.start:.1f}-{self.end:.1f} s: {_answer(self)})"

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
    recogniser abstained, `label` and `embedding` are None, `probabilities` is empty and `abstained` is the reason;
    where it is only uncertain (see `at_least`), `label` alone is None.
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

    def __repr__(self) -> str:
        channel = "" if self.channel == "mix" else f", {self.channel}"
        count = f"{len(self.segments)} segment{'s' * (len(self.segments) != 1)}"
        return f"Prediction({self.file or 'samples'!r}{channel}: {_answer(self)}, {self.duration:.1f} s, {count})"

    def _repr_html_(self) -> str:
        labels = list(self.probabilities)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("start", "end", "label", *labels))
        rows = "".join(
            f"<tr><td>{one.start:.1f}</td><td>{one.end:.1f}</td>"
            + f"<td>{html.escape(one.label or one.abstained or '')}</td>"
            + "".join(f"<td>{f'{one.probabilities[x]:.0%}' if x in one.probabilities else ''}</td>" for x in labels)
            + "</tr>"
            for one in self.segments
        )
        return f"<table><caption>{html.escape(repr(self))}</caption><tr>{head}</tr>{rows}</table>"

    def at_least(self, confidence: float) -> Prediction:
        """Return the prediction without the labels whose probability is below `confidence`."""

        def doubtful(one: Any) -> Any:
            reason = uncertain(one.probabilities, confidence)
            return one if reason is None else replace(one, label=None, abstained=reason)

        found: Prediction = doubtful(replace(self, segments=tuple(map(doubtful, self.segments))))
        return found

    def to_frame(self) -> Any:
        """Return the segments as a pandas DataFrame: file, channel, start, end, label, p_<label>…, abstained.

        Raises `UnheardError` where pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise UnheardError(
                "to_frame needs pandas, which is not installed", mend="Install it with: pip install pandas"
            ) from None
        rows = [
            {"file": self.file, "channel": self.channel, "start": one.start, "end": one.end, "label": one.label}
            | {f"p_{label}": one.probabilities.get(label) for label in self.probabilities}
            | {"abstained": one.abstained}
            for one in self.segments
        ]
        return pandas.DataFrame(rows)

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


def _answer(one: Segment | Prediction) -> str:
    return (
        one.abstained or "no speech" if one.label is None else f"{one.label} {100 * one.probabilities[one.label]:.0f} %"
    )


def uncertain(probabilities: Mapping[str, float], least: float) -> str | None:
    """Return the reason to abstain where the highest probability is below `least`, with the two highest."""
    ranked: Sequence[tuple[str, float]] = sorted(probabilities.items(), key=lambda one: -one[1])
    if not ranked or ranked[0][1] >= least:
        return None
    return "uncertain: " + ", ".join(f"{100 * value:.0f} % {label}" for label, value in ranked[:2])


def rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Round probabilities to a millionth."""
    return {label: round(value, 6) for label, value in probabilities.items()}
