"""Adaptation to a voice: some unlabelled utterances of a speaker are heard before the others are judged.

    descriptions (B, V) of n utterances -> n / (n + κ) · their mean = voice (V,), 0 being the average voice

Few utterances say more of the emotions they were said in than of the voice, so that little is believed of them. In
training the same is done with utterances of the same speaker, in a random number: the network learns to use a voice
and to do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unheard.training.batches import Frames

SHRINKAGE = 4.0
"""κ: with so many utterances half of what they say is believed."""

SIZES = (1, 2, 4, 8, 16, 64)
"""Numbers of utterances heard before, in training."""

VOICED = ("train", "speaker")
"""Normalisations after which a mean frame says how a voice differs from others; the others leave no voice, or all."""

Floats = NDArray[np.float32]


def voice_of(descriptions: Floats, shrinkage: float = SHRINKAGE) -> Floats:
    """What is believed of a voice that n utterances describe: (n, V) -> (V,); 0 of nothing heard."""
    n = len(descriptions)
    if n == 0:
        return np.zeros(descriptions.shape[1], np.float32)
    believed: Floats = (n / (n + shrinkage) * descriptions.mean(axis=0, dtype=np.float64)).astype(np.float32)
    return believed


class Companions:
    """Voices for utterances in training, from others of the same speaker.

    `frames` are those trained on, normalised; the description of an utterance is its mean frame, as the network's
    `describe` has it.
    """

    def __init__(self, frames: Frames, ids: Sequence[str], speakers: Mapping[str, str]) -> None:
        self._described = {name: frames[name].mean(axis=0, dtype=np.float64).astype(np.float32) for name in ids}
        self._others: dict[str, list[str]] = {}
        for name in ids:
            self._others.setdefault(speakers[name], []).append(name)
        self._speakers = speakers

    def draw(self, name: str, random: np.random.Generator) -> Floats:
        """The voice (F,) after a random number of utterances, `name` not among them, of its speaker."""
        others = [other for other in self._others[self._speakers[name]] if other != name]
        n = min(int(random.choice(SIZES)), len(others))
        chosen = random.permutation(len(others))[:n]
        heard = np.zeros((n, len(self._described[name])), np.float32)
        for row, i in zip(heard, chosen, strict=True):
            row[:] = self._described[others[i]]
        return voice_of(heard)
