"""JSON and JSON lines: everything but the embedding; a recording that failed is `{"file": …, "error": …}`."""

from __future__ import annotations

import json
from typing import Any

from unheard.errors import UnheardError
from unheard.inference.formats.base import Job
from unheard.inference.formats.sink import Sink
from unheard.inference.prediction import Prediction


def as_json(value: Any, indent: int | None = None, *, ascii: bool = False) -> str:
    """One value as JSON, without NaN; in `ascii` alone, for a stream that takes nothing else, other letters escaped."""
    return json.dumps(value, ensure_ascii=ascii, allow_nan=False, indent=indent)


def failure(file: str, error: UnheardError) -> dict[str, str]:
    """What is said of a recording without a prediction."""
    return {"file": file, "error": f"{error.what.rstrip('.')}. {error.mend or ''}".strip()}


class JsonlWriter:
    """One line a prediction, written as soon as it is known."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._sink = sink

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        self._sink.write(as_json(prediction.as_dict(), ascii=self._sink.ascii) + "\n")

    def failed(self, file: str, error: UnheardError) -> None:
        """Write one line that says why there is no prediction."""
        self._sink.write(as_json(failure(file, error), ascii=self._sink.ascii) + "\n")

    def close(self) -> None:
        """Nothing is left."""


class JsonWriter:
    """One object for one recording, else a list; written along the way, whatever its length."""

    def __init__(self, job: Job, sink: Sink) -> None:
        self._sink, self._single, self._count = sink, job.single, 0

    def add(self, prediction: Prediction) -> None:
        """Write one object."""
        self._item(prediction.as_dict())

    def failed(self, file: str, error: UnheardError) -> None:
        """Write an object that says why there is no prediction."""
        self._item(failure(file, error))

    def close(self) -> None:
        """End the list."""
        if not self._single:
            self._sink.write("\n]\n" if self._count else "[]\n")

    def _item(self, value: Any) -> None:
        if self._single:
            self._sink.write(as_json(value, indent=1, ascii=self._sink.ascii) + "\n")
        else:
            self._sink.write((",\n" if self._count else "[\n") + as_json(value, ascii=self._sink.ascii))
        self._count += 1
