"""The results of a recogniser: a prediction for one channel of a recording, made of segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unheard.errors import counted
from unheard.notebook import COLOURS, OTHER, axes_for, frame, strip, table
from unheard.recogniser.profiles import SpeakerProfile
from unheard.settings import check_number

Embedding = npt.NDArray[np.float32]
PredictionOrSegment = TypeVar("PredictionOrSegment", "Segment", "Prediction")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording from `start` to `end` (seconds) with one label, or the turn of a `speaker`.

    Where the recogniser abstained, `label` is None, `probabilities` is empty and `abstained` is the reason.
    """

    start: float
    end: float
    label: str | None
    probabilities: Mapping[str, float]
    abstained: str | None = None
    speaker: str | None = None

    def __repr__(self) -> str:
        who = "" if self.speaker is None else f", {self.speaker}"
        return f"Segment({self.start:.1f}-{self.end:.1f} s{who}: {_in_words(self)})"

    def at_least(self, confidence: float) -> Segment:
        """Return the segment, without its label if the label's probability is below `confidence`."""
        return _certain(self, confidence)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; times to the millisecond, probabilities to a millionth."""
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return times | _plain_answer(self) | ({} if self.speaker is None else {"speaker": self.speaker})


@dataclass(frozen=True, slots=True)
class Share:
    """The time of a label: `seconds`, their `share` of the labelled time, and the `longest` segment (start, end)."""

    seconds: float
    share: float
    longest: tuple[float, float]


def shares(segments: Iterable[Segment]) -> dict[str, Share]:
    """Return label -> share of the segments that have a label, the largest first."""
    times: dict[str, list[tuple[float, float]]] = {}
    for one in segments:
        if one.label is not None:
            times.setdefault(one.label, []).append((one.start, one.end))
    seconds = {label: sum(end - start for start, end in of) for label, of in times.items()}
    whole = sum(seconds.values())
    return {
        label: Share(held, held / whole, max(times[label], key=lambda time: time[1] - time[0]))
        for label, held in sorted(seconds.items(), key=lambda item: -item[1])
    }


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The prediction for a recording, or for one channel of it.

    `label` has the highest of the calibrated `probabilities`, which are in the model's order and sum to 1. Where the
    recogniser abstained, `label` and `embedding` are None, `probabilities` is empty and `abstained` is the reason;
    where it is only uncertain (see `at_least`), `label` alone is None.
    `embedding` is (E,). `segments` cover the recording without gaps, or are the given turns. `duration` and
    `speech_seconds` are seconds.
    `profile` is the final speaker profile, None without adaptation; `adapting` is true if it was updated.
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
        count = counted(len(self.segments), "segment")
        return f"Prediction({self.file or 'samples'!r}{channel}: {_in_words(self)}, {self.duration:.1f} s, {count})"

    @property
    def summary(self) -> dict[str, Share]:
        """Label -> share of the labelled time, the largest first."""
        return shares(self.segments)

    @property
    def mixed(self) -> bool:
        """Whether `label` holds for at most half of the labelled time."""
        label, longest = next(iter(self.summary.items()), (None, None))
        return longest is not None and (longest.share <= 0.5 or self.label not in (None, label))

    def of_speakers(self) -> dict[str, dict[str, Share]]:
        """Return the summary of each speaker, in the order of their first turns; empty without turns."""
        names = dict.fromkeys(one.speaker for one in self.segments if one.speaker is not None)
        return {name: shares(one for one in self.segments if one.speaker == name) for name in names}

    def at_least(self, confidence: float) -> Prediction:
        """Return the prediction without the labels whose probability is below `confidence`."""
        check_number("min_confidence", confidence, 0, 1)
        return _certain(replace(self, segments=tuple(one.at_least(confidence) for one in self.segments)), confidence)

    def _repr_html_(self) -> str:
        """Return a timeline, a bar for each speaker, and the table of segments."""
        labels = list(self.probabilities)
        strips = ""
        for name in self.of_speakers() or [None]:
            own = [(one.start, one.end, one.label, repr(one)) for one in self.segments if one.speaker == name]
            strips += strip(own, self.duration, name or "")
        rows = [
            [f"{one.start:.1f}", f"{one.end:.1f}", one.speaker or "", one.label or one.abstained or ""]
            + [f"{one.probabilities[x]:.0%}" if x in one.probabilities else "" for x in labels]
            for one in self.segments
        ]
        return table(repr(self), ["start", "end", "speaker", "label", *labels], rows, strips)

    def plot(self, axes: Any = None) -> Any:
        """Draw the timeline with matplotlib, a row for each speaker, and return its axes.

        Raises `UnheardError` where matplotlib is not installed.
        """
        axes, names = axes_for(axes), list(self.of_speakers()) or [""]
        for label in dict.fromkeys(one.label for one in self.segments if one.label is not None):
            found = [
                (names.index(one.speaker or ""), one.start, one.end) for one in self.segments if one.label == label
            ]
            rows, starts, ends = map(np.array, zip(*found, strict=True))
            axes.barh(rows, ends - starts, left=starts, color=COLOURS.get(label, OTHER), label=label)
        axes.set(xlim=(0, self.duration), xlabel="seconds", ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names)
        if self.summary:
            axes.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
        return axes

    def to_frame(self) -> Any:
        """Return the segments as a pandas DataFrame: file, channel, start, end, speaker, label, p_LABEL…, abstained.

        Raises `UnheardError` where pandas is not installed.
        """
        return frame(
            {"file": self.file, "channel": self.channel, "start": one.start, "end": one.end}
            | {"speaker": one.speaker, "label": one.label}
            | {f"p_{label}": one.probabilities.get(label) for label in self.probabilities}
            | {"abstained": one.abstained}
            for one in self.segments
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the embedding."""
        profile, speakers = None, self.of_speakers()
        if self.profile is not None:
            profile = {"name": self.profile.name, "utterances": self.profile.utterances, "adapting": self.adapting}
        return {
            "file": self.file,
            "channel": self.channel,
            **_plain_answer(self),
            "segments": [segment.as_dict() for segment in self.segments],
            "duration": round(self.duration, 3),
            "speech": round(self.speech_seconds, 3),
            "mixed": self.mixed,
            "summary": _plain(self.summary),
            **({"speakers": {name: _plain(of) for name, of in speakers.items()}} if speakers else {}),
            "profile": profile,
            "model": self.model,
        }


