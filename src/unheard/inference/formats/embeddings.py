"""Embeddings as a table: JSON lines, CSV or numpy's .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unheard.errors import ConfigError, UnheardError
from unheard.files import write_whole
from unheard.inference.formats.csv import csv_line
from unheard.inference.formats.json import as_json, failure
from unheard.inference.formats.sink import Sink, sink
from unheard.inference.prediction import Prediction

SUFFIXES = (".jsonl", ".csv", ".npz")


class JsonlEmbeddings:
    """A line a recording, `{"file": …, "channel": …, "embedding": […]}`, null where there was too little speech."""

    def __init__(self, out: Sink) -> None:
        self._sink = out

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        embedding = None if prediction.embedding is None else prediction.embedding.tolist()
        row = {"file": prediction.file, "channel": prediction.channel, "embedding": embedding}
        if prediction.abstained is not None:
            row["abstained"] = prediction.abstained
        self._sink.write(as_json(row, ascii=self._sink.ascii) + "\n")

    def failed(self, file: str, error: UnheardError) -> None:
        """Write one line that says why there is no embedding."""
        self._sink.write(as_json(failure(file, error), ascii=self._sink.ascii) + "\n")

    def close(self) -> None:
        """Nothing is left."""


class ArrayEmbeddings:
    """`.csv` with the columns file, channel, e0…; `.npz` with the arrays files, channels and embeddings (N, E).

    Recordings without an embedding are left out, and kept in `left_out`. The file appears on `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[tuple[str, str]] = []
        self._rows: list[np.ndarray] = []
        self.left_out: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Keep one row."""
        if prediction.embedding is None:
            self.left_out.append(prediction)
        else:
            self._names.append((prediction.file, prediction.channel))
            self._rows.append(prediction.embedding)

    def failed(self, file: str, error: UnheardError) -> None:
        """Standard error has said it."""

    def close(self) -> None:
        """Write the file."""
        rows = np.stack(self._rows) if self._rows else np.zeros((0, 0), np.float32)
        if self._path.suffix == ".csv":
            with sink(self._path) as out:
                out.write(csv_line(["file", "channel", *(f"e{number}" for number in range(rows.shape[1]))]))
                for name, row in zip(self._names, rows, strict=True):
                    out.write(csv_line([*name, *row.tolist()]))
            return
        names = np.array(self._names, dtype=str).reshape(-1, 2)
        write_whole(self._path, lambda path: _save(path, names, rows))


def _save(path: Path, names: np.ndarray, rows: np.ndarray) -> None:
    with path.open("wb") as file:  # a path would get another ending
        np.savez(file, files=names[:, 0], channels=names[:, 1], embeddings=rows)


def check_suffix(path: Path) -> None:
    """Raise `ConfigError` for an ending that is no format of embeddings."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"'{path.suffix}' is no format of embeddings", where=path, mend=f"Use {', '.join(SUFFIXES)}.")
