"""Speaker leakage: how much of the speaker embeddings keep, and which speakers the recogniser serves badly.

A fresh probe and verification are run on embeddings of speakers that the network was not trained on. The accuracy of
the adversary proves nothing: it may be at chance because it lost the game, not because the speaker is gone (Elazar and
Goldberg 2018). All settings below are fixed, so that nothing is chosen on what is measured.

Shapes: N recordings, E embedding, S speakers, D bootstrap draws.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.analysis.intervals import Estimate, bootstrap_weights, mean_with_interval
from unheard.errors import TrainingError, counted, needs
from unheard.splits.protocols import known_gender, natural

FORMAT = 1  # increased when the same embeddings would give other figures
MOST_RECORDINGS = 2000
"""Probe and verification use a seeded draw of at most so many recordings, even over the speakers."""
DRAWS = 2000
EER_DRAWS = 200

FOLDS = 5
MOST_FOLDS = 20
PROBES = ("linear", "mlp")
INVERSE_REGULARISATION = 0.1  # C of the logistic regression
HIDDEN = 128
WEIGHT_DECAY = 1e-2
EPOCHS = 200


@dataclass(frozen=True)
class SpeakerRecall:
    """A speaker's `uar` over the `emotions` (number) that the speaker shows, in `recordings` recordings."""

    speaker: str
    gender: str
    recordings: int
    emotions: int
    uar: Estimate


@dataclass(frozen=True)
class GroupRecalls:
    """Emotion UAR of every speaker, in natural order, and of genders.

    `mean` and `deviation` (sample) are over speakers; `gender_gap` is the mean UAR of women minus that of men, NaN if
    a gender is missing. Intervals resample each speaker's recordings of each emotion, not the speakers.
    """

    people: tuple[SpeakerRecall, ...]
    mean: float
    deviation: float
    gender_gap: Estimate
    gender_unknown: int

    @property
    def worst(self) -> SpeakerRecall:
        """The (first) speaker with the lowest UAR."""
        return min(self.people, key=lambda person: person.uar.value)

    @property
    def best(self) -> SpeakerRecall:
        """The (first) speaker with the highest UAR."""
        return max(self.people, key=lambda person: person.uar.value)

    @property
    def spread(self) -> float:
        """The highest UAR minus the lowest."""
        return self.best.uar.value - self.worst.uar.value


