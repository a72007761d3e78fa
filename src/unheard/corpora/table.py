"""Manifests as files: CSV, TSV and JSONL both ways, and the tables that other tools write.

    file,speaker,emotion            <- these three columns are enough
    audio/001.wav,Anna,angry

`read_table` also knows other usual names for the columns and the emotions, SpeechBrain's JSON
({id: {wav, emo, ...}}), audformat's tables (file,start,end,...) and offset/duration manifests. What
`write_table` has written, `read_table` reads back exactly; columns of the user's own are kept in `extra`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unheard.corpora.rows import Rows, name_columns, relative_below
from unheard.errors import ManifestError, did_you_mean
from unheard.files import cannot_read, replacing
from unheard.manifest import COLUMNS, Manifest, Utterance

_DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}
_JSON_LINES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*_DELIMITED, *_JSON_LINES, ".json")
"""Endings of files that `read_table` reads."""


def read_table(path: str | Path) -> Manifest:
    """The manifest in a CSV, TSV, JSONL or JSON file; relative audio paths are relative to its folder.

    Raises `ManifestError`, naming the line, for a missing header or column, an unknown emotion, an empty
    speaker, an id that occurs twice, or times that are none. The audio files themselves are not opened.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ManifestError(f"'{suffix}' is no kind of table", where=path, mend=did_you_mean(suffix, TABLE_SUFFIXES))
    unit = "utterance" if suffix == ".json" else "line"
    rows = Rows(path, path.parent, unit)
    columns: dict[tuple[str, ...], dict[str, str]] = {}
    try:
        with path.open(encoding=_encoding(path), newline="") as stream:
            if suffix == ".json":
                records = _json(stream.read(), path)
            elif suffix in _JSON_LINES:
                records = _json_lines(stream, path)
            else:
                records = _delimited(stream, path, "\t" if suffix in (".tsv", ".tab") else "")
            for place, cells in records:
                header = tuple(cells)
                if header not in columns:
                    columns[header] = name_columns(header, f"{path}, {unit} {place}")
                rows.add(cells, columns[header], place)
    except OSError as problem:
        raise cannot_read(path, problem, ManifestError) from problem
    except UnicodeDecodeError as problem:
        raise ManifestError("it is not UTF-8 text", where=path, mend="Save it as UTF-8.") from problem
    return rows.manifest()


def write_table(manifest: Manifest, path: str | Path) -> None:
    """Writes `manifest` as CSV, TSV or JSONL, by the ending of `path`: complete, or not at all.

    Audio below the folder of `path` is written relative to it, other audio absolute. Notes are not
    written. Raises `ManifestError` when the place or the manifest cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    writable = (".csv", ".tsv", ".tab", *_JSON_LINES)
    if suffix not in writable:
        raise ManifestError(f"'{suffix}' is no kind of table to write", where=path, mend=did_you_mean(suffix, writable))
    here = os.getcwd()  # noqa: PTH109
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - Path.resolve would follow links
    names = list(dict.fromkeys(name for row in manifest for name in row.extra))
    for name in names:
        if name in COLUMNS or not name.strip():
            raise ManifestError(f"'{name}' cannot name a column of your own", where=path, mend="Rename it.")
    with replacing(path, ManifestError) as stream:
        if suffix not in _JSON_LINES:
            delimiter = _DELIMITED[suffix]
            stream.write(delimiter.join(map(_quoted, [*COLUMNS, *names])) + "\n")
        for row in manifest:
            cells = _cells(row, names, os.path.join(here, row.audio), folder, path)  # noqa: PTH118
            if suffix in _JSON_LINES:
                stream.write(json.dumps(cells, ensure_ascii=False) + "\n")
            else:
                stream.write(delimiter.join(_quoted(_text(cell)) for cell in cells.values()) + "\n")


def _cells(row: Utterance, names: Iterable[str], audio: str, folder: str, path: Path) -> dict[str, Any]:
    for column in ("id", "audio", "speaker"):
        value = row.get(column)
        if value != value.strip():
            raise ManifestError(
                f"the {column} '{value}' begins or ends with a space", where=path, mend="Remove the space."
            )
    cells: dict[str, Any] = {column: getattr(row, column) for column in COLUMNS}
    cells["start"] = float(row.start)
    cells["end"] = None if row.end is None else float(row.end)
    inside = relative_below(audio, folder)
    cells["audio"] = inside if inside is audio else inside.replace(os.sep, "/")
    return cells | {name: row.extra.get(name, "") for name in names}


def _quoted(cell: str) -> str:
    """A cell as every reader understands it; outer spaces are quoted, since some readers strip them."""
    if cell.strip() != cell or any(mark in cell for mark in ',;"\t\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        mark = stream.read(2)
    return "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _delimited(lines: Iterable[str], path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: cell}) of a delimited table; empty lines are passed over."""
    numbered = iter(lines)
    skipped, first = 0, ""
    for first in numbered:
        if first.strip("\ufeff \t\r\n,;"):
            break
        skipped += 1
    else:
        return
    if not delimiter:
        delimiter = max(",;\t", key=first.count)

    def rest() -> Iterator[str]:
        yield first
        yield from numbered

    reader = csv.reader(rest(), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    header: list[str] | None = None
    place = skipped + 1
    try:
        for cells in reader:
            if header is None:
                header = cells
                name_columns(header, f"{path}, line {place}")  # says what is wrong even where no row follows
            elif any(cell.strip() for cell in cells):
                if len(cells) < len(header) or any(cells[len(header) :]):
                    raise ManifestError(
                        f"{len(cells)} cells under {len(header)} columns",
                        where=f"{path}, line {place}",
                        mend=f'Separate cells by {delimiter!r}; "quote" a cell that contains one.',
                    )
                yield place, dict(zip(header, cells, strict=False))
            place = skipped + reader.line_num + 1
    except csv.Error as problem:
        raise ManifestError(
            f"not a table ({problem})", where=f"{path}, line {place}", mend='Look for a lone quote (") or a huge cell.'
        ) from problem


def _json_lines(lines: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for place, line in enumerate(lines, start=1):
        if line.strip():
            yield place, _record(_parsed(line, f"{path}, line {place}"), f"{path}, line {place}")


def _json(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Records of a list, or of SpeechBrain's {id: record}; their place is their number, from 1."""
    whole = _parsed(text, str(path))
    if isinstance(whole, dict):
        records: Iterable[Any] = (
            {"id": name, **record} if isinstance(record, dict) else record for name, record in whole.items()
        )
    else:
        records = whole if isinstance(whole, list) else [whole]
    for place, record in enumerate(records, start=1):
        yield place, _record(record, f"{path}, utterance {place}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise ManifestError(f"not JSON ({problem})", where=where, mend="Write one object a row.") from problem


def _record(record: Any, where: str) -> dict[str, str]:
    if not isinstance(record, Mapping):
        raise ManifestError("not an object", where=where, mend='Write {"file": ..., "speaker": ..., "emotion": ...}.')
    return {str(name): _text(value) for name, value in record.items()}
