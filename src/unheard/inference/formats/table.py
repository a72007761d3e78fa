"""A table for people: a line a recording, or a line a segment."""

from __future__ import annotations

from unheard.errors import UnheardError, printable
from unheard.inference.formats.base import Job
from unheard.inference.formats.sink import Sink
from unheard.inference.prediction import Prediction, Segment

_BAR = 20


class TableWriter:
    """Lines as they come, so that the first answer does not wait for the last; below one recording its timeline."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._job, self._sink = job, sink
        self._width = max(len(label) for label in job.labels)

    def add(self, prediction: Prediction) -> None:
        """Write one recording."""
        place = prediction.file + (f" ({prediction.channel})" if prediction.channel != "mix" else "")
        voice = ""
        if prediction.voice is not None:
            known = f"{prediction.voice.name or 'a voice'}, {prediction.voice.utterances} utterances"
            voice = f"   [adapted to {known}{', learning' if prediction.adapting else ''}]"
        if prediction.label is None:
            answer, place = f"{'–':<{self._width}}      ", f"{place}   ({prediction.abstained})"
        else:
            answer = f"{prediction.label:<{self._width}}  {prediction.probabilities[prediction.label]:>4.0%}"
        self._sink.write(f"{answer}  {clock(prediction.duration)}  {printable(place)}{voice}\n")
        if self._job.timeline or (self._job.single and len(prediction.segments) > 1):
            for segment in prediction.segments:
                self._sink.write("  " + line(segment, self._width) + "\n")

    def failed(self, file: str, error: UnheardError) -> None:
        """Standard error has said it."""

    def close(self) -> None:
        """Nothing is left."""


def line(segment: Segment, width: int = 9) -> str:
    """One segment for a person to read: when, what, how sure."""
    when = f"{clock(segment.start)} – {clock(segment.end)}"
    if segment.label is None:
        return f"{when}  {'–':<{width}}        {segment.abstained}"
    probability = segment.probabilities[segment.label]
    return f"{when}  {segment.label:<{width}}  {probability:>4.0%}  {'█' * round(_BAR * probability)}"


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths, with hours from the first on: `1:02:03.4`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minute = divmod(minutes, 60)
    return (f"{hours}:{minute:02}" if hours else f"{minute:>2}") + f":{rest // 10:02}.{rest % 10}"
