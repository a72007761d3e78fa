"""All that is measured of one space of embeddings of unseen speakers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import TrainingError
from unheard.experiments.invariance.groups import Groups, compare_groups
from unheard.experiments.invariance.probe import make_folds, predicted_speakers
from unheard.experiments.invariance.resample import Estimate, clusters, indices, mean_with_interval
from unheard.experiments.invariance.verification import verify

FORMAT = 1
"""Raised when the same embeddings give other figures than before."""
MOST_RECORDINGS = 2000
"""Probe and verification take a seeded draw of at most so many recordings, even over the speakers."""
FIGURES = ("linear", "mlp", "eer", "worst_uar", "mean_uar", "deviation_uar", "spread_uar", "gender_gap")


@dataclass(frozen=True)
class Invariance:
    """How much of the speaker is in one space of embeddings, and whom its recogniser serves badly.

    `linear` and `mlp` are accuracies of fresh speaker probes, to be read against `chance` (1 / speakers) and `majority`
    (always the most frequent speaker); `disjoint` says what their training and test parts do not share, "texts" or
    "recordings". `eer` is the equal error rate of verification over `pairs` (of one speaker, of two), whose texts are
    "different" or "any" (`pair_texts`). `groups` is None where there are no predictions. All shares, 0 to 1.
    """

    speakers: int
    recordings: int
    examined: int
    texts: int
    width: int
    chance: float
    majority: float
    disjoint: str
    linear: Estimate
    mlp: Estimate
    eer: Estimate
    pairs: tuple[int, int]
    pair_texts: str
    groups: Groups | None = None

    def figure(self, name: str) -> float:
        """One of `FIGURES`; NaN where it is not known."""
        if name in ("linear", "mlp", "eer"):
            return float(getattr(self, name).value)
        if self.groups is None:
            return math.nan
        figures = {
            "worst_uar": self.groups.worst.uar.value,
            "mean_uar": self.groups.mean,
            "deviation_uar": self.groups.deviation,
            "spread_uar": self.groups.spread,
            "gender_gap": self.groups.gender_gap.value,
        }
        return figures[name]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain |= {name: plain[name].as_list() for name in ("linear", "mlp", "eer")}
        plain["pairs"] = list(self.pairs)
        plain["groups"] = None if self.groups is None else self.groups.as_dict()
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Invariance:
        """What `as_dict` wrote; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        read = dict(values)
        read |= {name: Estimate.from_list(read[name]) for name in ("linear", "mlp", "eer")}
        one, two = read["pairs"]
        read["pairs"] = (int(one), int(two))
        read["groups"] = None if read["groups"] is None else Groups.from_dict(read["groups"])
        return cls(**read)


def examine_embeddings(
    e: NDArray[Any],
    speakers: Sequence[str],
    texts: Sequence[str],
    genders: Sequence[str] | None = None,
    emotions: Sequence[Any] | None = None,
    predicted: Sequence[Any] | None = None,
    *,
    seed: int = 0,
) -> Invariance:
    """Examine the embeddings `e` (n, E) of one network, all of speakers it was not trained on.

    The rows belong to `speakers` and say `texts` ("" unknown); with `genders`, true `emotions` and those `predicted`
    the groups are compared too. Embeddings of different trainings live in different spaces: never put them together.
    Raises `TrainingError` for fewer than two speakers, a speaker with one recording or embeddings that are not finite,
    `MissingExtra` without scikit-learn.
    """
    if not np.isfinite(e).all():
        raise TrainingError("there are embeddings that are no numbers", mend="The training has diverged: take another.")
    taken = _drawn(speakers, seed)
    x = np.asarray(e)[taken]
    who, said = [speakers[i] for i in taken], [texts[i] for i in taken]
    folds = make_folds(who, said, seed)
    cluster = clusters(who, said)
    linear, mlp = (
        mean_with_interval(predicted_speakers(x, who, folds, kind, seed) == np.asarray(who), cluster, seed)
        for kind in ("linear", "mlp")
    )
    verification = verify(x, who, said, seed)
    counts = np.bincount(indices(who))
    groups = None
    if genders is not None and emotions is not None and predicted is not None:
        groups = compare_groups(speakers, genders, emotions, predicted, seed)
    return Invariance(
        speakers=len(counts),
        recordings=len(speakers),
        examined=len(taken),
        texts=len({text.strip().casefold() for text in texts} - {""}),
        width=x.shape[1],
        chance=1 / len(counts),
        majority=float(counts.max() / counts.sum()),
        disjoint=folds.disjoint,
        linear=linear,
        mlp=mlp,
        eer=verification.eer,
        pairs=(verification.same, verification.different),
        pair_texts=verification.texts,
        groups=groups,
    )


def _drawn(speakers: Sequence[str], seed: int) -> list[int]:
    """Places of the recordings to examine: all, or as many of each speaker as make at most `MOST_RECORDINGS`.

    Of so many speakers that not even two of each would be few enough, some are drawn.
    """
    if len(speakers) <= MOST_RECORDINGS:
        return list(range(len(speakers)))
    who = indices(speakers)
    random = np.random.default_rng(seed)
    there = np.arange(int(who.max()) + 1)
    if 2 * len(there) > MOST_RECORDINGS:
        there = np.sort(random.permutation(there)[: MOST_RECORDINGS // 2])
    share = MOST_RECORDINGS // len(there)
    taken = [random.permutation(np.flatnonzero(who == speaker))[:share] for speaker in there]
    return sorted(int(i) for i in np.concatenate(taken))
