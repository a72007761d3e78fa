"""Classical systems: fitted once to one vector for each utterance, without epochs.

    functionals (1, D) from a separate store -> standardised on the training speakers -> a fit for each grid value
    -> the value with the best WA on the fold's validation speakers (without any: on training speakers left out in
    turn), the smallest on a tie -> test, scored once

To add a system, add a line to `CLASSICAL_SYSTEMS`. This module can be imported without torch and scikit-learn.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unheard.errors import TrainingError, needs
from unheard.features.functionals import FUNCTIONALS
from unheard.features.settings import FeatureSettings

Doubles = NDArray[np.float64]
DecisionFunction = Callable[[Doubles], Doubles]  # vectors (n, D) -> decision values (n, C); the largest wins

EPOCHS = 1  # the number of epochs in the records of a fit


@dataclass(frozen=True)
class ClassicalSystem:
    """A classical system: its `name` in tables, and `fit(x (n, D), y (n,), C, value)` for the values of `grid`.

    `features` are the settings of its vectors; `source` describes vectors of another origin. With `pools` the vectors
    are the mean and standard deviation over time of the experiment's frames, (T, F) to (2F,).
    """

    name: str
    features: FeatureSettings | None
    hyperparameter: str
    grid: tuple[float, ...]
    fit: Callable[[Doubles, NDArray[np.int64], int, float], DecisionFunction]
    source: str = ""
    pools: bool = False

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify a fit, except for its data."""
        vectors = self.features.digest if self.features else self.source
        parts = [self.fit.__name__, vectors, self.hyperparameter, *self.grid]
        return blake2b("\t".join(map(str, parts)).encode(), digest_size=6).hexdigest()


def linear_svm(x: Doubles, y: NDArray[np.int64], classes: int, c: float) -> DecisionFunction:
    """Fit a linear support vector machine: one against the rest, squared hinge loss, balanced class weights.

    An emotion that does not occur in `y` is never predicted. Raises `TrainingError` for a single emotion,
    `MissingExtra` without scikit-learn.
    """
    with needs("scikit-learn", "train"):
        from sklearn.svm import LinearSVC
    present = np.unique(y)
    if len(present) < 2:
        raise TrainingError("all utterances to train on show the same emotion", mend="Check the split.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver may stop early: validation selects among the results
        machine = LinearSVC(C=c, class_weight="balanced", dual="auto", random_state=0, max_iter=10_000).fit(x, y)

    def decide(vectors: Doubles) -> Doubles:
        values = machine.decision_function(vectors)
        values = values if values.ndim == 2 else np.stack([-values, values], axis=1)
        out = np.full((len(vectors), classes), -np.inf)
        out[:, present] = values
        return out

    return decide


CLASSICAL_SYSTEMS = {
    "svm": ClassicalSystem("SVM (functionals)", FUNCTIONALS, "C", (1e-4, 1e-3, 1e-2, 1e-1, 1.0), linear_svm),
    "pooled": ClassicalSystem(
        "SVM (pooled frames)", None, "C", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), linear_svm, "pooled frames", pools=True
    ),
}
"""Key -> classical system."""

NAMES = {"ser": "SER_only", "mtl": "SER_SR_MTL", "dat": "SER_SR_DAT", "cgt": "SER_SR_CGT"} | {
    key: system.name for key, system in CLASSICAL_SYSTEMS.items()
}
"""System -> name in tables, in the order of the paper's tables, followed by the classical systems."""


def table_position(system: str) -> int:
    """Return the position of a system in the order of the tables; plug-ins come last."""
    return [*NAMES, system].index(system)


def normaliser_kind(normalise: str) -> Literal["speaker", "train"]:
    """Return the kind of `Normaliser` of a classical system in an experiment with `normalise`."""
    return "speaker" if normalise == "speaker" else "train"
