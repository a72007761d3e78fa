"""Changes to an utterance's frames in training: simulation of another speaker, and subtraction of a speaker profile.

Augmentation varies properties that differ between speakers: vocal tract length (the mel bands are stretched), timbre
and level of voice and microphone (a smooth curve is added to the bands), pitch (log F0 is shifted) and tempo (frames
are resampled in time). It works on normalised features, in standard deviations. Sources: Jaitly and Hinton 2013 (vocal
tract length perturbation), Ko et al. 2015 (speed perturbation), Park et al. 2019 (masks).

Enrolment: n unlabelled utterances of a speaker give a profile, which is subtracted from the others:

    mean frames (n, F) -> n / (n + κ) · their mean = profile (F,); 0 is the average speaker

The mean of few utterances reflects their emotions more than the speaker, hence the shrinkage. Training draws the
profile from a random number of the speaker's other utterances, so that the network works with and without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unheard.features.settings import Columns
from unheard.training.recipe import Augmentation, TrainingSettings

if TYPE_CHECKING:  # this file needs no torch
    from unheard.training.batches import FrameSource

Floats = NDArray[np.float32]

CURVES = 6  # number of half cosines over the mel bands in a timbre curve; the first is constant


def augment(x: Floats, columns: Columns, settings: Augmentation, random: np.random.Generator) -> Floats:
    """Return a copy (T', F) of normalised frames (T, F) as if from another speaker; T' differs if the tempo changes.

    Functionals among the columns are not changed.
    """
    if settings.pace:  # at least 2 frames, by linear interpolation in time
        pace = random.uniform(1 - settings.pace, 1 + settings.pace)
        x = _interpolated(x, np.linspace(0, len(x) - 1, max(2, round(len(x) / pace)) if len(x) > 1 else 1))
    else:
        x = x.copy()
    if columns.bands is not None:
        bands = x[:, columns.bands]
        if settings.tract:  # band k is read at k times a factor, the last one repeated
            last = bands.shape[1] - 1
            factor = random.uniform(1 - settings.tract, 1 + settings.tract)
            bands = _interpolated(bands.T, np.minimum(np.arange(last + 1) * factor, last)).T
        if settings.colour:
            heights = random.normal(0, settings.colour, CURVES)
            angles = np.linspace(0, np.pi, bands.shape[1])
            curves = np.cos(np.outer(angles, np.arange(CURVES))).astype(np.float32)  # (bands, CURVES)
            bands = bands + curves @ heights.astype(np.float32)
            if columns.energy is not None:
                x[:, columns.energy] += np.float32(heights[0])
        x[:, columns.bands] = bands
    if settings.pitch and columns.log_f0 is not None:
        x[:, columns.log_f0] += np.float32(random.normal(0, settings.pitch))
    for _ in range(settings.time_masks):
        first, last = _span(len(x), max(2, min(20, len(x) // 5)), random)
        x[first:last, : x.shape[1] - columns.summary] = 0
    if columns.bands is not None:
        for _ in range(settings.band_masks):
            first, last = _span(columns.bands.stop - columns.bands.start, 8, random)
            x[:, columns.bands][:, first:last] = 0
    return x


def _interpolated(x: Floats, at: NDArray[np.float64]) -> Floats:
    """Interpolate rows of `x` (N, K) at fractional positions `at` (n,), 0 to N - 1: (n, K)."""
    below = np.floor(at).astype(np.int64)
    share = (at - below).astype(np.float32)[:, None]
    between: Floats = (1 - share) * x[below] + share * x[np.minimum(below + 1, len(x) - 1)]
    return between


def _span(size: int, most: int, random: np.random.Generator) -> tuple[int, int]:
    """Draw a span of fewer than `most` of `size` positions: the first, and one past the last."""
    length = int(random.integers(0, min(most, size + 1)))
    first = int(random.integers(0, size - length + 1))
    return first, first + length


# Enrolment.

SHRINKAGE = 4.0  # κ: the number of utterances whose mean is shrunk by half

SIZES = (1, 2, 4, 8, 16, 64)  # numbers of enrolment utterances drawn in training


def profile_of(means: Floats) -> Floats:
    """Return a speaker's profile from the mean frames of n utterances, (n, F) -> (F,); 0 if n = 0."""
    n = len(means)
    if n == 0:
        return np.zeros(means.shape[1], np.float32)
    profile: Floats = (n / (n + SHRINKAGE) * means.mean(axis=0, dtype=np.float64)).astype(np.float32)
    return profile


class ProfileSampler:
    """Random speaker profiles for training utterances, from other utterances of the same speaker.

    `frames` are the normalised training frames, `speakers` maps each of `ids` to its speaker.
    """

    def __init__(self, frames: FrameSource, ids: Sequence[str], speakers: Mapping[str, str]) -> None:
        utterances: dict[str, list[str]] = {}
        for name in ids:
            utterances.setdefault(speakers[name], []).append(name)
        self._means: dict[str, tuple[Floats, int]] = {}  # mean frames of the speaker's utterances, own row
        for names in utterances.values():
            means = np.stack([frames[name].mean(axis=0, dtype=np.float64).astype(np.float32) for name in names])
            self._means |= {name: (means, row) for row, name in enumerate(names)}

    def draw(self, name: str, random: np.random.Generator) -> Floats:
        """Return a profile (F,) from a random number of the speaker's utterances other than `name`."""
        means, row = self._means[name]
        others = len(means) - 1
        n = min(int(random.choice(SIZES)), others)
        chosen = random.permutation(others)[:n]
        return profile_of(means[chosen + (chosen >= row)])


def change_of(
    recipe: TrainingSettings, columns: Columns, variants: Sequence[FrameSource], speakers: Mapping[str, str]
) -> Callable[[str, Floats, np.random.Generator], Floats] | None:
    """Return the change that `recipe` applies to training utterances, if any: copy, enrolment and augmentation.

    `variants` are the normalised frames of the recordings and of their augmented copies; `speakers` maps each training
    utterance to its speaker.
    """
    recipe.augment.check(columns)
    if not (recipe.augment.on or recipe.enrol or recipe.copies):
        return None
    samplers = [ProfileSampler(frames, list(speakers), speakers) for frames in variants if recipe.enrol]

    def change(name: str, x: Floats, random: np.random.Generator) -> Floats:
        variant = int(random.integers(len(variants))) if recipe.copies else 0
        if variant:
            x = variants[variant][name]
        if samplers and random.random() < recipe.enrol:
            x = x - samplers[variant].draw(name, random)
        return augment(x, columns, recipe.augment, random)

    return change
