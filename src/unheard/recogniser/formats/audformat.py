"""audformat: a folder with a header `db.yaml` and two tables, `files` and `segments`, as audEERING's tools read it.

Columns are the emotion, one probability an emotion, and why there is none; raters are machines. Recordings below the
folder are named relative to it, others by their full path, which audformat calls not portable.
Source: the audformat specification, version 1, "Database" and "Tables".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unheard.errors import ConfigError, UnheardError
from unheard.files import write_text
from unheard.recogniser.formats.base import Job
from unheard.recogniser.formats.tables import csv_line
from unheard.recogniser.prediction import Prediction

HEADER, FILES, SEGMENTS = "db.yaml", "db.files.csv", "db.segments.csv"
SOURCE = "unheard predict"


class AudformatWriter:
    """Two tables kept until the end: the header and all of them appear together."""

    def __init__(self, job: Job, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ConfigError("audformat is a folder, and this is a file", where=folder, mend="Name another --output.")
        _not_over_another(folder)
        self._job, self._folder = job, folder
        self._root = folder.resolve()
        self._columns = ["emotion", *(f"p_{label}" for label in job.labels), "abstained"]
        self._files: dict[str, list[str]] = {}
        self._segments: list[list[str]] = []

    def add(self, prediction: Prediction) -> None:
        """Keep one prediction's rows; a recording that comes again, which a table has no place for, is passed over."""
        name = self._name(prediction.file)
        if name in self._files:
            return
        self._files[name] = self._values(prediction)
        for one in prediction.segments:
            self._segments.append([name, timedelta(one.start), timedelta(one.end), *self._values(one)])

    def failed(self, file: str, error: UnheardError) -> None:
        """A recording that cannot be read is in no table."""

    def close(self) -> None:
        """Write the tables, then the header."""
        files = [[name, *values] for name, values in self._files.items()]
        write_text(self._folder / FILES, _csv(["file", *self._columns], *files))
        write_text(self._folder / SEGMENTS, _csv(["file", "start", "end", *self._columns], *self._segments))
        write_text(self._folder / HEADER, self._header())

    def _name(self, file: str) -> str:
        path = Path(file).resolve()
        name = (path.relative_to(self._root) if path.is_relative_to(self._root) else path).as_posix()
        return name.encode("utf-8", "backslashreplace").decode()  # as other formats show what is no Unicode

    def _values(self, answer: Any) -> list[str]:
        probabilities = [
            f"{answer.probabilities[label]:.6f}" if label in answer.probabilities else "" for label in self._job.labels
        ]
        return [answer.label or "", *probabilities, answer.abstained or ""]

    def _header(self) -> str:
        import yaml

        rated: dict[str, Any] = {"emotion": {"scheme_id": "emotion", "rater_id": "model"}}
        rated |= {f"p_{label}": {"scheme_id": "probability", "rater_id": "model"} for label in self._job.labels}
        rated["abstained"] = {"scheme_id": "reason", "rater_id": "model"}
        licence = f"; licence of its weights: {self._job.licence}" if self._job.licence else ""
        header = {
            "name": "unheard",
            "description": "Emotions predicted by a machine",
            "source": SOURCE,
            "usage": "other",
            "raters": {
                "model": {
                    "description": f"unheard model {self._job.model} {self._job.version}".strip() + licence,
                    "type": "machine",
                }
            },
            "schemes": {
                "emotion": {"dtype": "str", "labels": list(self._job.labels)},
                "probability": {"dtype": "float", "minimum": 0, "maximum": 1},
                "reason": {"dtype": "str"},
            },
            "tables": {
                "files": {"type": "filewise", "columns": rated},
                "segments": {"type": "segmented", "columns": rated},
            },
        }
        return yaml.dump(header, sort_keys=False, allow_unicode=True, Dumper=_plain(yaml))


def _not_over_another(folder: Path) -> None:
    """Raise `ConfigError` where the folder holds a database that is none of ours, whose labels would be lost."""
    header = folder / HEADER
    made = f"source: {SOURCE}" in header.read_text("utf-8", "replace").splitlines() if header.is_file() else False
    for path in (header, folder / FILES, folder / SEGMENTS):
        if path.exists() and not made:
            raise ConfigError(
                "this is a database already, and not one of predictions", where=path, mend="Name another --output."
            )


def timedelta(seconds: float) -> str:
    """Seconds as audformat writes them, `0 days 00:00:01.250000`."""
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} days {hour:02}:{minute:02}:{second:02}.{micro:06}"


def _csv(*rows: list[str]) -> str:
    return "".join(csv_line(row) for row in rows)


def _plain(yaml: Any) -> Any:
    """A dumper that writes a table twice instead of a reference to the first."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: object) -> bool:
            return True

    return Dumper
