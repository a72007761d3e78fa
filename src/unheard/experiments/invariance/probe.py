"""A fresh speaker probe: how well does a new classifier read the speaker from frozen embeddings?

The adversary of a training proves nothing: it may be near chance because it has lost the game, not because the speaker
is gone. So a classifier that had no part in training is trained on the finished embeddings (Elazar and Goldberg 2018),
and tested on recordings, and where possible on texts, that it was not trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import MissingExtra, TrainingError
from unheard.experiments.invariance.resample import indices

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
