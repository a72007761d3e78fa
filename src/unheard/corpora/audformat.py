"""audformat databases (audEERING): a folder with `db.yaml` and tables, read by the package `audformat`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unheard.corpora.rows import ALIASES, to_manifest
from unheard.errors import ManifestError, MissingExtra
from unheard.manifest import Manifest


def read_audformat(
    folder: str | Path, *, mapping: Mapping[str, str] | None = None, audio_root: str | Path | None = None
) -> Manifest:
    """Read an audformat database: a row per file or segment that has an emotion.

    Emotion, speaker, gender... are taken from whichever table or scheme has them. `mapping` gives the labels of unknown
    words, `audio_root` the folder of the recordings (default: `folder`). Raises `MissingExtra` without the package,
    `ManifestError` for a database that cannot be read or has no emotion or speaker.
    """
    folder, database = Path(folder), _opened(Path(folder))
    columns = {name: _column(database, name) for name in ("emotion", "speaker", "gender", "language", "text")}
    for name in ("emotion", "speaker"):
        if not columns[name]:
            known = ", ".join(f"{table}.{column}" for table in database.tables for column in database[table].columns)
            mend = f"Columns of its tables: {known}. Export a table with file, speaker and emotion."
            raise ManifestError(f"no column '{name}' in any table", where=folder / "db.yaml", mend=mend)
    records = []
    for place, ((file, start, end), emotion) in enumerate(columns["emotion"].items(), start=1):
        cells = {"audio": file, "start": start, "end": end, "emotion": emotion}
        for name in ("speaker", "gender", "language", "text"):
            cells[name] = columns[name].get((file, start, end)) or columns[name].get((file, "", ""), "")
        records.append((place, cells, {name: name for name in cells}))
    search = audio_root is not None
    return to_manifest(records, folder, audio_root or folder, "row", mapping=mapping, search=search)


def _opened(folder: Path) -> Any:
    """Load the header and all tables."""
    try:
        import audformat
        import yaml
    except ImportError:
        raise MissingExtra("audformat", "audformat") from None
    try:
        header = yaml.safe_load((folder / "db.yaml").read_text(encoding="utf-8"))
        database = audformat.Database.load_header_from_yaml({"source": "", "usage": "unrestricted", **header})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package's own use of pandas
            for name, table in {**database.tables, **database.misc_tables}.items():
                table.load(str(folder / f"db.{name}"))
    except Exception as problem:  # the package raises whatever pandas, yaml and the operating system do
        mend = "Open it with audformat.load(...) to see more."
        raise ManifestError(f"not an audformat database ({problem})", where=folder / "db.yaml", mend=mend) from problem
    return database


def read_speakers(folder: Path) -> dict[tuple[str, str, str], str]:
    """Return (file, start, end) -> speaker of every segment of an audformat database; errors as `read_audformat`."""
    return {key: name for key, name in _column(_opened(folder), "speaker").items() if key[1]}


def _column(database: Any, name: str) -> dict[tuple[str, str, str], str]:
    """(file, start, end) -> the value of the first column called `name`, or of a scheme that maps to it."""
    values: dict[tuple[str, str, str], str] = {}
    for table in database.tables.values():
        for key, column in table.columns.items():
            scheme = database.schemes.get(column.scheme_id or "")
            if key.casefold() in (name, *ALIASES.get(name, ())):
                series = column.get()
            elif scheme is not None and name in _mapped(scheme):
                series = column.get(map=name)
            else:
                continue
            for index, value in series.dropna().items():
                file, start, end = index if isinstance(index, tuple) else (index, "", "")
                values.setdefault((str(file), str(start), str(end)), str(value))
    return values


def _mapped(scheme: Any) -> set[str]:
    """The names that the labels of a scheme can be mapped to, such as the gender of a speaker."""
    labels = scheme.labels if isinstance(scheme.labels, dict) else {}
    return {key for label in labels.values() if isinstance(label, dict) for key in label}
