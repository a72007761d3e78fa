"""Manifests as files: reading and writing of CSV, TSV and JSONL, reading of other tools' tables and audformat.

    file,speaker,emotion            <- these three columns are enough
    audio/001.wav,Anna,angry

`read_table` accepts other common names of columns and emotions, SpeechBrain's JSON ({id: {wav, emo, ...}}), audformat's
tables (file,start,end,...), Hugging Face's `audio: {path}` and offset/duration manifests. It returns exactly what
`write_table` wrote; other columns are kept in `extra`.
"""

import csv
import io
import json
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from unheard.corpora.rows import ALIASES, REQUIRED, Record, below, invalid, name_columns, to_manifest
from unheard.errors import ManifestError, counted, did_you_mean, needs
from unheard.files import LFS, cannot_read, replacing
from unheard.manifest import COLUMNS, Manifest

_DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}
_JSON_LINES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*_DELIMITED, *_JSON_LINES, ".json")  # suffixes of files that `read_table` reads


def read_table(
    path: str | Path, *, mapping: Mapping[str, str] | None = None, audio_root: str | Path | None = None
) -> Manifest:
    """Read a CSV, TSV, JSONL or JSON file; relative audio paths are relative to its folder, or to `audio_root`.

    `mapping` gives the labels of unknown words. Audio files are not opened. Raises `ManifestError`, naming the line,
    for a missing header or column, unknown emotions, an empty speaker, a repeated id, or invalid times.
    """
    path = Path(path)
    folder, search = audio_root or path.parent, audio_root is not None
    return to_manifest(read_rows(path, REQUIRED), path, folder, _unit(path), mapping=mapping, search=search)


def _unit(path: Path) -> str:
    return "utterance" if path.suffix.lower() == ".json" else "line"


