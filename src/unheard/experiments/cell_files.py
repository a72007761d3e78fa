"""Reading and writing of the files in the folder of a cell (see `cell.py`), without torch."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unheard.files import csv_text, write_text, write_whole

if TYPE_CHECKING:
    from unheard.experiments.plan import Cell
    from unheard.training.trainer import Evaluation


def result_in(folder: Path) -> dict[str, Any]:
    """Return the content of a `result.json`; {} if missing or damaged."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def epochs_of(result: Mapping[str, Any]) -> int:
    """Return the number of epochs of a result; -1 if unknown."""
    epochs = result.get("epochs")
    return epochs if isinstance(epochs, int) else -1


def epochs_folder(folder: Path, epochs: int) -> Path:
    """Return the folder of a cell's result after `epochs`, if the cell was trained further."""
    return folder / "epochs" / f"{epochs:05d}"


def result_folder(folder: Path, epochs: int) -> Path:
    """Return the folder of a cell's result after `epochs`: the cell's folder for the longest training."""
    return folder if epochs_of(result_in(folder)) == epochs else epochs_folder(folder, epochs)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a `history.jsonl`; [] if missing or damaged."""
    try:
        return [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def cell_columns(labels: Sequence[str]) -> list[str]:
    """Return the columns of a cell's `predictions.csv`."""
    return ["id", "speaker", "part", "emotion", "predicted", *(f"p_{label}" for label in labels)]


def read_predictions(path: Path, labels: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Return (part, id) -> emotion, predicted emotion and probabilities as text, from a cell's `predictions.csv`.

    Raises `ValueError` or `OSError` for a file that is damaged or has other labels.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        try:
            if next(rows, None) != cell_columns(labels):
                raise ValueError(f"the columns are not {','.join(cell_columns(labels))}")
            predictions = {(row[2], row[0]): row[3:] for row in rows}
        except (csv.Error, IndexError) as error:
            raise ValueError(str(error)) from error
    for row in predictions.values():
        if len(row) != 2 + len(labels) or not {row[0], row[1]} <= set(labels):
            raise ValueError(f"the row {','.join(row)} is incomplete, or has another label")
    return predictions


def write_predictions(cell: Cell, evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Write `predictions.csv` and `embeddings.npz` with dev and test of every direction, in the same order."""
    parts = [(part, scores) for e in evaluations for part, scores in (("dev", e.dev), ("test", e.test))]
    labels, table = cell.settings.labels, [cell_columns(cell.settings.labels)]
    for part, scores in parts:
        for name, predicted, probabilities in zip(scores.ids, scores.predicted, scores.probabilities, strict=True):
            row = [name, cell.rows[name].speaker, part, cell.rows[name].emotion, labels[predicted]]
            table.append([*row, *(f"{p:.6g}" for p in probabilities)])
    write_text(folder / "predictions.csv", csv_text(table))
    arrays: dict[str, NDArray[Any]] = {
        "e": np.concatenate([scores.embeddings for _, scores in parts]),
        "id": np.array([name for _, scores in parts for name in scores.ids]),
        "part": np.array([part for part, scores in parts for _ in scores.ids]),
    }

    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(folder / "embeddings.npz", save)


def archive_result(folder: Path, epochs: int) -> None:
    """Move the results of a shorter training to a separate folder before a longer one replaces them."""
    archive = epochs_folder(folder, epochs)
    for evaluation in (Path("reestimated"), Path()):
        for name in ("predictions.csv", "embeddings.npz", "model*.safetensors"):
            for path in (folder / evaluation).glob(name):
                write_whole(archive / evaluation / path.name, partial(shutil.copyfile, path))
        # last and in one step, so that exactly one folder always has a valid result
        if (folder / evaluation / "result.json").exists():
            (folder / evaluation / "result.json").replace(archive / evaluation / "result.json")
