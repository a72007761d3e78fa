"""Kaldi data directories, read and written.

    wav.scp      recording path             segments    utterance recording start end   (optional)
    utt2spk      utterance speaker          spk2gender  speaker m|f                     (optional)
    utt2emo      utterance emotion          text        utterance words                 (optional)

Any other `utt2NAME` becomes the column NAME (`utt2lang` the language). Nothing needs to be sorted. A command in
`wav.scp` is refused: reading data must never run a program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unheard.corpora.rows import Rows, invalid, seconds
from unheard.corpora.table import read_text
from unheard.errors import ManifestError
from unheard.files import replacing
from unheard.manifest import COLUMNS, Manifest, Note, Utterance

_COLUMN_OF = {"lang": "language"}
_OWN_FILES = {
    "session": "session",
    "corpus": "corpus",
    "language": "lang",
    "original": "original",
    "channel": "channel",
}
# Written by Kaldi's own scripts about features and lengths: not columns.
_NOT_COLUMNS = {"spk", "emo", "dur", "num_frames", "uniq", "utt"}
_KALDI_FILE = re.compile(r"wav\.scp|segments|text|(?:utt|spk|reco)2\w+|(?:feats|cmvn|vad)\.scp")
_ARCHIVE = re.compile(r".*\.ark(?::\d+)?")
_GUESSES = 20


def read_kaldi(folder: str | Path, *, mapping: Mapping[str, str] | None = None) -> Manifest:
    """Read a Kaldi data directory, in the order of `segments`, else of `wav.scp`.

    Relative audio paths are looked for in `folder`, then, as Kaldi does, in the working directory. Utterances without
    a speaker or an emotion, and entries without audio, are left out and counted in a note of the kind `missing`.
    `mapping` gives the labels of unknown words. Raises `ManifestError` for a missing file, a command or an archive in
    `wav.scp`, an entry that occurs twice, impossible times, or an unknown emotion.
    """
    folder = Path(folder)
    recordings = _recordings(folder)
    spans = _segments(folder / "segments", recordings)
    speakers, emotions = _values(folder / "utt2spk"), _values(folder / "utt2emo")
    genders = _values(folder / "spk2gender", optional=True)
    others = {"text": _values(folder / "text", optional=True)}
    for path in sorted(folder.glob("utt2*")):
        name = path.name.removeprefix("utt2")
        if name not in _NOT_COLUMNS and path.is_file():
            others[_COLUMN_OF.get(name, name)] = _values(path)

    rows = Rows(folder / "utt2emo", folder, mapping=mapping)
    own = ("id", "audio", "start", "end", "speaker", "emotion", "gender")
    columns = {name: name for name in (*own, *others) if name in COLUMNS}
    lost: dict[str, list[str]] = {"speaker": [], "emotion": []}
    for name, (recording, start, end) in spans.items():
        if name not in speakers or name not in emotions:
            lost["speaker" if name not in speakers else "emotion"].append(name)
            continue
        place, emotion = emotions[name]
        speaker = speakers[name][1]
        cells = {column: values[name][1] if name in values else "" for column, values in others.items()}
        gender = cells.get("gender") or (genders[speaker][1] if speaker in genders else "")
        cells |= {"id": name, "audio": recordings[recording], "speaker": speaker, "emotion": emotion, "gender": gender}
        rows.add(cells | {"start": start, "end": end}, columns, place)
    notes = [
        Note("missing", f"{len(ids)} utterances have no {what} and were left out", tuple(ids))
        for what, ids in lost.items()
        if ids
    ]
    silent = tuple(name for name in emotions if name not in spans)
    if silent:
        notes.append(Note("missing", f"{len(silent)} entries of utt2emo have no audio", silent))
    if len(spans) == sum(map(len, lost.values())):
        mend = "Use the same utterance ids in wav.scp (or segments), utt2spk and utt2emo."
        raise invalid(f"none of its {len(spans)} utterances has both a speaker and an emotion", folder, mend)
    return rows.manifest(notes)


def write_kaldi(manifest: Manifest, folder: str | Path) -> None:
    """Write `manifest` as a Kaldi data directory, sorted as Kaldi requires (by bytes), with absolute audio paths.

    `segments` is written when an utterance is a part of its file; columns without a Kaldi file become `utt2NAME`.
    Raises `ManifestError` for an id or a speaker with a space in it, for values that do not fit in Kaldi's lines, and
    when the folder holds another data directory.
    """
    folder = Path(folder)
    rows = sorted(manifest, key=lambda row: row.id.encode("utf-8", "replace"))
    genders: dict[str, str] = {}
    utterances: dict[str, list[str]] = {}
    for row in rows:
        utterances.setdefault(row.speaker, []).append(row.id)
        if row.gender and genders.setdefault(row.speaker, row.gender) != row.gender:
            what = f"speaker '{row.speaker}' is both {genders[row.speaker]} and {row.gender}"
            raise invalid(what, folder, "Give every person their own speaker name.")
    short = {"male": "m", "female": "f"}
    optional = {
        "spk2gender": [(speaker, short.get(gender, gender)) for speaker, gender in genders.items()],
        "text": [(row.id, row.text) for row in rows if row.text],
    }
    for column, name in _OWN_FILES.items():
        usual = ("", "mix") if column == "channel" else ("",)
        optional[f"utt2{name}"] = [(row.id, row.get(column)) for row in rows if row.get(column) not in usual]
    files: dict[str, list[tuple[str, str]]] = {
        "utt2spk": [(row.id, row.speaker) for row in rows],
        "utt2emo": [(row.id, row.emotion) for row in rows],
        "spk2utt": [(speaker, " ".join(ids)) for speaker, ids in utterances.items()],
        **_audio_files(rows),
        **{name: values for name, values in optional.items() if values},
    }
    for name in dict.fromkeys(name for row in rows for name in row.extra):
        if not re.fullmatch(r"\w+", name) or name in {*COLUMNS, *_NOT_COLUMNS, *_COLUMN_OF}:
            raise invalid(f"the column '{name}' cannot become a file 'utt2{name}'", folder, "Rename it.")
        files[f"utt2{name}"] = [(row.id, row.extra[name]) for row in rows if row.extra.get(name)]
    if folder.is_dir():
        foreign = [p.name for p in folder.iterdir() if _KALDI_FILE.fullmatch(p.name) and p.name not in files]
        if not foreign and (folder / "wav.scp").exists():
            old = (folder / "wav.scp").read_text("utf-8", errors="replace").splitlines()
            same = {line.split(maxsplit=1)[0] for line in old if line.strip()} == {name for name, _ in files["wav.scp"]}
            foreign = [] if same else ["wav.scp"]
        if foreign:
            what = f"this is another data directory already: {', '.join(sorted(foreign))}"
            raise invalid(what, folder, "Choose an empty folder.")
    for name in sorted(files, key=lambda name: (name == "wav.scp", name)):  # wav.scp last: it marks a whole directory
        _write(folder / name, files[name])


def _recordings(folder: Path) -> dict[str, str]:
    """Recording -> absolute path."""
    paths = {}
    for name, (place, path) in _values(folder / "wav.scp").items():
        where = f"{folder / 'wav.scp'}, line {place}"
        if path.endswith("|") or path.startswith("|"):
            mend = "Run it once, save its output as WAV or FLAC, and write that path here."
            raise invalid(f"'{name}' is the output of a command, which is never run: {path[:60]}", where, mend)
        if path == "-" or _ARCHIVE.fullmatch(path):
            mend = "Copy it to WAV files (wav-copy) and write their paths here."
            raise invalid(f"'{name}' is in a Kaldi archive or a stream: {path[:60]}", where, mend)
        paths[name] = path
    some = [path for path in paths.values() if not Path(path).is_absolute()][:_GUESSES]
    base = folder
    if some and not any((folder / path).exists() for path in some) and any(map(os.path.exists, some)):
        base = Path.cwd()
    here = os.path.abspath(base)  # noqa: PTH100 - Path.resolve would follow links
    return {name: os.path.join(here, path) for name, path in paths.items()}  # noqa: PTH118


def _segments(path: Path, recordings: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """Utterance -> (recording, start, end); without the file every recording is one utterance."""
    if not path.exists():
        return {name: (name, "", "") for name in recordings}
    spans = {}
    for name, (place, line) in _values(path).items():
        where = f"{path}, line {place}"
        recording, *times = line.split()
        if len(times) != 2:
            raise invalid("not 'utterance recording start end'", where, "Write these four.")
        if recording not in recordings:
            raise invalid(f"no recording '{recording}' in wav.scp", where, "Add it, or remove the segment.")
        try:
            start, end = (seconds(time) for time in times)
        except ValueError:
            raise invalid(f"not times: {' '.join(times)}", where, "Write seconds.") from None
        end = None if end == -1 else end  # in Kaldi: to the end of the recording
        if start is None or start < 0 or (end is not None and end <= start):
            raise invalid(f"'{name}' goes from {times[0]} to {times[1]} s", where, "Let it end after its start.")
        spans[name] = (recording, times[0], "" if end is None else times[1])
    return spans


def _values(path: Path, *, optional: bool = False) -> dict[str, tuple[int, str]]:
    """First word of each line -> (number of the line, the rest of it)."""
    if not path.exists():
        if optional:
            return {}
        mend = "A data directory holds at least wav.scp, utt2spk and utt2emo."
        raise invalid(f"it has no '{path.name}'", path.parent, mend)
    values: dict[str, tuple[int, str]] = {}
    for place, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, value = (*line.split(None, 1), "")[:2]
        where = f"{path}, line {place}"
        if name in values:
            raise invalid(f"'{name}' occurs in line {values[name][0]} already", where, "Remove one of them.")
        if not value.strip() and path.name != "text":
            raise invalid(f"'{name}' has no value", where, "Fill or remove the line.")
        values[name] = (place, value.strip())
    return values


def _audio_files(rows: Sequence[Utterance]) -> dict[str, list[tuple[str, str]]]:
    """`wav.scp`, and `segments` where an utterance is a part of its file."""
    paths = {row.id: os.path.abspath(row.audio) for row in rows}  # noqa: PTH100
    if all(row.start == 0 and row.end is None for row in rows):
        return {"wav.scp": list(paths.items())}
    recordings: dict[str, str] = {}
    for row in rows:
        recordings.setdefault(paths[row.id], f"rec-{row.id}")
    ends = {row.id: -1 if row.end is None else row.end for row in rows}
    segments = [(row.id, f"{recordings[paths[row.id]]} {row.start!r} {ends[row.id]!r}") for row in rows]
    return {"wav.scp": [(name, path) for path, name in recordings.items()], "segments": segments}


def _write(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    with replacing(path, ManifestError) as stream:
        for name, value in sorted(pairs, key=lambda pair: pair[0].encode("utf-8", "replace")):
            if name.split() != [name]:
                raise invalid(f"'{name}' cannot be a name in Kaldi: it has a space", path, "Rename it without.")
            if len(value.splitlines()) > 1 or value != value.strip():
                what = f"the value of '{name}' does not fit in a line: {value[:60]!r}"
                raise invalid(what, path, "Remove its line breaks and outer spaces.")
            stream.write(f"{name} {value}\n")
