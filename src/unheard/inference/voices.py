"""What is known of a voice from unlabelled speech, and how a model is told.

Every utterance is described by the graph itself (V numbers, 0 for the average training voice). A voice known from
n utterances is the mean of their descriptions, shrunk by n / (n + kappa): little is believed of a voice heard once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """The mean description (V,) of `utterances` utterances of one person, as the model with `digest` describes them."""

    digest: str
    mean: npt.NDArray[np.float64]
    utterances: int = 0
    name: str = ""
    enrolled: frozenset[str] = frozenset()
    """Marks of the utterances that were enrolled, so that none counts twice."""

    @classmethod
    def unknown(cls, digest: str, width: int, name: str = "") -> Voice:
        """The voice of someone never heard."""
        return cls(digest, np.zeros(width), 0, name)

    def learnt(self, description: npt.NDArray[np.float32]) -> Voice:
        """The voice after one more utterance with this description (V,)."""
        count = self.utterances + 1
        return replace(self, utterances=count, mean=self.mean + (description - self.mean) / count)

    def enrol(self, description: npt.NDArray[np.float32]) -> Voice:
        """The voice after an utterance with this description (V,), which counts once however often it is given."""
        mark = blake2b(description.tobytes(), digest_size=8).hexdigest()
        if mark in self.enrolled:
            return self
        return replace(self.learnt(description), enrolled=self.enrolled | {mark})

    def vector(self, shrinkage: float) -> npt.NDArray[np.float32]:
        """What the graph takes away from the frames: float32 (1, V)."""
        if not self.utterances:
            return np.zeros((1, len(self.mean)), np.float32)
        believed = self.utterances / (self.utterances + shrinkage)
        return (believed * self.mean).astype(np.float32)[None]