def read_rows(path: Path, required: Sequence[str], text: str | None = None) -> Iterator[Record]:
    """Yield the rows of a table; `text` is its content if already read.

    Raises `ManifestError` if the table cannot be read or lacks a column in `required`.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise invalid(f"'{suffix}' is not a format of tables", path, did_you_mean(suffix, TABLE_SUFFIXES))
    if suffix in _DELIMITED:
        lines = read_cells(path, text)
        place, header = next(lines, (1, []))
        columns = name_columns(header, f"{path}, line {place}", required) if header else {}
        yield from ((place, dict(zip(header, cells, strict=False)), columns) for place, cells in lines)
        return
    known: dict[tuple[str, ...], dict[str, str]] = {}
    for place, record in _json(path, text):
        names = tuple(record)
        if names not in known:
            known[names] = name_columns(names, f"{path}, {_unit(path)} {place}", required)
        yield place, record, known[names]


def read_frame(
    frame: Any, *, mapping: Mapping[str, str] | None = None, audio_root: str | Path | None = None
) -> Manifest:
    """Read a pandas DataFrame with the columns (or index levels) of a table, like `read_table`; NaN is empty."""
    where = "the DataFrame"
    frame = frame.reset_index([name for name in frame.index.names if name is not None and name not in frame.columns])
    columns = name_columns([str(name) for name in frame.columns], where)
    records = []
    for place, row in enumerate(frame.astype(object).where(frame.notna(), "").to_dict("records")):
        cells = {str(name): value for name, value in row.items()}
        records.append(
            (place, {name: str(x) for name, x in _with_path(cells, f"{where}, row {place}").items()}, columns)
        )
    return to_manifest(records, where, audio_root or ".", "row", mapping=mapping, search=audio_root is not None)


def read_text(path: Path, data: bytes | None = None) -> str:
    """Read text from a file or `data` as UTF-8 or, with a byte order mark, UTF-16; raises `ManifestError` otherwise."""
    try:
        data = path.read_bytes() if data is None else data
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as problem:
        raise cannot_read(path, problem, ManifestError) from problem
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise invalid("it is not UTF-8 text", path, "Save it as UTF-8 (in Excel: CSV UTF-8).")
    if text.startswith(LFS.decode()):
        raise invalid("a Git LFS pointer, not the file itself", path, "Run 'git lfs pull' in the clone.")
    return text


def write_table(manifest: Manifest, path: str | Path) -> None:
    """Write `manifest` atomically as CSV, TSV or JSONL, by the suffix of `path`.

    Paths of audio below the folder of `path` are written relative to it, others as absolute paths. Notes are not
    written. Raises `ManifestError` if the file or the manifest cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    writable = (".csv", ".tsv", ".tab", *_JSON_LINES)
    if suffix not in writable:
        raise invalid(f"'{suffix}' is not a format of tables to write", path, did_you_mean(suffix, writable))
    here = os.getcwd()  # noqa: PTH109
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - Path.resolve would follow links
    names = list(dict.fromkeys(name for row in manifest for name in row.extra))
    for name in names:
        if name in COLUMNS or not name.strip():
            raise invalid(f"'{name}' cannot be the name of an extra column", path, "Rename it.")
    with replacing(path, ManifestError) as stream:
        if suffix not in _JSON_LINES:
            delimiter = _DELIMITED[suffix]
            stream.write(delimiter.join(map(_quoted, [*COLUMNS, *names])) + "\n")
        for row in manifest:
            for column in ("id", "audio", "speaker"):
                value = row.get(column)
                if value != value.strip():
                    raise invalid(f"the {column} '{value}' begins or ends with a space", path, "Remove the space.")
            audio = os.path.join(here, row.audio)  # noqa: PTH118
            inside = below(audio, folder)
            if inside is not None and ".." not in PurePath(inside).parts:
                audio = inside.replace(os.sep, "/")
            end = None if row.end is None else float(row.end)
            cells: dict[str, Any] = {column: getattr(row, column) for column in COLUMNS}
            cells |= {"audio": audio, "start": float(row.start), "end": end}
            cells |= {name: row.extra.get(name, "") for name in names}
            if suffix in _JSON_LINES:
                stream.write(json.dumps(cells, ensure_ascii=False) + "\n")
            else:
                stream.write(delimiter.join(_quoted(_text(cell)) for cell in cells.values()) + "\n")