@dataclass(frozen=True)
class Leakage:
    """Speaker leakage of the embeddings of one network. All figures are portions, 0 to 1.

    `linear` and `mlp` are accuracies of speaker probes, to be compared with `chance` (1 / speakers) and `majority`
    (always the most frequent speaker); `disjoint` is what their training and test parts do not share, "texts" or
    "recordings". `eer` is the equal error rate of verification over `pairs` (same speaker, different speakers) with
    "different" or "any" texts (`pair_texts`). `groups` is None without predictions. `width` is E.
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
    groups: GroupRecalls | None = None

    def estimate(self, name: str) -> Estimate:
        """Return a figure of the tables, with its interval if it has one; NaN if unknown."""
        if name in ("linear", "mlp", "eer"):
            estimate: Estimate = getattr(self, name)
            return estimate
        if self.groups is None:
            return Estimate(math.nan)
        return {
            "worst_uar": self.groups.worst.uar,
            "mean_uar": Estimate(self.groups.mean),
            "spread_uar": Estimate(self.groups.spread),
            "gender_gap": self.groups.gender_gap,
        }[name]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Leakage":
        """Read the fields from JSON, an estimate as [value, low, high] and NaN as null.

        Raises `KeyError`, `TypeError` or `ValueError` for anything else.
        """
        fields = dict(values, pairs=tuple(map(int, values["pairs"])))
        fields |= {name: _estimate(fields[name]) for name in ("linear", "mlp", "eer")}
        if fields["groups"] is not None:
            groups = dict(fields["groups"])
            groups["people"] = tuple(SpeakerRecall(**{**p, "uar": _estimate(p["uar"])}) for p in groups["people"])
            (groups["deviation"],) = _null_as_nan([groups["deviation"]])
            fields["groups"] = GroupRecalls(**{**groups, "gender_gap": _estimate(groups["gender_gap"])})
        return cls(**fields)


def _null_as_nan(values: Sequence[Any]) -> list[float]:
    return [math.nan if x is None else float(x) for x in values]


def _estimate(values: Sequence[Any]) -> Estimate:
    value, low, high = _null_as_nan(values)
    return Estimate(value, low, high)


def examine_embeddings(
    e: NDArray[Any],
    speakers: Sequence[str],
    texts: Sequence[str],
    genders: Sequence[str] | None = None,
    emotions: Sequence[Any] | None = None,
    predicted: Sequence[Any] | None = None,
) -> Leakage:
    """Measure speaker leakage of the embeddings `e` (N, E) of one network, of speakers it was not trained on.

    The rows belong to `speakers` and `texts` ("" unknown). With `genders`, true `emotions` and `predicted` ones, groups
    are compared too. Embeddings of different networks must not be combined: their spaces differ.
    Raises `TrainingError` for fewer than two speakers, a speaker with one recording or embeddings that are not finite,
    `MissingExtra` without scikit-learn.
    """
    if not np.isfinite(e).all():
        raise TrainingError("some embeddings are not finite", mend="The training has diverged: use another one.")
    sample = _sample(speakers)
    x, speaker, text = np.asarray(e)[sample], [speakers[i] for i in sample], [texts[i] for i in sample]
    folds, disjoint = make_folds(speaker, text)
    cluster = clusters(speaker, text)
    linear, mlp = (
        mean_with_interval(predicted_speakers(x, speaker, folds, kind) == np.asarray(speaker), cluster, DRAWS)
        for kind in PROBES
    )
    eer, pairs, pair_texts = verify(x, speaker, text)
    counts = np.bincount(_indices(speaker))
    grouped = genders is not None and emotions is not None and predicted is not None
    return Leakage(
        speakers=len(counts),
        recordings=len(speakers),
        examined=len(sample),
        texts=len({text.strip().casefold() for text in texts} - {""}),
        width=x.shape[1],
        chance=1 / len(counts),
        majority=float(counts.max() / counts.sum()),
        disjoint=disjoint,
        linear=linear,
        mlp=mlp,
        eer=eer,
        pairs=pairs,
        pair_texts=pair_texts,
        groups=compare_groups(speakers, genders, emotions, predicted) if grouped else None,  # type: ignore[arg-type]
    )


def _indices(names: Sequence[str]) -> NDArray[np.int64]:
    """Return the index of each name among the sorted different names (N,)."""
    return np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1].reshape(-1).astype(np.int64)


def clusters(speakers: Sequence[str], texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the cluster (N,) of each recording: one speaker and one text, whose repetitions resemble each other.

    A recording without a text is a cluster of its own.
    """
    pairs = enumerate(zip(speakers, texts, strict=True))
    return _indices([f"{speaker}\t{text}" if text else f"{speaker}\t\t{i}" for i, (speaker, text) in pairs])


def _sample(speakers: Sequence[str]) -> list[int]:
    """Return the indices of all recordings, or of equally many of each speaker, at most `MOST_RECORDINGS` in all.

    If two of each speaker are too many, speakers are sampled too.
    """
    if len(speakers) <= MOST_RECORDINGS:
        return list(range(len(speakers)))
    speaker = _indices(speakers)
    random = np.random.default_rng(0)
    names = np.arange(int(speaker.max()) + 1)
    if 2 * len(names) > MOST_RECORDINGS:
        names = np.sort(random.permutation(names)[: MOST_RECORDINGS // 2])
    share = MOST_RECORDINGS // len(names)
    sample = [random.permutation(np.flatnonzero(speaker == name))[:share] for name in names]
    return sorted(int(i) for i in np.concatenate(sample))


def make_folds(speakers: Sequence[str], texts: Sequence[str], seed: int = 0) -> tuple[NDArray[np.int64], str]:
    """Return the fold (N,) that tests each recording, and what folds do not share: "texts" or "recordings".

    Every tested speaker has other recordings for training. Folds of texts if all texts are known and every speaker has
    at least two: the probe then cannot recognise a sentence instead of a voice. Five of them, fewer for few texts, more
    if speakers have few texts. Otherwise five folds of recordings.
    Raises `TrainingError` for fewer than two speakers, or a speaker with a single recording.
    """
    speaker = _indices(speakers)
    counts = np.bincount(speaker)
    if len(counts) < 2:
        raise TrainingError(f"a speaker probe needs at least 2 speakers, not {len(counts)}", mend="Add speakers.")
    if counts.min() < 2:
        single = [name for name, n in zip(sorted(set(speakers)), counts, strict=True) if n < 2]
        what = f"{counted(len(single), 'speaker')} with one recording ({', '.join(single[:3])}), too few"
        raise TrainingError(what, mend="Leave them out, or add recordings.")
    plain_texts = [text.strip().casefold() for text in texts]
    if all(plain_texts):
        text = _indices(plain_texts)
        n_texts = int(text.max()) + 1
        for n_folds in range(min(FOLDS, n_texts), min(MOST_FOLDS, n_texts) + 1):
            fold = _folds_of_texts(speaker, text, n_folds, seed)
            if not len(_in_one_fold(speaker, fold)):
                return fold, "texts"
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(np.flatnonzero(speaker == i)) for i in range(len(counts))])
    fold = np.zeros(len(speaker), np.int64)
    fold[order] = np.arange(len(speaker)) % FOLDS
    return fold, "recordings"


