"""What a model file with smaller weights costs in accuracy, on recordings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unheard.errors import ExportError
from unheard.experiments.evaluate import rows_it_knows, trained_on
from unheard.experiments.grid import usable
from unheard.experiments.readout import full_name
from unheard.export.parity import session
from unheard.features import FeatureStore, build_store
from unheard.manifest import Manifest
from unheard.training.metrics import unweighted_average_recall, weighted_accuracy
from unheard.training.model import Model

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cost:
    """Two files on the same recordings, the larger first: `size` in bytes, WA, UAR; `changed` labels between them.

    `shift` is the largest difference of a probability. `seen` says that the model was trained on these speakers:
    its accuracies then say nothing of others, their difference still does.
    """

    utterances: int
    speakers: int
    seen: bool
    size: tuple[int, int]
    wa: tuple[float, float]
    uar: tuple[float, float]
    changed: int
    shift: float


def measure_cost(
    model: Model,
    full: str | Path,
    small: str | Path,
    manifest: Manifest,
    *,
    store: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Cost:
    """Compare two exported files of `model` on the rows of `manifest` whose label it knows.

    Only speakers that the model was not trained on count, where there are any. `store` keeps the features. Raises
    `ExportError` where no recording is left.
    """
    rows = rows_it_knows(model, manifest, None, say)
    heard = trained_on(model)
    unseen = rows.where(lambda row: full_name(row) not in heard)
    seen = not len(unseen)
    rows = rows if seen else unseen
    with ExitStack() as stack:
        where = Path(store) if store else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unheard-")))
        features = build_store(rows, where, model.features)
        rows = usable(rows, features, say)
        if not len(rows):
            raise ExportError("no recording is left to compare the two files on", mend="Name another manifest.")
        said = [probabilities(Path(path), features, rows.ids) for path in (full, small)]
    truth = np.array([model.labels.index(row.emotion) for row in rows])
    predicted = [one.argmax(axis=1) for one in said]
    return Cost(
        utterances=len(rows),
        speakers=len(rows.speakers),
        seen=seen,
        size=(Path(full).stat().st_size, Path(small).stat().st_size),
        wa=(weighted_accuracy(truth, predicted[0]), weighted_accuracy(truth, predicted[1])),
        uar=(
            unweighted_average_recall(truth, predicted[0], len(model.labels)),
            unweighted_average_recall(truth, predicted[1], len(model.labels)),
        ),
        changed=int((predicted[0] != predicted[1]).sum()),
        shift=float(np.abs(said[0] - said[1]).max()),
    )


def probabilities(path: Path, store: FeatureStore, ids: tuple[str, ...]) -> Floats:
    """What the file at `path` says of the utterances `ids` of a store, (n, C)."""
    run = session(path.read_bytes())
    said = [
        run.run(["probabilities"], {"features": store[name][None], "lengths": np.array([len(store[name])])})[0]
        for name in ids
    ]
    return np.concatenate(said)
