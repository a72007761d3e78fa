"""All that is measured of one space of embeddings of unseen speakers."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.groups import Groups, compare_groups
from unheard.analysis.resample import Estimate, clusters, indices, mean_with_interval, resampled
from unheard.errors import MissingExtra, TrainingError

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


# A fresh speaker probe: how well does a new classifier read the speaker from frozen embeddings?
#
# The adversary of a training proves nothing: it may be near chance because it has lost the game, not because the
# speaker
# is gone. So a classifier that had no part in training is trained on the finished embeddings (Elazar and Goldberg
# 2018),
# and tested on recordings, and where possible on texts, that it was not trained on.

FOLDS = 5
MOST_FOLDS = 20
PROBES = ("linear", "mlp")
INVERSE_REGULARISATION = 0.1
"""C of the logistic regression; like all below fixed beforehand, so that nothing is chosen on what is measured."""
HIDDEN = 128
WEIGHT_DECAY = 1e-2
EPOCHS = 200


@dataclass(frozen=True)
class Folds:
    """Which fold (n,) tests each recording. `disjoint` is "texts" where no text is on two sides, or "recordings"."""

    disjoint: str
    of: NDArray[np.int64]


def make_folds(speakers: Sequence[str], texts: Sequence[str], seed: int = 0) -> Folds:
    """Folds in which every speaker tested is also trained on, in other recordings; each recording is tested once.

    Folds of texts where every text is known and every speaker says at least two: what the probe knows of a speaker
    then comes from other sentences. There are five, fewer of few texts, more where speakers say few of them. Otherwise
    five folds of recordings, each speaker's spread over them. Raises
    `TrainingError` for fewer than two speakers, or a speaker with a single recording.
    """
    who = indices(speakers)
    counts = np.bincount(who)
    names = sorted(set(speakers))
    if len(counts) < 2:
        raise TrainingError(f"a speaker probe needs at least 2 speakers, not {len(counts)}", mend="Add speakers.")
    if counts.min() < 2:
        single = [name for name, count in zip(names, counts, strict=True) if count < 2]
        raise TrainingError(
            f"{len(single)} speakers have one recording ({', '.join(single[:3])}): a probe cannot learn and be tested",
            mend="Leave them out, or add recordings.",
        )
    known = [text.strip().casefold() for text in texts]
    if all(known):
        folds = _folds_of_texts(who, indices(known), seed)
        if folds is not None:
            return Folds("texts", folds)
    return Folds("recordings", _folds_of_recordings(who, seed))


def predicted_speakers(
    e: NDArray[Any], speakers: Sequence[str], folds: Folds, kind: str = "linear", seed: int = 0
) -> NDArray[np.str_]:
    """Who speaks, as a probe of `kind` (linear, mlp) trained on the other folds hears it: (n,).

    `e` (n, E) is standardised with the probe's own training part. Raises `MissingExtra` without scikit-learn.
    """
    try:
        import sklearn  # noqa: F401 - for the message
        from threadpoolctl import threadpool_limits  # comes with it
    except ModuleNotFoundError as error:
        raise MissingExtra("scikit-learn", "train") from error
    names = np.asarray(speakers, dtype=np.str_)
    x = np.asarray(e, np.float64)
    said = np.empty_like(names)
    for fold in np.unique(folds.of):
        test = folds.of == fold
        mean, std = x[~test].mean(axis=0), x[~test].std(axis=0)
        # a dead unit is centred, not blown up to unit variance
        std = np.where(std <= 1e-6 * np.abs(x[~test]).max(axis=0), 1.0, std)
        classifier = _classifier(kind, seed)
        with warnings.catch_warnings(), threadpool_limits(1):  # tiny products: threads would wait for each other
            warnings.simplefilter("ignore")  # of the fixed number of epochs: it is meant to end the training
            classifier.fit((x[~test] - mean) / std, names[~test])
        said[test] = classifier.predict((x[test] - mean) / std)
    return said


def _classifier(kind: str, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if kind == "linear":
        return LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000)
    if kind == "mlp":
        return MLPClassifier((HIDDEN,), alpha=WEIGHT_DECAY, max_iter=EPOCHS, random_state=seed)
    raise ValueError(f"unknown probe {kind!r}, not one of {PROBES}")


def _folds_of_texts(who: NDArray[np.int64], text: NDArray[np.int64], seed: int) -> NDArray[np.int64] | None:
    """Folds of whole texts with every speaker in at least two: five, or as many more as that takes; or None."""
    texts = int(text.max()) + 1
    for count in range(min(FOLDS, texts), min(MOST_FOLDS, texts) + 1):
        fold = _dealt(who, text, count, seed)
        if not len(_in_one_fold(who, fold)):
            return fold
    return None


def _dealt(who: NDArray[np.int64], text: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Texts dealt over `count` folds of about equal size, then moved while that spreads more speakers: (n,)."""
    sizes = np.bincount(text)
    fold = np.zeros(len(sizes), np.int64)
    filled = np.zeros(count)
    random = np.random.default_rng(seed)
    for item in random.permutation(len(sizes)):
        fold[item] = filled.argmin()
        filled[fold[item]] += sizes[item]
    while len(alone := _in_one_fold(who, fold[text])):
        if not _spread(alone, who, text, fold, count, random):
            break
    return fold[text]


