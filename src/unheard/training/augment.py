"""Invented speakers: every time an utterance is trained on, it is said by somebody slightly different.

What a stranger changes is the length of the vocal tract (the mel bands are stretched), the colour and the level of
the voice and of the microphone (a smooth curve is added to the bands), the pitch (log F0 moves), the pace (frames are
resampled in time). All of it is done to normalised features, in their standard deviations; with every strength at 0
nothing is. Sources: Jaitly and Hinton 2013 (vocal tract length perturbation), Ko et al. 2015 (speed perturbation),
Park et al. 2019 (masks).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ConfigError
from unheard.features.settings import Columns

Floats = NDArray[np.float32]

CURVES = 6
"""Half cosines over the mel bands that a colour is made of, the constant one first."""

_BANDS = ("mel bands without deltas", "--features.kind fbank --features.deltas 0")
_PITCH = ("log F0 as it is", "--features.pitch --features.log-pitch both")


@dataclass(frozen=True)
class Augmentation:
    """How strongly speakers are invented; 0 is not at all.

    `tract`: the bands are stretched by 1 ± this. `colour`: the standard deviation of each of the `CURVES` added to the
    bands; the constant one, the level, moves the energy too. `pitch`: the standard deviation log F0 is moved by.
    `pace`: the tempo changes by 1 ± this. `time_masks` spans of fewer than 20 frames and `band_masks` runs of up to 7
    bands become their mean, 0.
    """

    tract: float = 0.0
    colour: float = 0.0
    pitch: float = 0.0
    pace: float = 0.0
    time_masks: int = 0
    band_masks: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), 0.5 if field.name in ("tract", "pace") else 100
            if not 0 <= value <= most:
                raise ConfigError(
                    f"augmentation {field.name} = {value} is out of range", mend=f"Choose from 0 to {most}."
                )

    @property
    def on(self) -> bool:
        """Whether anything is done."""
        return any(getattr(self, field.name) for field in fields(self))

    def check(self, columns: Columns) -> None:
        """Raises `ConfigError` where the features have no such columns."""
        needed = {"tract": columns.bands, "colour": columns.bands, "band_masks": columns.bands, "pitch": columns.log_f0}
        for name, there in needed.items():
            if getattr(self, name) and there is None:
                what, flags = _PITCH if name == "pitch" else _BANDS
                raise ConfigError(
                    f"augmentation {name} needs features with {what}",
                    mend=f"Choose {flags}, or set --training.augment.{name.replace('_', '-')} 0.",
                )


def invent(x: Floats, columns: Columns, how: Augmentation, random: np.random.Generator) -> Floats:
    """Normalised frames (T, F) of an utterance as somebody else's: (T', F), a copy; T' differs where the pace does.

    A summary among the columns stays that of the utterance as it was said.
    """
    x = _at_pace(x, random.uniform(1 - how.pace, 1 + how.pace)) if how.pace else x.copy()
    if columns.bands is not None:
        bands = x[:, columns.bands]
        if how.tract:
            bands = _stretched(bands, random.uniform(1 - how.tract, 1 + how.tract))
        if how.colour:
            heights = random.normal(0, how.colour, CURVES)
            bands = bands + _curves(bands.shape[1]) @ heights.astype(np.float32)
            if columns.energy is not None:
                x[:, columns.energy] += np.float32(heights[0])
        x[:, columns.bands] = bands
    if how.pitch and columns.log_f0 is not None:
        x[:, columns.log_f0] += np.float32(random.normal(0, how.pitch))
    for _ in range(how.time_masks):
        first, last = _span(len(x), max(2, min(20, len(x) // 5)), random)
        x[first:last, : x.shape[1] - columns.summary] = 0
    if columns.bands is not None:
        for _ in range(how.band_masks):
            first, last = _span(columns.bands.stop - columns.bands.start, 8, random)
            x[:, columns.bands][:, first:last] = 0
    return x


def _at_pace(x: Floats, pace: float) -> Floats:
    """`x` (T, F) said `pace` times as fast, at least 2 frames, by linear interpolation in time."""
    frames = max(2, round(len(x) / pace)) if len(x) > 1 else 1
    return _between(x, np.linspace(0, len(x) - 1, frames))


def _stretched(bands: Floats, factor: float) -> Floats:
    """`bands` (T, M) read at `factor` times each band's place, the last one repeated."""
    last = bands.shape[1] - 1
    stretched: Floats = _between(bands.T, np.minimum(np.arange(last + 1) * factor, last)).T
    return stretched


def _between(x: Floats, at: NDArray[np.float64]) -> Floats:
    """Rows of `x` (N, K) at the fractional places `at` (n,), 0 to N - 1: (n, K)."""
    below = np.floor(at).astype(np.int64)
    share = (at - below).astype(np.float32)[:, None]
    mixed: Floats = (1 - share) * x[below] + share * x[np.minimum(below + 1, len(x) - 1)]
    return mixed


def _curves(bands: int) -> Floats:
    """The half cosines (M, CURVES)."""
    place = np.linspace(0, np.pi, bands)
    curves: Floats = np.cos(np.outer(place, np.arange(CURVES))).astype(np.float32)
    return curves


def _span(whole: int, most: int, random: np.random.Generator) -> tuple[int, int]:
    """A run of fewer than `most` places among `whole`: first and one past the last."""
    length = int(random.integers(0, min(most, whole + 1)))
    first = int(random.integers(0, whole - length + 1))
    return first, first + length
