"""One voice as it comes: samples in blocks of any size, segments as soon as they are known.

A recording read from disk goes through here too, so that what is heard live and what is heard afterwards agree
exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unheard.channels import Mix, Samples, finite, to_float
from unheard.errors import AudioError
from unheard.inference.prediction import Prediction, Segment
from unheard.inference.sources import checked_rate
from unheard.inference.timeline import Heard, Timeline
from unheard.inference.voices import Voice
from unheard.inference.windows import Window, WindowCutter, WindowSettings

if TYPE_CHECKING:
    from unheard.inference.model import OnnxModel

Listen = Callable[[Window, Voice | None], Heard]


class Stream:
    """What is heard of one voice; `push` samples, then `finish`.

    `voice` is what is known of it. With `adapting` it grows along the way: a window is answered with what the windows
    before it have taught, and teaches where it shares no sample with the last one that did. `watch` is told every step
    of one hop as it settles: segments are made of them.
    """

    def __init__(
        self,
        model: OnnxModel,
        listen: Listen,
        windows: WindowSettings,
        *,
        sample_rate: int | None = None,
        voice: Voice | None = None,
        adapting: bool = False,
        name: str = "",
        channel: str = "mix",
        watch: Callable[[Segment], object] | None = None,
    ) -> None:
        rate = model.metadata.features.sample_rate
        self.voice = voice
        self._model, self._listen, self._adapting = model, listen, adapting
        self._rate, self._name, self._channel = rate, name, channel
        self._resampler = _resampler(rate if sample_rate is None else checked_rate(sample_rate), rate)
        self._cutter = WindowCutter(windows, rate)
        self._timeline = Timeline(model.labels, self._cutter.hop / rate, windows.reach, watch)
        self._totals = _Totals(len(model.labels))
        self._segments: list[Segment] = []
        self._taught_until = 0
        self._due: deque[Window] = deque()
        self._mix = Mix(None, name or "the samples")
        self._finished = False

    @property
    def seconds(self) -> float:
        """Seconds heard so far."""
        return self._cutter.heard / self._rate

    @property
    def current(self) -> Segment | None:
        """The segment that goes on: its start, and its label so far."""
        return self._timeline.current()

    def push(self, samples: npt.NDArray[Any]) -> list[Segment]:
        """Hear samples (N,) or (N, channels), which are mixed; returns the segments that are now complete.

        Raises `AudioError` for samples that are not numbers, or after `finish`.
        """
        if self._finished:
            raise AudioError("the stream has ended", mend="Begin another.")
        mono = self._mix(to_float(np.asarray(samples)))
        if not finite(mono):
            raise AudioError("the samples are not all numbers (NaN or infinite)", where=self._name or None)
        return self._hear(self._cutter.push(self._resampler(mono, False)))

    def finish(self) -> Prediction:
        """The prediction for all that was heard.

        Raises `AudioError` where that was nothing, or channels that cancelled each other out.
        """
        if not self._finished:
            self._hear(self._cutter.push(self._resampler(np.zeros(0, np.float32), True)))
            self._hear(self._cutter.finish(), last=True)
            self._finished = True
            if not self._cutter.heard:
                raise AudioError("holds no samples", where=self._name or None, mend="Copy or record it again.")
            self._segments += self._timeline.finish(self.seconds)
        self._mix.check()
        return self._prediction()

    def _hear(self, windows: list[Window], *, last: bool = False) -> list[Segment]:
        """The segments that end with these windows; one in which Ctrl-C came is heard again with the next."""
        ended: list[Segment] = []
        self._due += windows
        while self._due:
            window = self._due[0]
            heard = self._listen(window, self.voice)
            self._due.popleft()
            self._totals.add(heard)
            if self._adapting and heard.description is not None and window.first >= self._taught_until:
                voice = self.voice or Voice.unknown(self._model.digest, len(heard.description))
                self.voice = voice.learnt(heard.description)
                self._taught_until = window.first + self._cutter.length
            ended += self._timeline.add(heard, last=last and not self._due)
        self._segments += ended
        return ended

    def _prediction(self) -> Prediction:
        labels, totals = self._model.labels, self._totals
        mean = totals.probabilities()
        label = None if mean is None else labels[int(mean.argmax())]
        probabilities = {} if mean is None else dict(zip(labels, mean.tolist(), strict=True))
        segments = tuple(self._segments)
        if totals.windows == 1:  # one utterance has one answer
            segments = (Segment(0.0, self.seconds, label, probabilities, totals.reason),)
        return Prediction(
            file=self._name,
            label=label,
            probabilities=probabilities,
            embedding=totals.embedding(),
            segments=segments,
            abstained=totals.reason,
            duration=self.seconds,
            speech_seconds=totals.speech,
            channel=self._channel,
            voice=self.voice,
            adapting=self._adapting,
            model=self._model.name,
        )


class _Totals:
    """Means over windows, weighted by the speech in each."""

    def __init__(self, classes: int) -> None:
        self.windows = 0
        self._weight = 0.0
        self._probabilities = np.zeros(classes)
        self._embedding: npt.NDArray[np.float64] | None = None
        self._settled = 0.0  # speech in the steps that windows begin with, so that every second counts once
        self._after = 0.0
        self._most = -1.0
        self._reason: str | None = None

    def add(self, heard: Heard) -> None:
        self.windows += 1
        self._settled += sum(heard.activity[:1])
        self._after = sum(heard.activity[1:])
        if heard.probabilities is None or heard.embedding is None:
            if heard.speech > self._most:
                self._most, self._reason = heard.speech, heard.abstained
            return
        self._weight += heard.speech
        self._probabilities += heard.speech * heard.probabilities.astype(np.float64)
        weighted = heard.speech * heard.embedding.astype(np.float64)
        self._embedding = weighted if self._embedding is None else self._embedding + weighted

    @property
    def speech(self) -> float:
        """Seconds of speech."""
        return self._settled + self._after

    @property
    def reason(self) -> str | None:
        """Why no window has an answer: that of the window with the most speech."""
        return None if self._weight else self._reason

    def probabilities(self) -> npt.NDArray[np.float64] | None:
        return self._probabilities / self._weight if self._weight else None

    def embedding(self) -> npt.NDArray[np.float32] | None:
        return None if self._embedding is None else (self._embedding / self._weight).astype(np.float32)


def _resampler(rate: int, wanted: int) -> Callable[[Samples, bool], Samples]:
    """Blocks at `rate` as blocks at `wanted`, the same samples whatever the blocks; True marks the last."""
    if rate == wanted:
        return lambda samples, _: samples
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    return lambda samples, last: stream.resample_chunk(np.ascontiguousarray(samples), last=last)