def _spread(
    alone: NDArray[np.int64],
    who: NDArray[np.int64],
    text: NDArray[np.int64],
    fold: NDArray[np.int64],
    count: int,
    random: np.random.Generator,
) -> bool:
    """Move one text of a speaker who is in one fold only, if that leaves fewer such speakers; changes `fold`."""
    for speaker in alone:
        for item in random.permutation(np.unique(text[who == speaker])):
            before = fold[item]
            for step in range(1, count):
                fold[item] = (before + step) % count
                if len(_in_one_fold(who, fold[text])) < len(alone):
                    return True
            fold[item] = before
    return False


def _in_one_fold(who: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """The speakers all of whose recordings are in one fold."""
    seen = np.zeros((int(who.max()) + 1, int(fold.max()) + 1), bool)
    seen[who, fold] = True
    return np.flatnonzero(seen.sum(axis=1) < 2)


def _folds_of_recordings(who: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Each speaker's recordings dealt over the folds, one after the other."""
    random = np.random.default_rng(seed)
    fold = np.zeros(len(who), np.int64)
    first = 0
    for speaker in range(int(who.max()) + 1):
        own = random.permutation(np.flatnonzero(who == speaker))
        fold[own] = (first + np.arange(len(own))) % FOLDS
        first += len(own)
    return fold


# Speaker verification with embeddings: are two recordings by one voice? The equal error rate, by cosine.
#
# It needs no training at all, so there is nothing to tune or to overfit: it asks whether voices lie apart in the
# space as
# it is. Embeddings are centred on the mean of the recordings scored, which uses no speaker label: the units of this
# network are not negative, and raw cosines of such vectors differ little from 1 and mostly repeat what all recordings
# have in common. Centring is the usual first step of verification back ends for the same reason.

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


# The figures of a line of the tables: one examination a seed, and their mean.

INPUT = "input features"
"""The name of the row that is no system: mean ‖ std of the normalised features."""


@dataclass(frozen=True)
class LineInvariance:
    """A line of the tables: `each` examination belongs to one of `seeds`; the input features have no seed."""

    name: str
    seeds: tuple[int, ...]
    each: tuple[Invariance, ...]

    def over_seeds(self, figure: str) -> tuple[float, float]:
        """Mean and sample standard deviation over the seeds of a figure of `FIGURES`; NaN where there are too few."""
        values = [inv.figure(figure) for inv in self.each]
        mean = statistics.fmean(values) if values else math.nan
        # `stdev` refuses what is not finite, such as the gap of genders that nobody knows
        return mean, statistics.stdev(values) if len(values) > 1 and math.isfinite(mean) else math.nan


HEADS = {
    "linear": "Speaker probe, linear",
    "mlp": "Speaker probe, MLP",
    "eer": "EER",
    "worst_uar": "Worst speaker's UAR",
    "mean_uar": "Mean of speakers' UAR",
    "spread_uar": "Best − worst",
    "gender_gap": "Women − men",
}
"""Figure -> head of its column."""


UNSEEN = "unseen speakers"


def markdown(lines: Mapping[str, LineInvariance], whose: str = UNSEEN) -> str:
    """The lines as a Markdown table, percent and points, with what they are to be read against below it."""
    rows = ["| | " + " | ".join(HEADS.values()) + " |", "|---|" + "---:|" * len(HEADS)]
    for line in lines.values():
        rows.append(f"| {line.name} | " + " | ".join(shown(line, figure) for figure in HEADS) + " |")
    first = next(iter(lines.values())).each[0]
    return "\n".join([*rows, "", *explained(first, whose)]) + "\n"


def shown(line: LineInvariance, figure: str) -> str:
    """A figure in percent: mean ± standard deviation over seeds, or with one seed its interval where it has one."""
    mean, deviation = line.over_seeds(figure)
    if math.isnan(mean):
        return "–"
    if len(line.each) > 1:
        return f"{100 * mean:.1f} ± {100 * deviation:.1f}"
    interval = _interval(line.each[0], figure)
    if interval is None or math.isnan(interval.low):
        return f"{100 * mean:.1f}"
    return f"{100 * mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _interval(inv: Invariance, figure: str) -> Estimate | None:
    if figure in ("linear", "mlp", "eer"):
        estimate: Estimate = getattr(inv, figure)
        return estimate
    if inv.groups is None:
        return None
    return {"worst_uar": inv.groups.worst.uar, "gender_gap": inv.groups.gender_gap}.get(figure)


def explained(inv: Invariance, whose: str = UNSEEN) -> Sequence[str]:
    """Sentences that say what the figures are of, `whose` recordings, and what chance is."""
    drawn = "" if inv.examined == inv.recordings else f" (probe and EER: a seeded draw of {inv.examined})"
    one, two = inv.pairs
    of_texts = "with different texts" if inv.pair_texts == "different" else "whatever their texts"
    if inv.disjoint == "texts":
        parts = f"the probe is trained and tested on different recordings and different texts ({inv.texts} texts)"
    else:
        parts = "the probe is trained and tested on different recordings; their texts may be the same"
    return [
        f"{inv.recordings} recordings of {inv.speakers} {whose}{drawn}; {parts}.",
        f"Chance {100 * inv.chance:.1f} %, always the most frequent speaker {100 * inv.majority:.1f} %; an EER of 50 % "
        f"is chance ({one:,} pairs of one speaker and {two:,} of two, {of_texts}).",
        "Percent and points; [95 % interval] from resampling recordings, ± standard deviation over seeds.",
    ]
