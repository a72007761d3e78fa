"""Score one speaker's audio as it arrives, in blocks of any size; segments are returned as soon as they are final.

    blocks -> resampled -> windows -> WindowResult -> timeline of segments, means over the windows

A recording is scored the same way, so that live and offline results agree exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unheard.audio import Mix, Samples, finite, to_float
from unheard.errors import AudioError, ConfigError
from unheard.recogniser.prediction import Embedding, Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.sources import checked_rate

if TYPE_CHECKING:
    from unheard.recogniser.model import OnnxModel

Doubles = npt.NDArray[np.float64]
Watch = Callable[[Segment], object]

SHORTEST, LONGEST = 0.5, 60.0
"""Range of the window length, seconds."""

LEAST_ACTIVITY = 0.1
"""A step gets a label where at least this share of it is speech."""

LEAST_STEP = 0.05
"""A last step of fewer seconds, in which hardly a frame lies, is joined to the one before."""

NO_SPEECH = "no speech"


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Windows of `seconds`, a new one every `hop` seconds.

    Window k covers [k·hop, k·hop + seconds); the last one is shorter where the audio ends inside it. Raises
    `ConfigError` for windows outside 0.5 to 60 s, and a hop below 0.1 s or above the window.
    """

    seconds: float = 3.0
    hop: float = 1.0

    def __post_init__(self) -> None:
        if not SHORTEST <= self.seconds <= LONGEST:
            raise ConfigError(
                f"windows of {self.seconds:g} s are out of range", mend=f"Use {SHORTEST:g} to {LONGEST:g} s."
            )
        if not 0.1 <= self.hop <= self.seconds:
            raise ConfigError(
                f"a hop of {self.hop:g} s is out of range", mend=f"Use 0.1 to {self.seconds:g} s, the window's length."
            )

    @property
    def reach(self) -> int:
        """The most windows that cover one hop."""
        return math.ceil(round(self.seconds / self.hop, 9))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Samples (N,) of window number `index`, the first of them sample number `first` of the stream."""

    index: int
    first: int
    samples: Samples


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """The result of one window: seconds of `speech`, in each of its steps `activity`.

    `probabilities` (C,), `embedding` (E,) and `description` (V,) are None where it `abstained`.
    """

    index: int
    first: int
    speech: float
    activity: tuple[float, ...]
    abstained: str | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    embedding: Embedding | None = None
    description: npt.NDArray[np.float32] | None = None


class WindowCutter:
    """Cut windows out of blocks of any size; only the samples that are still needed are kept."""

    def __init__(self, settings: WindowSettings, sample_rate: int) -> None:
        self.length = round(settings.seconds * sample_rate)
        self.hop = round(settings.hop * sample_rate)
        self.samples = 0
        """Number of samples so far."""
        self._next = 0
        self._kept: Samples = np.zeros(0, np.float32)  # from sample `_next * hop` on

    def push(self, block: Samples) -> list[Window]:
        """Return the windows that `block` completes."""
        self.samples += len(block)
        self._kept = np.concatenate([self._kept, block])
        found = []
        while len(self._kept) >= self.length:
            found.append(Window(self._next, self._next * self.hop, self._kept[: self.length]))
            self._kept = self._kept[self.hop :]
            self._next += 1
        return found

    def finish(self) -> list[Window]:
        """Return the last, shorter window, where some samples are in no window yet."""
        covered = (self._next - 1) * self.hop + self.length if self._next else 0
        return [Window(self._next, self._next * self.hop, self._kept)] if self.samples > covered else []


def cut(blocks: Iterable[Samples], settings: WindowSettings, sample_rate: int) -> Iterator[Window]:
    """Yield the windows of a whole recording."""
    cutter = WindowCutter(settings, sample_rate)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.finish()


class Timeline:
    """Make segments of window results in the order of their indices.

    Time is cut into steps of one hop. The probabilities of a step are the mean over the windows that cover it, weighted
    by the seconds of speech in each; its label is their argmax. A step without a window that has probabilities, or with
    too little speech, has no label. Adjacent steps with the same label are one segment, with the mean of their
    probabilities. A step is final once the window that starts with it is scored; `watch` receives it as a segment.
    """

    def __init__(self, labels: tuple[str, ...], hop: float, reach: int, watch: Watch | None = None) -> None:
        self.labels, self.hop = labels, hop
        self._watch = watch
        self._windows: deque[WindowResult] = deque(maxlen=reach)
        self._steps = 0
        self._open: _Run | None = None

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
        if self._open is not None:
            found.append(self._open.segment(self.labels, self.hop, duration))
            self._open = None
        return found

    def current(self) -> Segment | None:
        """Return the open segment, up to the last final step."""
        return None if self._open is None else self._open.segment(self.labels, self.hop, self._steps * self.hop)

    def _settle(self, step: int, length: float) -> list[Segment]:
        """Finish a step of `length` seconds; returns the segment that ends before it, if one does."""
        probabilities = self._smoothed(step, length)
        index = -1 if probabilities is None else int(probabilities.argmax())
        self._steps = step + 1
        if self._watch is not None:
            alone = _Run(step, index, np.zeros(len(self.labels)))
            alone.add(probabilities)
            self._watch(alone.segment(self.labels, self.hop, (step + 1) * self.hop))
        ended = []
        if self._open is not None and self._open.index != index:
            ended.append(self._open.segment(self.labels, self.hop, step * self.hop))
            self._open = None
        if self._open is None:
            self._open = _Run(step, index, np.zeros(len(self.labels)))
        self._open.add(probabilities)
        return ended

    def _smoothed(self, step: int, length: float) -> Doubles | None:
        reach = self._windows.maxlen or 1
        covering = [window for window in self._windows if 0 <= step - window.index < reach]
        activity = [
            window.activity[step - window.index] for window in covering if step - window.index < len(window.activity)
        ]
        spoken = [(window.speech, window.probabilities) for window in covering if window.probabilities is not None]
        if not spoken or sum(activity) / len(activity) < LEAST_ACTIVITY * length:
            return None
        weights = np.array([speech for speech, _ in spoken])
        smoothed: Doubles = weights @ np.stack([one for _, one in spoken]).astype(np.float64) / weights.sum()
        return smoothed


@dataclass(slots=True, eq=False)
class _Run:
    """Adjacent steps with one label; `index` is -1 for steps without one."""

    first: int
    index: int
    total: Doubles
    steps: int = 0

    def add(self, probabilities: Doubles | None) -> None:
        self.steps += 1
        if probabilities is not None:
            self.total += probabilities

    def segment(self, labels: tuple[str, ...], hop: float, end: float) -> Segment:
        if self.index < 0:
            return Segment(self.first * hop, end, None, {}, NO_SPEECH)
        mean = self.total / self.steps
        return Segment(self.first * hop, end, labels[self.index], dict(zip(labels, mean.tolist(), strict=True)))


class Stream:
    """The audio of one speaker: `push` samples, then `finish`.

    With `adapting` the speaker profile is updated along the way: a window is scored with the profile from the windows
    before it, and updates it where it shares no sample with the last window that did. Segments whose highest
    probability is below `min_confidence` have no label.
    """

    def __init__(
        self,
        model: OnnxModel,
        score: Callable[[Window, SpeakerProfile | None], WindowResult],
        windows: WindowSettings,
        *,
        sample_rate: int | None = None,
        profile: SpeakerProfile | None = None,
        adapting: bool = False,
        name: str = "",
        channel: str = "mix",
        watch: Watch | None = None,
        min_confidence: float = 0.0,
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise ConfigError(f"a confidence of {min_confidence} is out of range", mend="Use 0 to 1.")
        rate = model.metadata.features.sample_rate
        self.profile = profile
        self._model, self._score, self._adapting = model, score, adapting
        self._rate, self._name, self._channel = rate, name, channel
        self._resampler = _resampler(rate if sample_rate is None else checked_rate(sample_rate), rate)
        self._cutter = WindowCutter(windows, rate)
        self._least = min_confidence
        certain = None if watch is None else lambda step: watch(step.at_least(min_confidence))
        self._timeline = Timeline(model.labels, self._cutter.hop / rate, windows.reach, certain)
        self._totals = _Totals(len(model.labels))
        self._segments: list[Segment] = []
        self._learnt_until = 0
        self._due: deque[Window] = deque()
        self._mix = Mix(None, name or "the samples")
        self._finished = False

    @property
    def seconds(self) -> float:
        """Seconds of audio so far."""
        return self._cutter.samples / self._rate

    @property
    def current(self) -> Segment | None:
        """The segment that is not final yet: its start, and its label so far."""
        found = self._timeline.current()
        return None if found is None else found.at_least(self._least)

    def push(self, samples: npt.NDArray[Any]) -> list[Segment]:
        """Score samples (N,), or (N, channels), which are mixed; return the segments that are now final.

        Raises `AudioError` for samples that are not finite, or after `finish`.
        """
        if self._finished:
            raise AudioError("the stream has ended", mend="Start another one.")
        mono = self._mix(to_float(np.asarray(samples)))
        if not finite(mono):
            raise AudioError("the samples are not all numbers (NaN or infinite)", where=self._name or None)
        ended = self._scored(self._cutter.push(self._resampler(mono, False)))
        return [one.at_least(self._least) for one in ended]

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
        labels, totals = self._model.labels, self._totals
        mean = totals.probabilities / totals.weight if totals.weight else None
        label = None if mean is None else labels[int(mean.argmax())]
        probabilities = {} if mean is None else dict(zip(labels, mean.tolist(), strict=True))
        abstained = None if totals.weight else totals.reason
        segments = tuple(self._segments)
        if totals.windows == 1:  # one utterance, one answer
            segments = (Segment(0.0, self.seconds, label, probabilities, abstained),)
        return Prediction(
            file=self._name,
            label=label,
            probabilities=probabilities,
            embedding=None if totals.embedding is None else (totals.embedding / totals.weight).astype(np.float32),
            segments=segments,
            abstained=abstained,
            duration=self.seconds,
            speech_seconds=totals.settled + totals.after,
            channel=self._channel,
            profile=self.profile,
            adapting=self._adapting,
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
            self._totals.add(result)
            if self._adapting and result.description is not None and window.first >= self._learnt_until:
                profile = self.profile or SpeakerProfile.unknown(self._model.digest, len(result.description))
                self.profile = profile.learnt(result.description)
                self._learnt_until = window.first + self._cutter.length
            ended += self._timeline.add(result, last=last and not self._due)
        self._segments += ended
        return ended


class _Totals:
    """Sums over windows, weighted by the speech in each, and why no window has probabilities."""

    def __init__(self, classes: int) -> None:
        self.windows = 0
        self.weight = 0.0
        self.probabilities = np.zeros(classes)
        self.embedding: Doubles | None = None
        self.settled = 0.0  # speech in the first step of each window, so that every second counts once
        self.after = 0.0  # speech in the other steps of the last window
        self.reason: str | None = None  # that of the window with the most speech
        self._most = -1.0

    def add(self, result: WindowResult) -> None:
        self.windows += 1
        self.settled += sum(result.activity[:1])
        self.after = sum(result.activity[1:])
        if result.probabilities is None or result.embedding is None:
            if result.speech > self._most:
                self._most, self.reason = result.speech, result.abstained
            return
        self.weight += result.speech
        self.probabilities += result.speech * result.probabilities.astype(np.float64)
        weighted = result.speech * result.embedding.astype(np.float64)
        self.embedding = weighted if self.embedding is None else self.embedding + weighted


def _resampler(rate: int, wanted: int) -> Callable[[Samples, bool], Samples]:
    """Return a function from blocks at `rate` to blocks at `wanted`; its second argument marks the last block."""
    if rate == wanted:
        return lambda samples, _: samples
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    return lambda samples, last: stream.resample_chunk(np.ascontiguousarray(samples), last=last)
