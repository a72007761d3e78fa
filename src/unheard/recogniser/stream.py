"""Score one speaker's audio as it arrives, in blocks of any size; segments are returned as soon as they are final.

    blocks -> resampled -> windows -> WindowResult -> timeline of segments, means over the windows

A recording is scored the same way, so that live and offline results agree exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unheard.audio import Mix, Samples, checked_rate, finite, to_float
from unheard.errors import AudioError
from unheard.recogniser.prediction import Prediction, Segment, Totals, labelled
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.windows import Window, WindowCutter, WindowResult
from unheard.settings import check_number

if TYPE_CHECKING:
    from unheard.recogniser.recogniser import Recogniser

Doubles = npt.NDArray[np.float64]
OnSegment = Callable[[Segment], object]

LEAST_ACTIVITY = 0.1  # a step gets a label where at least this share of it is speech
LEAST_STEP = 0.05  # a last step of fewer seconds, in which hardly a frame lies, is joined to the one before

NO_SPEECH = "no speech"


class _LabelRun(NamedTuple):
    """Adjacent steps with one label: the sum of their probabilities; `label` is its index, -1 for steps without one."""

    first: int
    label: int
    total: Doubles
    steps: int = 1


class Timeline:
    """Make segments of window results in the order of their indices.

    Time is cut into steps of one hop. The probabilities of a step are the mean over the windows that cover it, weighted
    by the seconds of speech in each; its label is their argmax. A step without a window that has probabilities, or with
    too little speech, has no label. Adjacent steps with the same label are one segment, with the mean of their
    probabilities, and without a label where that is below `least`. A step is final once the window that starts with it
    is scored; `watch` receives it as a segment.
    """

    def __init__(self, labels: Sequence[str], hop: float, reach: int, least: float, watch: OnSegment | None) -> None:
        self.labels, self.hop = labels, hop
        self._least, self._watch = least, watch
        self._windows: deque[WindowResult] = deque(maxlen=reach)
        self._reach, self._steps = reach, 0
        self._open: _LabelRun | None = None

    def add(self, result: WindowResult, *, last: bool = False) -> list[Segment]:
        """Return the segment that ends with this window's step, if one does.

        The `last` window may be shorter than its step, which `finish` settles as it knows the duration.
        """
        self._windows.append(result)
        return [] if last else self._settle(result.index, self.hop)

    def finish(self, duration: float) -> list[Segment]:
        """Return the remaining segments of audio that ends after `duration` seconds."""
        found = []
        while (left := duration - self._steps * self.hop) > (LEAST_STEP if self._open else 1e-9):
            found += self._settle(self._steps, min(self.hop, left))
        found += [self._segment(self._open, duration)] if self._open else []
        self._open = None
        return found

    def current(self) -> Segment | None:
        """Return the open segment, up to the last final step."""
        return None if self._open is None else self._segment(self._open, self._steps * self.hop)

    def _settle(self, step: int, length: float) -> list[Segment]:
        """Finish a step of `length` seconds; returns the segment that ends before it, if one does."""
        covering = [window for window in self._windows if 0 <= step - window.index < self._reach]
        activity = [one.activity[step - one.index] for one in covering if step - one.index < len(one.activity)]
        spoken = [(one.speech, one.probabilities) for one in covering if one.probabilities is not None]
        new, run = _LabelRun(step, -1, np.zeros(len(self.labels))), self._open
        if spoken and sum(activity) / len(activity) >= LEAST_ACTIVITY * length:
            weights = np.array([speech for speech, _ in spoken])
            smoothed = weights @ np.stack([one for _, one in spoken]).astype(np.float64) / weights.sum()
            new = _LabelRun(step, int(smoothed.argmax()), smoothed)
        self._steps = step + 1
        if self._watch is not None:
            self._watch(self._segment(new, self._steps * self.hop))
        if run is not None and run.label == new.label:
            self._open = run._replace(total=run.total + new.total, steps=run.steps + 1)
            return []
        self._open = new
        return [] if run is None else [self._segment(run, step * self.hop)]

    def _segment(self, run: _LabelRun, end: float) -> Segment:
        start = run.first * self.hop
        if run.label < 0:
            return Segment(start, end, None, {}, NO_SPEECH)
        chances = labelled(self.labels, run.total / run.steps)
        return Segment(start, end, self.labels[run.label], chances).at_least(self._least)


class Stream:
    """The audio of one speaker: `push` samples, then `finish`.

    With `adapt` the speaker profile is updated along the way: a window is scored with the profile from the windows
    before it, and updates it where it shares no sample with the last window that did. Segments whose highest
    probability is below `min_confidence` have no label.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        sample_rate: int | None,
        profile: SpeakerProfile | None,
        adapt: bool,
        names: tuple[str, str],
        watch: OnSegment | None,
        min_confidence: float,
    ) -> None:
        check_number("min_confidence", min_confidence, 0, 1)
        self._model, self._score, self._least = recogniser.model, recogniser.score, min_confidence
        self._rate = rate = self._model.metadata.features.sample_rate
        self.profile, self._adapt, (self._name, self._channel) = profile, adapt, names
        self._resampler = _resampler(rate if sample_rate is None else checked_rate(sample_rate), rate)
        self._cutter = WindowCutter(recogniser.windows, rate)
        hop, reach = self._cutter.hop / rate, recogniser.windows.reach
        self._timeline = Timeline(self._model.labels, hop, reach, min_confidence, watch)
        self._totals, self._windows = Totals(), 0
        self._spoken = 0.0  # speech in the first step of each window, so that every second counts once
        self._after = 0.0  # speech in the other steps of the last window
        self._segments: list[Segment] = []
        self._learnt_until = 0
        self._due: deque[Window] = deque()
        self._mix = Mix(None, self._name or "the samples")
        self._finished = False

    @property
    def seconds(self) -> float:
        """Seconds of audio so far."""
        return self._cutter.samples / self._rate

    @property
    def current(self) -> Segment | None:
        """The segment that is not final yet: its start, and its label so far."""
        return self._timeline.current()

    def push(self, samples: npt.NDArray[Any]) -> list[Segment]:
        """Score samples (N,), or (N, channels), which are mixed; return the segments that are now final.

        Raises `AudioError` for samples that are not finite, or after `finish`.
        """
        if self._finished:
            raise AudioError("the stream has ended", mend="Start another one.")
        mono = self._mix(to_float(np.asarray(samples)))
        if not finite(mono):
            raise AudioError("the samples are not all numbers (NaN or infinite)", where=self._name or None)
        return self._scored(self._cutter.push(self._resampler(mono, False)))

    def finish(self) -> Prediction:
        """Return the prediction for all samples.

        Raises `AudioError` where there were none, or channels that cancelled each other out.
        """
        if not self._finished:
            self._scored(self._cutter.push(self._resampler(np.zeros(0, np.float32), True)))
            self._scored(self._cutter.finish(), last=True)
            self._finished = True
            if not self._cutter.samples:
                raise AudioError("holds no samples", where=self._name or None, mend="Copy or record it again.")
            self._segments += self._timeline.finish(self.seconds)
        self._mix.check()
        answer, segments = self._totals.answer(self._model.labels), tuple(self._segments)
        if self._windows == 1:  # one utterance, one answer
            alone = answer["label"], answer["probabilities"], answer["abstained"]
            segments = (Segment(0.0, self.seconds, *alone),)
        return Prediction(
            **answer,
            file=self._name,
            segments=segments,
            duration=self.seconds,
            speech_seconds=self._spoken + self._after,
            channel=self._channel,
            profile=self.profile,
            adapting=self._adapt,
            model=self._model.name,
        ).at_least(self._least)

    def _scored(self, windows: list[Window], *, last: bool = False) -> list[Segment]:
        """Return the segments that end with these windows; a window that Ctrl-C interrupts is scored with the next."""
        ended: list[Segment] = []
        self._due += windows
        while self._due:
            window = self._due[0]
            result = self._score(window, self.profile)
            self._due.popleft()
            self._totals.add(result.speech, result.probabilities, result.embedding, result.abstained)
            self._windows, self._after = self._windows + 1, sum(result.activity[1:])
            self._spoken += sum(result.activity[:1])
            if self._adapt and result.description is not None and window.first >= self._learnt_until:
                profile = self.profile or SpeakerProfile.unknown(self._model.digest, len(result.description))
                self.profile = profile.learnt(result.description)
                self._learnt_until = window.first + self._cutter.length
            ended += self._timeline.add(result, last=last and not self._due)
        self._segments += ended
        return ended


def _resampler(rate: int, wanted: int) -> Callable[[Samples, bool], Samples]:
    """Return a function from blocks at `rate` to blocks at `wanted`; its second argument marks the last block."""
    if rate == wanted:
        return lambda samples, _: samples
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    return lambda samples, last: stream.resample_chunk(np.ascontiguousarray(samples), last=last)
