"""A database for audEERING's `audformat`: a folder with a header `db.yaml` and two tables, `files` and `segments`.

Columns are the emotion, a probability for each label, and why there is no label. Recordings below the folder are named
relative to it, others by their full path, which audformat calls not portable. Needs the extra `audformat`.
"""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unheard.errors import ConfigError, MissingExtra
from unheard.files import write_whole
from unheard.recogniser.formats import Job, Writer
from unheard.recogniser.formats.tables import rating, whole
from unheard.recogniser.prediction import Prediction

FILES = ("db.files.csv", "db.segments.csv", "db.yaml")
SOURCE = "unheard predict"


class AudformatWriter(Writer):
    """Tables that are kept in memory until `close`."""

    def __init__(self, job: Job, folder: Path) -> None:
        try:
            import audformat
        except ModuleNotFoundError:
            raise MissingExtra("audformat", "audformat") from None
        if folder.exists() and not folder.is_dir():
            raise ConfigError("audformat is a folder, and this is a file", where=folder, mend="Name another --output.")
        header = folder / "db.yaml"
        ours = header.is_file() and f"source: {SOURCE}" in header.read_text("utf-8", "replace").splitlines()
        for path in (folder / name for name in FILES):
            if path.exists() and not ours:
                raise ConfigError(
                    "this is a database already, and not one of predictions", where=path, mend="Name another --output."
                )
        self._audformat: Any = audformat
        self._job, self._folder, self._root = job, folder, folder.resolve()
        self._files: dict[str, list[str]] = {}
        self._segments: dict[tuple[str, float, float], list[str]] = {}

    def add(self, prediction: Prediction) -> None:
        """Keep the rows of one prediction; a recording that comes again is left out, as the tables have no place."""
        path = Path(prediction.file).resolve()
        name = (path.relative_to(self._root) if path.is_relative_to(self._root) else path).as_posix()
        name = name.encode("utf-8", "backslashreplace").decode()
        if name not in self._files:
            self._files[name] = rating(whole(prediction), self._job.labels)
            for one in prediction.segments:
                row = [*rating(one, self._job.labels), *[one.speaker or ""] * self._job.turns]
                if self._segments.setdefault((name, one.start, one.end), row) is not row:
                    raise ConfigError(
                        f"audformat has no place for two turns from {one.start:.3f} to {one.end:.3f} s",
                        where=prediction.file,
                        mend="Choose another --format.",
                    )

    def close(self) -> None:
        """Write the tables, then the header."""
        audformat, job = self._audformat, self._job
        with warnings.catch_warnings(), TemporaryDirectory(prefix="unheard-") as temporary:
            warnings.simplefilter("ignore")  # of pandas, about audformat
            database = audformat.Database(
                "unheard", source=SOURCE, usage="other", description="Emotions predicted by a machine"
            )
            licence = f"; licence of its weights: {job.licence}" if job.licence else ""
            about = f"unheard model {job.model} {job.version}".strip() + licence
            database.raters["model"] = audformat.Rater("machine", description=about)
            database.schemes["emotion"] = audformat.Scheme("str", labels=list(job.labels))
            database.schemes["probability"] = audformat.Scheme("float", minimum=0, maximum=1)
            database.schemes["reason"] = audformat.Scheme("str")
            files = [name for name, _, _ in self._segments]
            starts = [f"{round(1e6 * start)}us" for _, start, _ in self._segments]
            ends = [f"{round(1e6 * end)}us" for _, _, end in self._segments]
            tables: dict[str, tuple[Any, dict[Any, list[str]]]] = {
                "files": (audformat.filewise_index(list(self._files)), self._files),
                "segments": (audformat.segmented_index(files, starts, ends), self._segments),
            }
            names = ["emotion", *(f"p_{label}" for label in job.labels), "abstained"]
            schemes = ["emotion", *["probability"] * len(job.labels), "reason"]
            if job.turns:
                database.schemes["speaker"] = audformat.Scheme("str")
            for table, (index, rows) in tables.items():
                database[table] = audformat.Table(index)
                columns = list(zip(names, schemes, strict=True))
                columns += [("speaker", "speaker")] * (job.turns and table == "segments")
                for place, (column, scheme) in enumerate(columns):
                    values: list[Any] = [row[place] or None for row in rows.values()]
                    if scheme == "probability":
                        values = [None if value is None else float(value) for value in values]
                    database[table][column] = audformat.Column(scheme_id=scheme, rater_id="model")
                    database[table][column].set(values)
            database.save(temporary, storage_format="csv")
            for file in FILES:
                write_whole(self._folder / file, partial(shutil.copyfile, Path(temporary, file)))
