"""The records of a run: what a system said, a cell, a seed, a line of the tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unheard.errors import RunError
from unheard.experiments.choice import KNOBS
from unheard.experiments.fitted import FITTED
from unheard.experiments.folder import read_history
from unheard.training.metrics import confusion, macro_f1, unweighted_average_recall, weighted_accuracy

NAMES = {"ser": "SER_only", "mtl": "SER_SR_MTL", "dat": "SER_SR_DAT", "cgt": "SER_SR_CGT"} | {
    key: system.name for key, system in FITTED.items()
}
"""The systems in the order of the paper's tables, with the names they have there, then the classical ones."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a system said of the utterances of one part, dev or test, of one seed: all folds in splits.csv's order.

    `truth` and `predicted` (n,) are indices of labels, `probabilities` is (n, C); `folds` (n,).
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    folds: NDArray[np.int64]
    readings: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def wa(self) -> float:
        """Weighted accuracy, pooled over the folds."""
        return weighted_accuracy(self.truth, self.predicted)

    @property
    def uar(self) -> float:
        """Unweighted average recall, pooled over the folds."""
        return unweighted_average_recall(self.truth, self.predicted, self.probabilities.shape[1])

    @property
    def macro_f1(self) -> float:
        """Macro-averaged F1, pooled over the folds."""
        return macro_f1(self.truth, self.predicted, self.probabilities.shape[1])

    @property
    def wa_of_folds(self) -> float:
        """Mean of the folds' weighted accuracies."""
        here = [self.folds == fold for fold in np.unique(self.folds)]
        return statistics.fmean(weighted_accuracy(self.truth[own], self.predicted[own]) for own in here)

    def confusion(self, n_labels: int) -> NDArray[np.int64]:
        """Counts (C, C): row the true label, column the predicted one."""
        return confusion(self.truth, self.predicted, n_labels)


@dataclass(frozen=True, eq=False)
class CellRecord:
    """A finished cell. `folder` holds its result; `home` is the cell's own folder, another one for a readout.

    `value` is what its knob stood at, None for a system that has none. `judged_twice`: it has two readings and gave
    the same answers in both, so that its validation and its test say the same of the same utterances.
    """

    name: str
    folder: Path
    system: str
    fold: int
    seed: int
    result: Mapping[str, Any]
    home: Path
    value: float | None = None
    judged_twice: bool = False

    @property
    def fitted(self) -> bool:
        """Whether it was fitted in one go, and has neither epochs nor curves."""
        return bool(self.result.get("fitted"))

    def history(self) -> list[dict[str, Any]]:
        """A record an epoch, up to the result's; [] where they are absent."""
        return [record for record in read_history(self.home) if record.get("epoch", 0) <= self.result["epochs"]]

    def embeddings(self) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]] | None:
        """Embeddings (n, E) with their ids and parts, or None where they are absent."""
        path = self.folder / "embeddings.npz"
        if not path.exists():
            return None
        try:
            with np.load(path) as arrays:
                return arrays["e"], tuple(map(str, arrays["id"])), tuple(map(str, arrays["part"]))
        except (OSError, ValueError, KeyError) as error:
            raise RunError(
                f"cannot be read ({error})", where=path, mend="Delete it and run the experiment again."
            ) from error


@dataclass(frozen=True, eq=False)
class SeedRecord:
    """One complete seed of a line; `cells` are those its predictions are from, in the order of the folds."""

    seed: int
    dev: Predictions
    test: Predictions
    cells: tuple[CellRecord, ...]


@dataclass(frozen=True, eq=False)
class Line:
    """A line of the tables: a system, its knob fixed at `value` or chosen by validation speakers.

    `seeds` are the complete ones; `done` of `wanted` trainings are there.
    """

    system: str
    knob: str
    chosen: bool
    value: float | None
    seeds: tuple[SeedRecord, ...]
    done: int
    wanted: int

    @property
    def name(self) -> str:
        """The paper's name, and what was chosen: `SER_SR_DAT, λ chosen`; of systems not ours what their cells say."""
        said = (cell.result.get("name") for seed in self.seeds for cell in seed.cells)
        name = NAMES.get(self.system) or next(said, None) or self.system.upper()
        return f"{name}, {KNOBS[self.system].symbol} chosen" if self.chosen else name

    @property
    def fitted(self) -> bool:
        """Whether it is a classical system."""
        return any(cell.fitted for seed in self.seeds for cell in seed.cells)

    @property
    def judged_twice(self) -> bool:
        """Whether validation says over again what the test says: the same answers of the same networks.

        Where a fold is read in both directions and both readings come to the same network, as they do when the last
        epoch is read out, validation is no second opinion; nor is it where it chose among such networks.
        """
        return bool(self.seeds) and all(cell.judged_twice for seed in self.seeds for cell in seed.cells)

    @property
    def family(self) -> str:
        """Whose contrasts it is corrected with."""
        return "classical" if self.fitted else "chosen" if self.chosen else "fixed"

    def over_seeds(self, figure: str, part: str = "test") -> tuple[float, float]:
        """Mean and sample standard deviation over the complete seeds of `wa`, `uar`, ...; NaN where too few."""
        values = [float(getattr(getattr(seed, part), figure)) for seed in self.seeds]
        mean = statistics.fmean(values) if values else float("nan")
        return mean, statistics.stdev(values) if len(values) > 1 else float("nan")
