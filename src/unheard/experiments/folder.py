"""The files of a run's folder as plain tables: nothing here knows torch or the corpus.

RUN/config.yaml, splits.csv, utterances.csv, data.json, cells/<name>/{result.json, predictions.csv, ...}
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unheard.errors import RunError
from unheard.manifest import Manifest

UTTERANCES = ("id", "speaker", "gender", "session", "emotion", "text", "corpus", "language")
"""Columns of `utterances.csv`: the manifest's rows without paths."""

DATA = "data.json"
"""Which data each fold stands on: what trainings on labels or recordings of before are told by."""


class Assigned(NamedTuple):
    """A row of `splits.csv`: an utterance's part in a fold; training rows have an empty reading."""

    fold: int
    reading: str
    part: str
    id: str
    speaker: str


def read_assignment(folder: Path) -> tuple[Assigned, ...]:
    """The rows of a run's `splits.csv`; raises `RunError` where there is none or it cannot be understood."""
    path = folder / "splits.csv"
    try:
        rows = [
            Assigned(int(row["fold"]), row["reading"], row["part"], row["id"], row["speaker"]) for row in read_csv(path)
        ]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise RunError(
            f"the run's split cannot be read ({type(error).__name__}: {error})",
            where=path,
            mend="Run the same experiment again: it writes this file, and trains only what is missing.",
        ) from error
    if not any(row.part == "test" for row in rows):
        raise RunError("the run's split tests nobody", where=path, mend="Run the same experiment again.")
    return tuple(rows)


def digest_of(rows: Iterable[Assigned]) -> str:
    """What `Split.digest` is of the same assignment."""
    lines = sorted("\t".join(map(str, row[:4])) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def utterances_csv(manifest: Manifest) -> str:
    """The text of `utterances.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(UTTERANCES)
    writer.writerows([row.get(column) for column in UTTERANCES] for row in manifest)
    return text.getvalue()


def read_utterances(folder: Path) -> dict[str, dict[str, str]]:
    """id -> its row of `utterances.csv`, whole ones alone; nothing where a run has no such file."""
    path = folder / "utterances.csv"
    if not path.exists():
        return {}
    try:
        return {row["id"]: row for row in read_csv(path) if None not in row.values()}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise RunError(
            f"cannot be read ({error})", where=path, mend="Delete it; the same experiment again writes it anew."
        ) from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_data(folder: Path) -> dict[int, str | None]:
    """Fold -> the digest of the labels and recordings it stands on now, from `data.json`; None: it has others now.

    Of a fold that is not named nothing has changed since there is such a file. Nothing where the run has none, or none
    that can be read.
    """
    try:
        read = json.loads((folder / DATA).read_text(encoding="utf-8"))
        return {int(fold): None if digest is None else str(digest) for fold, digest in read.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def result_in(folder: Path) -> dict[str, Any]:
    """The content of a `result.json`; nothing where it is missing or damaged."""
    try:
        read = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def epochs_of(result: Mapping[str, Any]) -> int:
    """The number of epochs a result is for; -1 where it does not say."""
    epochs = result.get("epochs")
    return epochs if isinstance(epochs, int) else -1


def readout_of(folder: Path, epochs: int) -> Path:
    """Where a cell in `folder` keeps its result for `epochs` once it was trained further."""
    return folder / "readouts" / f"{epochs:05d}"


def place_of(folder: Path, epochs: int) -> Path:
    """Where the result of the cell in `folder` for `epochs` is, once it exists.

    The longest training's result is in the cell's folder itself, earlier readouts in `readouts/<epochs>`.
    """
    return folder if epochs_of(result_in(folder)) == epochs else readout_of(folder, epochs)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The lines of a `history.jsonl`; none where it is missing or damaged."""
    try:
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def read_predictions(path: Path, labels: Sequence[str]) -> dict[tuple[str, str], tuple[int, int, list[float]]]:
    """(part, id) -> true and predicted index in `labels`, and the probability of each label.

    Raises `ValueError`, `KeyError` or `OSError` for a file that is damaged or has other labels.
    """
    index = {label: place for place, label in enumerate(labels)}
    columns = ["id", "speaker", "part", "emotion", "predicted", *(f"p_{label}" for label in labels)]
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        try:
            if next(rows, None) != columns:
                raise ValueError(f"the columns are not {','.join(columns)}")
            return {
                (part, name): (index[emotion], index[predicted], [float(p) for p in probabilities])
                for name, _, part, emotion, predicted, *probabilities in rows
                if len(probabilities) == len(labels) or _damaged(name)
            }
        except csv.Error as error:
            raise ValueError(str(error)) from error


def _damaged(name: str) -> bool:
    raise ValueError(f"the row of '{name}' is incomplete")
