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
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from unheard.errors import ManifestError, did_you_mean
from unheard.files import cannot_read, replacing
from unheard.manifest import COLUMNS, LABELS, Manifest, Note, Utterance, plain

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


# What people call an emotion or a gender, in the words of a manifest.

_SYNONYMS = {
    "angry": ("anger", "ang", "angriness", "rage"),
    "happy": ("happiness", "hap", "joy", "joyful", "happily"),
    "neutral": ("neutrality", "neu", "normal"),
    "sad": ("sadness",),
    "surprised": ("surprise", "sur", "pleasant surprise", "pleasantly surprised", "ps"),
    "fearful": ("fear", "fea", "afraid", "scared", "anxiety", "anxious", "anxiety/fear"),
    "disgusted": ("disgust", "dis"),
    "calm": ("calmness", "cal"),
    "bored": ("boredom", "bor"),
    "excited": ("excitement", "exc"),
    "frustrated": ("frustration", "fru"),
    "other": ("others", "oth"),
}

EMOTION_WORDS = {label: label for label in LABELS} | {
    word: label for label, words in _SYNONYMS.items() for word in words
}
"""Every word for an emotion that a table may use, lower case, and the canonical label it stands for."""

_GENDERS = {
    **dict.fromkeys(("m", "male", "man"), "male"),
    **dict.fromkeys(("f", "female", "woman", "w"), "female"),
    **dict.fromkeys(("", "unknown", "u", "nan", "none", "na", "n/a", "-"), ""),
}


def canonical_emotion(word: str) -> str | None:
    """The label of `LABELS` that `word` stands for, in any case; None when it is no known word."""
    plain = " ".join(word.casefold().replace("_", " ").split())
    return EMOTION_WORDS.get(plain)


def canonical_gender(word: str) -> str:
    """`male`, `female` or nothing for the usual spellings; any other word is kept as it is."""
    return _GENDERS.get(word.strip().casefold(), word.strip())


# From the cells of somebody's table to utterances: column names, words, times and paths.

ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("utt", "uttid", "utt_id", "utterance", "utterance_id", "segment_id", "key"),
    "audio": (
        "file", "path", "wav", "filename", "filepath", "file_path", "file_name", "audio_path", "audio_file",
        "audio_filepath", "wav_path", "wav_file",
    ),
    "start": ("start_time", "offset"),
    "end": ("end_time",),
    "speaker": ("spk", "spkr", "speaker_id", "spk_id", "speakerid", "actor", "actor_id"),
    "gender": ("sex",),
    "session": ("session_id",),
    "emotion": ("label", "emo", "emotion_label", "class"),
    "text": ("transcript", "transcription", "sentence"),
    "corpus": ("dataset",),
    "language": ("lang",),
}  # fmt: skip
"""Other names under which a column is found, the likeliest first; the column's own name always wins."""

DURATION = ("duration", "dur", "length")
"""Names of a column that says how long an utterance lasts; it is read where there is a start and no end."""

UNREAD_ENDS = ("stop", "stop_time", "end_sec", "end_s", "xmax", "tmax", "to")
"""Columns that look like ends under names that are not read: better refused than every utterance to its file's end."""

REQUIRED = ("audio", "speaker", "emotion")
_CLOCK = re.compile(r"(?:(\d+) days?)?(?:(?:^| )(?:\+)?(\d+):(\d\d):(\d\d(?:\.\d*)?))?")
_NO_TIME = {"", "nat", "none", "null"}


def name_columns(header: Sequence[str], where: str) -> dict[str, str]:
    """Which of a table's columns becomes which of `COLUMNS`: {ours: theirs}.

    Raises `ManifestError` when it is no header, names a column twice or lacks a required one.
    """
    present = [name for name in header if name.strip()]
    twice = [name for name, count in Counter(present).items() if count > 1]
    if twice:
        raise ManifestError(f"the column '{twice[0]}' occurs twice", where=where, mend="Rename one of them.")
    plain: dict[str, str] = {}
    for name in present:
        plain.setdefault(name.strip().casefold(), name)
    found = {}
    if "onset" in plain and "start" not in plain:  # there the offset is the end
        aliases = {**ALIASES, "start": ("onset",), "end": (*ALIASES["end"], "offset")}
    else:
        aliases = dict(ALIASES)
    for ours in COLUMNS:
        names = (name for name in (ours, *aliases.get(ours, ())) if name in plain)
        theirs = ours if ours in present else plain.get(next(names, ""))
        if theirs is not None:
            found[ours] = theirs
    missing = [name for name in REQUIRED if name not in found]
    lasts = next((plain[name] for name in DURATION if name in plain), None)
    if "start" in found and lasts is not None:
        found["duration"] = lasts  # offset and duration, as speech recognisers' manifests have it
    unread = [plain[name] for name in UNREAD_ENDS if name in plain]
    if "start" in found and not {"end", "duration"} & set(found) and unread:
        raise ManifestError(
            f"'{found['start']}' is where an utterance starts, and where it ends would not be read: '{unread[0]}'",
            where=where,
            mend="Name that column end (seconds from the beginning of the file) or duration.",
        )
    if not missing:
        return found
    shown = ", ".join(repr(name) for name in present[:12])
    if not found:
        raise ManifestError(
            f"no header that names the columns, but {shown or 'nothing'}",
            where=where,
            mend="Name them: file,speaker,emotion are enough.",
        )
    raise ManifestError(
        f"no column {' and no column '.join(repr(name) for name in missing)}; there are {shown}",
        where=where,
        mend=f"Add or rename one. Accepted for '{missing[0]}': {', '.join(ALIASES[missing[0]])}.",
    )


