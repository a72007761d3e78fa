"""One profile as it comes: samples in blocks of any size, segments as soon as they are known.

A recording read from disk goes through here too, so that what is heard live and what is heard afterwards agree
exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unheard.channels import Mix, Samples, finite, to_float
from unheard.errors import AudioError, ConfigError
from unheard.recogniser.prediction import Prediction, Segment
from unheard.recogniser.profiles import SpeakerProfile
from unheard.recogniser.sources import checked_rate

if TYPE_CHECKING:
    from unheard.recogniser.model import OnnxModel


# Long audio as windows of fixed length, each an utterance of its own.
#
# Window k covers [k·hop, k·hop + seconds). The last one is shorter where the audio ends inside it; audio no longer than
# one window is one window. Which windows there are depends on the samples alone, not on the blocks they come in.

SHORTEST, LONGEST = 0.5, 60.0


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Windows of `seconds`, a new one every `hop` seconds.

    Raises `ConfigError` for windows outside 0.5 to 60 s, and a hop below 0.1 s or above the window.
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
        """How many windows cover one hop at most."""
        return math.ceil(round(self.seconds / self.hop, 9))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Samples (N,) of window number `index`, the first of them sample number `first` of the stream."""

    index: int
    first: int
    samples: Samples


class WindowCutter:
    """Cuts windows out of samples that come in blocks of any size; keeps no more than it still needs."""

    def __init__(self, settings: WindowSettings, sample_rate: int) -> None:
        self.length = round(settings.seconds * sample_rate)
        self.hop = round(settings.hop * sample_rate)
        self.heard = 0
        """Samples so far."""
        self._next = 0
        self._kept: Samples = np.zeros(0, np.float32)  # from sample `_next * hop` on

    def push(self, block: Samples) -> list[Window]:
        """The windows that `block` completes."""
        self.heard += len(block)
        self._kept = np.concatenate([self._kept, block])
        found = []
        while len(self._kept) >= self.length:
            found.append(Window(self._next, self._next * self.hop, self._kept[: self.length]))
            self._kept = self._kept[self.hop :]
            self._next += 1
        return found

    def finish(self) -> list[Window]:
        """The last, shorter window, where samples are in no window yet."""
        covered = (self._next - 1) * self.hop + self.length if self._next else 0
        if self.heard <= covered:
            return []
        return [Window(self._next, self._next * self.hop, self._kept)]


# From answers on windows to segments.
#
# Time is cut into steps of one hop. A step's probabilities are the mean over the windows that cover it, each
# weighted by
# the seconds of speech in it; its label is their argmax. A step in which less than a tenth is speech (of the last
# one: of
# what there is of it), or that no window with enough speech covers, has none. Neighbouring steps with one label are one
# segment, with the mean of their probabilities. A step is settled as soon as the window that starts with it has been
# heard, and never changes again.

LEAST_ACTIVITY = 0.1
"""Share of a step that has to be speech for it to get a label."""

LEAST_STEP = 0.05
"""Seconds at the end that make no step of their own, which hardly a frame would lie in: they go with the one before."""

NO_SPEECH = "no speech"

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What one window said: `first` is its first sample, `speech` its seconds of speech, `activity` those of each step.

    `probabilities` (C,), `embedding` (E,) and `description` (V,) are None where it `abstained`.
    """

    index: int
    first: int
    speech: float
    activity: tuple[float, ...]
    abstained: str | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    description: npt.NDArray[np.float32] | None = None


class Timeline:
    """Segments from windows in the order of their indices; keeps only the windows that still matter.

    `watch` is told every step as it settles, as a segment of one hop; the last may reach past the end of the audio.
    """

    def __init__(
        self, labels: tuple[str, ...], hop: float, reach: int, watch: Callable[[Segment], object] | None = None
    ) -> None:
        self.labels = labels
        self._watch = watch
        self.hop = hop
        self._windows: deque[Heard] = deque(maxlen=reach)
        self._steps = 0
        self._open: _Run | None = None

    def add(self, heard: Heard, *, last: bool = False) -> list[Segment]:
        """The segment that ends with this window's step, if one does.

        The `last` window may be shorter than its step: `finish`, which knows how much there is of it, settles that.
        """
        self._windows.append(heard)
        return [] if last else self._settle(heard.index, self.hop)

    def finish(self, duration: float) -> list[Segment]:
        """The segments left when the audio ends after `duration` seconds."""
        found = []
        while (left := duration - self._steps * self.hop) > (LEAST_STEP if self._open else 1e-9):
            found += self._settle(self._steps, min(self.hop, left))
        if self._open is not None:
            found.append(self._open.segment(self.labels, self.hop, duration))
            self._open = None
        return found

    def current(self) -> Segment | None:
        """The segment that goes on, up to the last settled step."""
        return None if self._open is None else self._open.segment(self.labels, self.hop, self._steps * self.hop)

    def _settle(self, step: int, lasts: float) -> list[Segment]:
        probabilities = self._smoothed(step, lasts)
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

    def _smoothed(self, step: int, lasts: float) -> Doubles | None:
        reach = self._windows.maxlen or 1
        covering = [window for window in self._windows if 0 <= step - window.index < reach]
        activity = [
            window.activity[step - window.index] for window in covering if step - window.index < len(window.activity)
        ]
        spoken = [window for window in covering if window.probabilities is not None]
        if not spoken or sum(activity) / len(activity) < LEAST_ACTIVITY * lasts:
            return None
        weights = np.array([window.speech for window in spoken])
        stacked = np.stack([np.asarray(window.probabilities, np.float64) for window in spoken])
        smoothed: Doubles = weights @ stacked / weights.sum()
        return smoothed


@dataclass(slots=True, eq=False)
class _Run:
    """Steps with one label so far; `index` is -1 for steps without one."""

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


Listen = Callable[[Window, SpeakerProfile | None], Heard]


class Stream:
    """What is heard of one profile; `push` samples, then `finish`.

    `profile` is what is known of it. With `adapting` it grows along the way: a window is answered with what the windows
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
        profile: SpeakerProfile | None = None,
        adapting: bool = False,
        name: str = "",
        channel: str = "mix",
        watch: Callable[[Segment], object] | None = None,
    ) -> None:
        rate = model.metadata.features.sample_rate
        self.profile = profile
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
            heard = self._listen(window, self.profile)
            self._due.popleft()
            self._totals.add(heard)
            if self._adapting and heard.description is not None and window.first >= self._taught_until:
                profile = self.profile or SpeakerProfile.unknown(self._model.digest, len(heard.description))
                self.profile = profile.learnt(heard.description)
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
            profile=self.profile,
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