def _quoted(cell: str) -> str:
    """Quote a cell if necessary for any reader, also for outer spaces, which some readers strip."""
    if cell.strip() != cell or any(mark in cell for mark in ',;"\t\r\n'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_cells(path: Path, text: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of a delimited table, the header first, without empty lines and Excel's `sep=;`.

    Raises `ManifestError` if the table cannot be read or a row does not fit the header.
    """
    lines = list(io.StringIO(read_text(path) if text is None else text, newline=""))
    delimiter = ""
    skipped, line = 0, ""
    for line in lines:
        named = re.fullmatch(r'"?sep=(.)"?\s*', line, re.IGNORECASE)
        delimiter = named[1] if named else delimiter
        if not named and line.strip("\ufeff \t\r\n,;"):
            break
        skipped += 1
    bare = re.sub(r'"[^"]*"', "", line)
    tabs = path.suffix.lower() in (".tsv", ".tab") and "\t" in bare
    delimiter = delimiter or ("\t" if tabs else max(",;\t|", key=bare.count))
    reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    place, header = skipped + 1, None
    try:
        for cells in reader:
            if header is None:
                header = cells = cells[: max((i for i, name in enumerate(cells, 1) if name.strip()), default=0)]
            if any(line.count(delimiter) >= len(header) - 1 > 0 for cell in cells for line in cell.split("\n")[1:]):
                raise csv.Error("a cell contains several lines that look like rows")
            if any(cell.strip() for cell in cells):
                if len(cells) < len(header) or any(cells[len(header) :]):
                    mend = f'Separate cells by {delimiter!r}; "quote" a cell that contains one.'
                    what = f"{counted(len(cells), 'cell')} under {counted(len(header), 'column')}"
                    raise invalid(what, f"{path}, line {place}", mend)
                yield place, cells
            place = skipped + reader.line_num + 1
    except csv.Error as problem:
        mend = 'Look for a lone quote (") or a huge cell.'
        raise invalid(f"not a table ({problem})", f"{path}, line {place}", mend) from problem


def _json(path: Path, text: str | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (place, record) of JSON lines, a list, or SpeechBrain's {id: record}; places are numbered from 1."""
    unit, place, text = _unit(path), 1, read_text(path) if text is None else text
    try:
        if unit == "line" or re.match(r"\s*\{.*\}[^\S\n]*\n\s*\{", text):  # such as NVIDIA NeMo's manifests
            records = []
            for place, line in enumerate(io.StringIO(text), start=1):
                records += [(place, json.loads(line))] if line.strip() else []
        else:
            content = json.loads(text)
            if isinstance(content, dict) and isinstance(data := content.get("data", content.get("segments")), list):
                names = content.get("columns")  # pandas: orient="split", else "table"; or WhisperX
                content = [dict(zip(names, row, strict=False)) if names else row for row in data]
            elif isinstance(content, dict) and {"speaker", *ALIASES["speaker"]} & {*content}:  # pandas' default
                columns = [[*column.values()] if isinstance(column, dict) else column for column in content.values()]
                if all(isinstance(column, list) for column in columns):
                    content = [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]
            if isinstance(content, dict):
                content = [{"id": name, **row} if isinstance(row, dict) else row for name, row in content.items()]
            records = list(enumerate(content if isinstance(content, list) else [content], start=1))
    except (ValueError, RecursionError) as problem:
        raise invalid(f"not JSON ({problem})", f"{path}, {unit} {place}", "Write one object per row.") from problem
    for place, record in records:
        if not isinstance(record, Mapping):
            mend = 'Write a list of {"file": ..., "speaker": ..., "emotion": ...} (pandas: orient="records").'
            raise invalid("not an object", f"{path}, {unit} {place}", mend)
        record = _with_path(record, f"{path}, {unit} {place}")
        yield place, {str(name): _text(value) for name, value in record.items()}


def _with_path(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the record with its audio as a path, also for records of Hugging Face data sets."""
    audio = record.get("audio", "")
    path = audio.get("path") if isinstance(audio, Mapping) else audio
    if not isinstance(path, (str, os.PathLike)):
        raise invalid("the audio has no path", where, "Save the recordings as files, and write their paths.")
    return {**record, "audio": str(path)} if audio else record


# audformat databases (audEERING): a folder with `db.yaml` and tables, read by the package `audformat`.


def read_audformat(
    folder: str | Path,
    table: str = "",
    *,
    mapping: Mapping[str, str] | None = None,
    audio_root: str | Path | None = None,
) -> Manifest:
    """Read an audformat database: a row per file or segment that has an emotion (in `table`, if given).

    Emotion, speaker and other columns are taken from any table or scheme that has them. `mapping` gives the labels of
    unknown words, `audio_root` the folder of the recordings (default: `folder`). Raises `MissingExtra` without
    audformat, and `ManifestError` for a database that cannot be read, has no emotion or speaker, or has two values for
    a segment.
    """
    folder, database = Path(folder), _opened(Path(folder))
    every = list(database.tables)
    columns = {name: _column(database, name, every) for name in ("speaker", "gender", "language", "text")}
    columns["emotion"] = _column(database, "emotion", [table] if table in every else every)
    for name in ("emotion", "speaker"):
        if not columns[name]:
            known = ", ".join(f"{table}.{column}" for table in database.tables for column in database[table].columns)
            mend = f"Columns of its tables: {known}. Export a table with file, speaker and emotion."
            raise ManifestError(f"no column '{name}' in any table", where=folder / "db.yaml", mend=mend)
    records = []
    for place, ((file, start, end), emotion) in enumerate(columns["emotion"].items(), start=1):
        cells = {"audio": file, "start": start, "end": end, "emotion": emotion}
        for name in ("speaker", "gender", "language", "text"):
            cells[name] = columns[name].get((file, start, end)) or columns[name].get((file, *WHOLE), "")
        records.append((place, cells, {name: name for name in cells}))
    search = audio_root is not None
    return to_manifest(records, folder, audio_root or folder, "row", mapping=mapping, search=search)


def _opened(folder: Path) -> Any:
    """Load the header and all tables."""
    with needs("audformat", "audformat"):
        import audformat
        import yaml
    try:
        header = yaml.safe_load(read_text(folder / "db.yaml"))
        database = audformat.Database.load_header_from_yaml({"source": "", "usage": "unrestricted", **header})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from audformat's use of pandas
            for name, table in {**database.misc_tables, **database.tables}.items():  # labels of schemes first
                if Path(name).name != name:  # could be a path out of the folder
                    raise invalid(f"'{name}' cannot be the name of a table", folder / "db.yaml", "Rename it.")
                place = os.path.abspath(folder / f"db.{name}")  # noqa: PTH100 - as the package does
                if os.path.exists(f"{place}.pkl"):  # noqa: PTH110 - audformat prefers it
                    mend = "Delete it: a .csv or .parquet file has the same table."
                    raise invalid("a pickle can run any program and is not read", f"{place}.pkl", mend)
                if os.path.exists(f"{place}.csv"):  # noqa: PTH110
                    read_text(Path(f"{place}.csv"))  # a better error for a file that is not text
                table.load(place)
    except ManifestError:
        raise
    except Exception as problem:  # audformat passes on any error of pandas, yaml and the operating system
        mend = "Open it with audformat.load(...) to see more."
        what = f"not an audformat database ({' '.join(str(problem).split())})"
        raise ManifestError(what, where=folder / "db.yaml", mend=mend) from problem
    return database


def read_speakers(folder: Path) -> dict[tuple[str, str, str], str]:
    """Return (file, start, end) -> speaker for every segment of an audformat database; raises like `read_audformat`."""
    database = _opened(folder)
    return _column(database, "speaker", [name for name, table in database.tables.items() if table.is_segmented])


WHOLE = ("0 days 00:00:00", "NaT")  # start and end of a whole file, as audformat writes them


def _column(database: Any, name: str, tables: Sequence[str]) -> dict[tuple[str, str, str], str]:
    """Return (file, start, end) -> value in the columns `name`, else in its aliases, else in labels of a scheme."""
    getters: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for table in tables:
        for key, column in database[table].columns.items():
            getters[key.casefold()].append((f"{table}.{key}", column.get))
            labels = getattr(database.schemes.get(column.scheme_id or ""), "labels", None)
            if isinstance(labels, str):  # such as genders of speakers, in a separate table
                mapped = set(database.misc_tables[labels].columns)
            else:
                mapped = {about for label in (labels if isinstance(labels, dict) else {}).values() for about in label}
            if name in mapped:
                getters[f"{name} of a label"].append((f"{table}.{key}", partial(column.get, map=name)))
    values: dict[tuple[str, str, str], tuple[str, str]] = {}
    for column, get in next(filter(None, map(getters.get, (name, *ALIASES.get(name, ()), f"{name} of a label"))), []):
        for index, value in get().dropna().items():
            file, start, end = map(str, index if isinstance(index, tuple) else (index, *WHOLE))
            known, where = values.setdefault((file, start, end), (str(value), column))
            if known != str(value):
                what = f"two values of {name} for {file}: '{known}' in {where}, '{value}' in {column}"
                mend = "Give the file of the right table (db.TABLE.csv) in place of the folder, or remove a column."
                raise ManifestError(what, mend=mend)
    return {place: value for place, (value, _) in values.items()}