def seconds(text: str) -> float | None:
    """A time in seconds from `1.5`, `00:00:01.5` or `0 days 00:00:01.5`; None for nothing.

    Raises `ValueError` for anything else, infinities and not-a-number included.
    """
    text = text.strip()
    if text.casefold() in _NO_TIME:
        return None
    try:
        value = float(text)
    except ValueError:
        match = _CLOCK.fullmatch(text)
        if not match:
            # Spreadsheets of half the world write 1,5.
            value = float(text.replace(",", "."))
        else:
            days, hours, minutes, rest = (float(part or 0) for part in match.groups())
            value = 86400 * days + 3600 * hours + 60 * minutes + rest
    if not math.isfinite(value):
        raise ValueError(text)
    return value


class Rows:
    """Collects utterances from cells, then makes the `Manifest`; every error names the place of its row.

    `folder` is what relative audio paths are relative to; a `place` is the number of a `unit`.
    """

    def __init__(self, table: str | Path, folder: str | Path, unit: str = "line") -> None:
        self.table = str(table)
        self.unit = unit
        self.folder = os.path.abspath(folder)  # noqa: PTH100 - Path.resolve would follow links
        self._rows: list[Utterance] = []
        self._places: list[int] = []
        self._read_as: Counter[tuple[str, str]] = Counter()

    def add(self, cells: Mapping[str, str], columns: Mapping[str, str], place: int) -> None:
        """One row: its `cells` under the table's own names, `columns` from `name_columns`, its line."""
        where = f"{self.table}, {self.unit} {place}"
        own = {ours: cells[theirs] for ours, theirs in columns.items() if theirs in cells}
        own["speaker"] = plain(own.get("speaker", ""))
        for name in ("id", *REQUIRED):
            own[name] = own.get(name, "").strip()
            if not own[name] and name in REQUIRED:
                raise ManifestError(f"the {name} is empty", where=where, mend="Fill it or remove the row.")
        word = own["emotion"]
        own["emotion"] = self._emotion(word, where)
        if not own.get("original") and ("original" not in columns or word != own["emotion"]):
            own["original"] = word
        own["gender"] = canonical_gender(own.get("gender", ""))
        own["channel"] = self._channel(own.get("channel", ""), where)
        own["audio"] = os.path.join(self.folder, _without_placeholder(own["audio"]))  # noqa: PTH118
        start, end = self._times(own, cells, columns, where)
        own.pop("duration", None)
        used = {theirs for ours, theirs in columns.items() if ours != "duration"}  # it stays a column of its own too
        extra = {name: value for name, value in cells.items() if name not in used and name.strip()}
        self._places.append(place)
        self._rows.append(Utterance(**{**own, "start": start, "end": end, "extra": extra}))  # type: ignore[arg-type]

    def manifest(self, notes: Iterable[Note] = ()) -> Manifest:
        """The table. A column of the user's own that a row lacks is empty there.

        Raises `ManifestError` when there is no row or an id occurs twice.
        """
        if not self._rows:
            raise ManifestError("no utterance in it", where=self.table, mend="Add a row an utterance.")
        rows = self._same_columns(self._with_ids())
        self._refuse_twice(rows)
        renamed = [f"{word} -> {label} ({n})" for (word, label), n in sorted(self._read_as.items())]
        words = (Note("labels", f"labels read as: {', '.join(renamed)}"),) if renamed else ()
        return Manifest(tuple(rows), (*words, *notes))

    def _emotion(self, word: str, where: str) -> str:
        label = canonical_emotion(word)
        if label is None:
            close = get_close_matches(word.casefold(), EMOTION_WORDS, n=1)
            nearest = EMOTION_WORDS[close[0]] if close else word
            raise ManifestError(
                f"unknown emotion '{word}'",
                where=where,
                mend=f"{did_you_mean(nearest, LABELS)} Any emotion beyond these is 'other'.",
            )
        if word.casefold() != label:
            self._read_as[word, label] += 1
        return label

    @staticmethod
    def _channel(word: str, where: str) -> str:
        channel = word.strip().casefold() or "mix"
        if channel not in ("mix", "left", "right") and not channel.isdecimal():
            raise ManifestError(
                f"unknown channel '{word}'",
                where=where,
                mend="Known: mix, left, right or a channel's number.",
            )
        return channel

    @staticmethod
    def _times(
        own: Mapping[str, str], cells: Mapping[str, str], columns: Mapping[str, str], where: str
    ) -> tuple[float, float | None]:
        times: dict[str, float | None] = {}
        given = {name: own.get(name, "") for name in ("start", "end")}
        if "duration" in columns and given["end"].strip().casefold() in _NO_TIME:
            given["duration"] = cells.get(columns["duration"], "")
        for name, text in given.items():
            try:
                times[name] = seconds(text)
            except ValueError:
                raise ManifestError(
                    f"the {name} '{text}' is no time", where=where, mend="Write it in seconds: 1.5"
                ) from None
        start = times["start"] or 0.0
        duration = times.get("duration")
        end = times["end"] if duration is None else start + duration
        if start < 0:
            raise ManifestError(f"it starts at {start} s, before its file", where=where, mend="Begin at 0.")
        if end is not None and end <= start:
            raise ManifestError(
                f"it ends at {end} s but starts at {start} s",
                where=where,
                mend="Make 'end' later than 'start'.",
            )
        return start, end

    def _with_ids(self) -> list[Utterance]:
        """Rows without an id get one from their path and times: the same whatever the other rows are.

        Only where two files differ by nothing but their suffix does it stay in the ids.
        """
        nameless = [row for row in self._rows if not row.id]
        if not nameless:
            return self._rows
        paths = {row.audio: _for_ids(row.audio, self.folder) for row in nameless}
        for audio, path in paths.items():
            if not PurePath(path).name:
                raise ManifestError("this is a folder, no recording", where=audio, mend="Name a file.")
        stems = Counter(str(PurePath(path).with_suffix("")) for path in paths.values())
        names = {}
        for audio, path in paths.items():
            stem = str(PurePath(path).with_suffix(""))
            names[audio] = PurePath(stem if stems[stem] == 1 else path).as_posix().lstrip("/")
        rows = []
        for row in self._rows:
            if not row.id:
                whole = row.start == 0 and row.end is None
                times = "" if whole else f"@{row.start:.10g}-{'' if row.end is None else format(row.end, '.10g')}"
                row = replace(row, id=f"{names[row.audio]}{times}")
            rows.append(row)
        return rows

    @staticmethod
    def _same_columns(rows: list[Utterance]) -> list[Utterance]:
        names = dict.fromkeys(name for row in rows for name in row.extra)
        return [
            row
            if len(row.extra) == len(names)
            else replace(row, extra={name: row.extra.get(name, "") for name in names})
            for row in rows
        ]

    def _refuse_twice(self, rows: Sequence[Utterance]) -> None:
        first: dict[str, int] = {}
        for row, place in zip(rows, self._places, strict=True):
            before = first.setdefault(row.id, place)
            if before != place:
                raise ManifestError(
                    f"the id '{row.id}' is that of {self.unit} {before} already",
                    where=f"{self.table}, {self.unit} {place}",
                    mend="Give every utterance an id of its own, or remove the repeated row.",
                )


def _without_placeholder(audio: str) -> str:
    """SpeechBrain writes `{data_root}/...`, to be filled in later: here, the folder of the manifest."""
    return re.sub(r"^\{\w+\}[/\\]*", "", audio)


def relative_below(audio: str, folder: str) -> str:
    """`audio` as seen from `folder` where it lies below it, else as it is."""
    if audio.startswith(folder.rstrip(os.sep) + os.sep):
        inside = audio[len(folder.rstrip(os.sep)) + 1 :]
        if ".." not in PurePath(inside).parts:
            return inside
    return audio


def _for_ids(audio: str, folder: str) -> str:
    """`audio` as it is seen from `folder`: also beside it, where the row says `../`, without the way there."""
    if audio.startswith(folder.rstrip(os.sep) + os.sep):
        inside = PurePath(os.path.normpath(audio[len(folder.rstrip(os.sep)) + 1 :])).parts
        while inside and inside[0] == "..":
            inside = inside[1:]
        return str(PurePath(*inside))
    return audio
