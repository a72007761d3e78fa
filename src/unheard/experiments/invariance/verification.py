"""Speaker verification with embeddings: are two recordings by one voice? The equal error rate, by cosine.

It needs no training at all, so there is nothing to tune or to overfit: it asks whether voices lie apart in the space as
it is. Embeddings are centred on the mean of the recordings scored, which uses no speaker label: the units of this
network are not negative, and raw cosines of such vectors differ little from 1 and mostly repeat what all recordings
have in common. Centring is the usual first step of verification back ends for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import TrainingError
from unheard.experiments.invariance.resample import Estimate, clusters, indices, resampled

DRAWS = 200


@dataclass(frozen=True)
class Verification:
    """The equal error rate with its interval; `texts` is "different" where no pair shares its text, or "any"."""

    eer: Estimate
    same: int
    different: int
    texts: str


def verify(e: NDArray[Any], speakers: Sequence[str], texts: Sequence[str], seed: int = 0) -> Verification:
    """All pairs of the recordings `e` (n, E), of one speaker or of two, told apart by the cosine.

    Where texts are known, only pairs with different texts count, of one speaker and of two alike: a common sentence
    shall neither help nor hinder. The interval resamples clusters (one speaker, one text), as the probe's does.
    Raises `TrainingError` where there is no pair of one kind.
    """
    who, what = indices(speakers), indices([text.strip().casefold() for text in texts])
    first, second = np.triu_indices(len(who), 1)
    same = who[first] == who[second]
    texts_kind = "any"
    if all(text.strip() for text in texts):
        apart = what[first] != what[second]
        if (same & apart).any() and (~same & apart).any():
            first, second, same, texts_kind = first[apart], second[apart], same[apart], "different"
    if same.all() or not same.any():
        raise TrainingError(
            f"verification needs pairs of recordings of one speaker and of two; here are {int(same.sum())} and "
            f"{int((~same).sum())}",
            mend="Give at least two speakers, with two recordings each.",
        )
    scores = cosines(e)[first, second]
    order = np.argsort(-scores, kind="stable")
    scores, same, first, second = scores[order], same[order], first[order], second[order]
    value = _equal_error(scores, same.astype(np.float64), (~same).astype(np.float64))
    cluster = clusters(speakers, texts)
    draws = []
    for weights in resampled(int(cluster.max()) + 1, DRAWS, seed):
        recording = weights[cluster].astype(np.float64)
        pair = recording[first] * recording[second]
        of_same, of_two = np.where(same, pair, 0.0), np.where(same, 0.0, pair)
        usable = of_same.any() and of_two.any()
        draws.append(_equal_error(scores, of_same, of_two) if usable else np.nan)
    return Verification(Estimate.of(value, np.array(draws)), int(same.sum()), int((~same).sum()), texts_kind)


def cosines(e: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine (n, n) between the rows of `e` (n, E), centred on their mean; 0 where a row is the mean itself."""
    x = np.asarray(e, np.float64)
    x = x - x.mean(axis=0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    # rounding is all that is left of rows that are equal: it must not become a direction
    nothing = length <= 1e-12 * max(1.0, float(np.abs(e).max()))
    x = np.where(nothing, 0.0, x / np.where(nothing, 1.0, length))
    return np.asarray(np.round(x @ x.T, 12))


def equal_error_rate(scores: NDArray[Any], same: NDArray[Any]) -> float:
    """Where as many pairs of two speakers are accepted as pairs of one are rejected, as a share: 0 to 1.

    `scores` (n,) higher for one speaker, `same` (n,) says which are. Exact: every different score is a threshold, equal
    scores move together, and between two thresholds the rates are interpolated linearly.

    >>> equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, False, True, False]))
    0.5
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    same = np.asarray(same, bool)[order]
    return _equal_error(np.asarray(scores, np.float64)[order], same.astype(np.float64), (~same).astype(np.float64))


def _equal_error(scores: NDArray[np.float64], same: NDArray[np.float64], different: NDArray[np.float64]) -> float:
    """The equal error rate of sorted `scores` (n,), highest first, with the weights (n,) of either kind of pair."""
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    accepted = np.concatenate([[0.0], np.cumsum(different)[ends]]) / different.sum()
    rejected = 1.0 - np.concatenate([[0.0], np.cumsum(same)[ends]]) / same.sum()
    return float(np.interp(0.0, accepted - rejected, accepted))  # the difference rises from -1 to 1