def _folds_of_texts(speaker: NDArray[np.int64], text: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return folds (N,) of whole texts, about equal in size, such that few speakers occur in one fold only."""
    sizes = np.bincount(text)
    fold, filled = np.zeros(len(sizes), np.int64), np.zeros(n_folds)
    random = np.random.default_rng(seed)
    for item in random.permutation(len(sizes)):
        fold[item] = filled.argmin()
        filled[fold[item]] += sizes[item]

    def move_text(alone: NDArray[np.int64]) -> bool:
        for i in alone:
            for item in random.permutation(np.unique(text[speaker == i])):
                before = fold[item]
                for step in range(1, n_folds):
                    fold[item] = (before + step) % n_folds
                    if len(_in_one_fold(speaker, fold[text])) < len(alone):
                        return True
                fold[item] = before
        return False

    while len(alone := _in_one_fold(speaker, fold[text])) and move_text(alone):
        pass
    return fold[text]


def _in_one_fold(speaker: NDArray[np.int64], fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the speakers all of whose recordings are in one fold."""
    occurs = np.zeros((int(speaker.max()) + 1, int(fold.max()) + 1), bool)
    occurs[speaker, fold] = True
    return np.flatnonzero(occurs.sum(axis=1) < 2)


def predicted_speakers(
    e: NDArray[Any], speakers: Sequence[str], folds: NDArray[np.int64], kind: str = "linear"
) -> NDArray[np.str_]:
    """Predict the speaker (N,) of each recording by a probe, linear or mlp, trained on the other `folds` (N,).

    `e` (N, E) is standardised by each probe's training part. Raises `MissingExtra` without scikit-learn.
    """
    with needs("scikit-learn", "train"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits
    names = np.asarray(speakers, dtype=np.str_)
    x = np.asarray(e, np.float64)
    predicted = np.empty_like(names)
    for fold in np.unique(folds):
        test = folds == fold
        mean, std = x[~test].mean(axis=0), x[~test].std(axis=0)
        # a constant unit is centred, not scaled to unit variance
        std = np.where(std <= 1e-6 * np.abs(x[~test]).max(axis=0), 1.0, std)
        classifier = (
            LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000)
            if kind == "linear"
            else MLPClassifier((HIDDEN,), alpha=WEIGHT_DECAY, max_iter=EPOCHS, random_state=0)
        )
        with warnings.catch_warnings(), threadpool_limits(1):  # tiny products: threads would wait for each other
            warnings.simplefilter("ignore")  # the fixed number of epochs ends the training
            classifier.fit((x[~test] - mean) / std, names[~test])
        predicted[test] = classifier.predict((x[test] - mean) / std)
    return predicted


# Verification needs no training, so nothing can be tuned or overfitted. Embeddings are centred on the mean of the
# recordings, as in verification back ends: the units of this network are not negative, so raw cosines are near 1.


def verify(e: NDArray[Any], speakers: Sequence[str], texts: Sequence[str]) -> tuple[Estimate, tuple[int, int], str]:
    """Verify the speakers of all pairs of recordings `e` (N, E), by the cosine of centred embeddings.

    Returns the equal error rate, how many pairs are of one speaker and of two, and their texts: "different" or "any".

    If texts are known, only pairs with different texts count, so that a common sentence neither helps nor hinders. The
    interval resamples clusters (speaker and text), as the probe's does. Raises `TrainingError` if there is no pair of
    one speaker, or of two.
    """
    speaker, text = _indices(speakers), _indices([text.strip().casefold() for text in texts])
    first, second = np.triu_indices(len(speaker), 1)
    same = speaker[first] == speaker[second]
    other_text = text[first] != text[second]
    different = all(text.strip() for text in texts) and bool((same & other_text).any() and (~same & other_text).any())
    if different:
        first, second, same = first[other_text], second[other_text], same[other_text]
    if same.all() or not same.any():
        raise TrainingError(
            f"verification needs pairs of recordings of one speaker and of two; here are {int(same.sum())} and "
            f"{int((~same).sum())}",
            mend="Give at least two speakers, with two recordings each.",
        )
    scores = cosines(e)[first, second]
    order = np.argsort(-scores, kind="stable")
    scores, same, first, second = scores[order], same[order], first[order], second[order]
    value = equal_error_rate(scores, same.astype(np.float64), (~same).astype(np.float64))
    cluster = clusters(speakers, texts)
    draws = np.full(EER_DRAWS, np.nan)
    for i, weights in enumerate(bootstrap_weights(int(cluster.max()) + 1, EER_DRAWS)):
        times = weights[cluster]  # how often each recording is drawn
        pair = times[first] * times[second]
        target, nontarget = np.where(same, pair, 0.0), np.where(same, 0.0, pair)
        if target.any() and nontarget.any():
            draws[i] = equal_error_rate(scores, target, nontarget)
    return Estimate.of(value, draws), (int(same.sum()), int((~same).sum())), "different" if different else "any"


def cosines(e: NDArray[Any]) -> NDArray[np.float64]:
    """Return cosines (N, N) between the rows of `e` (N, E), centred on their mean; 0 for a row at the mean."""
    x = np.asarray(e, np.float64)
    x = x - x.mean(axis=0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    # equal rows leave rounding errors, which must not become a direction
    is_zero = length <= 1e-12 * max(1.0, float(np.abs(e).max()))
    x = np.where(is_zero, 0.0, x / np.where(is_zero, 1.0, length))
    return np.asarray(np.round(x @ x.T, 12))


def equal_error_rate(scores: NDArray[np.float64], same: NDArray[np.float64], different: NDArray[np.float64]) -> float:
    """Return the rate, 0 to 1, at which false acceptance equals false rejection.

    `scores` (N,), highest first, are higher for pairs of one speaker; `same` and `different` (N,) are the pairs'
    weights of either kind. Every different score is a threshold, equal scores move together, and the rates between two
    thresholds are interpolated linearly.

    >>> equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), np.array([1.0, 0, 1, 0]), np.array([0, 1.0, 0, 1]))
    0.5
    """
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    accepted = np.concatenate([[0.0], np.cumsum(different)[ends]]) / different.sum()
    rejected = 1.0 - np.concatenate([[0.0], np.cumsum(same)[ends]]) / same.sum()
    return float(np.interp(0.0, accepted - rejected, accepted))  # the difference rises from -1 to 1


def compare_groups(
    speakers: Sequence[str], genders: Sequence[str], emotions: Sequence[Any], predicted: Sequence[Any]
) -> GroupRecalls:
    """Compare speakers and genders by emotion UAR, from true and `predicted` emotions (words or indices), (N,) each.

    A speaker's UAR is over the emotions that the speaker shows. A gender is known if it is female or male (or f, m),
    the same in all rows of the speaker.
    """
    speaker = np.asarray(speakers, dtype=np.str_)
    truth, hits = np.asarray(emotions), np.asarray(emotions) == np.asarray(predicted)
    random = np.random.default_rng(0)
    people, rows = [], []
    for name in sorted(set(speakers), key=natural):
        mask = speaker == name
        all_genders = {known_gender(gender) for gender, of_speaker in zip(genders, mask, strict=True) if of_speaker}
        emotion_hits = [hits[mask & (truth == emotion)] for emotion in np.unique(truth[mask])]
        uar = float(np.mean([x.mean() for x in emotion_hits]))
        # drawing hits and misses with replacement is drawing from a binomial distribution
        draws = np.mean([random.binomial(len(x), x.mean(), DRAWS) / len(x) for x in emotion_hits], axis=0)
        gender = all_genders.pop() if len(all_genders) == 1 else ""
        people.append(SpeakerRecall(name, gender, int(mask.sum()), len(emotion_hits), Estimate.of(uar, draws)))
        rows.append(draws)
    values, draws = np.array([person.uar.value for person in people]), np.array(rows)  # (S,), (S, D)
    gender_of = [person.gender for person in people]
    gap = Estimate(math.nan)
    if {"female", "male"} <= set(gender_of):
        women, men = ([i for i, g in enumerate(gender_of) if g == gender] for gender in ("female", "male"))
        gap = Estimate.of(*(x[women].mean(axis=0) - x[men].mean(axis=0) for x in (values, draws)))
    deviation = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return GroupRecalls(tuple(people), float(values.mean()), deviation, gap, gender_of.count(""))