class Totals:
    """Sums over windows or turns, weighted by the speech in each, and why none has probabilities."""

    def __init__(self) -> None:
        self._speech = 0.0
        self._probabilities: npt.NDArray[np.float64] | float = 0.0
        self._embedding: npt.NDArray[np.float64] | float = 0.0
        self._most, self._reason = -1.0, ""  # the reason where there is the most speech

    def add(
        self, speech: float, probabilities: npt.ArrayLike | None, embedding: Embedding | None, abstained: str | None
    ) -> None:
        """Add probabilities (C,) and embedding (E,) of some seconds of speech, or the reason why there are none."""
        if probabilities is not None and embedding is not None:
            self._speech += speech
            self._probabilities = self._probabilities + speech * np.asarray(probabilities, np.float64)
            self._embedding = self._embedding + speech * embedding.astype(np.float64)
        elif speech > self._most:
            self._most, self._reason = speech, abstained or ""

    def answer(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the means: label, probabilities, embedding and abstained of a prediction."""
        if not self._speech:
            return {"label": None, "probabilities": {}, "embedding": None, "abstained": self._reason}
        chances = labelled(labels, self._probabilities / self._speech)
        embedding = np.asarray(self._embedding / self._speech, np.float32)
        return {"label": ranked(chances)[0][0], "probabilities": chances, "embedding": embedding, "abstained": None}


def labelled(labels: Sequence[str], probabilities: npt.ArrayLike) -> dict[str, float]:
    """Return probabilities (C,) by their labels."""
    return dict(zip(labels, np.asarray(probabilities).tolist(), strict=True))


def ranked(probabilities: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return labels with their probabilities, the highest first."""
    return sorted(probabilities.items(), key=lambda item: -item[1])


def _certain(result: PredictionOrSegment, least: float) -> PredictionOrSegment:
    """Abstain if the highest probability is below `least`; the reason gives the two highest."""
    first = ranked(result.probabilities)[:2]
    if not first or first[0][1] >= least:
        return result
    reason = "uncertain: " + ", ".join(f"{100 * value:.0f} % {label}" for label, value in first)
    return replace(result, label=None, abstained=reason)


def _plain_answer(result: Segment | Prediction) -> dict[str, Any]:
    rounded = {label: round(value, 6) for label, value in result.probabilities.items()}
    return {"label": result.label, "probabilities": rounded, "abstained": result.abstained}


def _plain(summary: Mapping[str, Share]) -> dict[str, Any]:
    return {
        label: {"seconds": round(share.seconds, 3), "share": round(share.share, 4)}
        | {"longest": [round(time, 3) for time in share.longest]}
        for label, share in summary.items()
    }


def _in_words(result: Segment | Prediction) -> str:
    if result.label is None:
        return result.abstained or "no speech"
    return f"{result.label} {100 * result.probabilities[result.label]:.0f} %"
