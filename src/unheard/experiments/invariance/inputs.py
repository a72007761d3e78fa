"""Where it started: the same questions asked of what goes into the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Frames(Protocol):
    """The normalised frames (T, F) of an utterance, by its id."""

    def __getitem__(self, utterance: str, /) -> NDArray[np.float32]: ...


def input_statistics(frames: Frames, ids: Sequence[str]) -> NDArray[np.float64]:
    """Mean ‖ standard deviation over time of the features that the network sees: (n, 2F).

    The same pooling as the embedding's, without a network in between.
    """

    def pooled(x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.concatenate([x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)])

    return np.stack([pooled(frames[name]) for name in ids])
