"""Voices exchanged: an utterance is moved towards how another speaker of the training sounds.

What tells speaker b from speaker a is their difference emotion by emotion, averaged over the emotions that both have
uttered: what somebody often expresses is not taken for how they sound. Added to an utterance of a it gives somebody
between the two (or beyond b) who says the same; unlike the curves of `augment` it moves everything that is heard of a
voice, the summary included, and moves it together, as voices differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Exchange:
    """Differences between training speakers, drawn for one utterance at a time.

    `described` holds the mean frame (F,) of each training utterance, `speakers` and `emotions` whose and which it is.
    """

    def __init__(
        self, described: Mapping[str, Floats], speakers: Mapping[str, str], emotions: Mapping[str, int], most: float
    ) -> None:
        self._index = {speaker: i for i, speaker in enumerate(sorted({speakers[name] for name in described}))}
        self._speakers, self._most = speakers, most
        width = len(next(iter(described.values())))
        sums = np.zeros((len(self._index), max(emotions[name] for name in described) + 1, width))
        counts = np.zeros((*sums.shape[:2], 1))
        for name, mean in described.items():
            place = self._index[speakers[name]], emotions[name]
            sums[place] += mean
            counts[place] += 1
        self._means, self._there = sums / np.maximum(counts, 1), counts > 0

    def draw(self, name: str, random: np.random.Generator) -> Floats:
        """What is added to the frames of `name` (F,): a share of up to `most` of the way to a random speaker."""
        share = random.uniform(0, self._most)
        other = int(random.integers(len(self._index)))
        way: Floats = (share * self.between(self._index[self._speakers[name]], other)).astype(np.float32)
        return way

    def between(self, one: int, other: int) -> NDArray[np.float64]:
        """How `other` differs from `one` (F,) over the emotions both have; 0 where they share none."""
        both = self._there[one] & self._there[other]  # (C, 1)
        difference: NDArray[np.float64] = (both * (self._means[other] - self._means[one])).sum(0) / max(both.sum(), 1)
        return difference
