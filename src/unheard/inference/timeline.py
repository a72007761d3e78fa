"""From answers on windows to segments.

Time is cut into steps of one hop. A step's probabilities are the mean over the windows that cover it, each weighted by
the seconds of speech in it; its label is their argmax. A step in which less than a tenth is speech (of the last one: of
what there is of it), or that no window with enough speech covers, has none. Neighbouring steps with one label are one
segment, with the mean of their probabilities. A step is settled as soon as the window that starts with it has been
heard, and never changes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unheard.inference.prediction import Segment

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
