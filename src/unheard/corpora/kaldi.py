"""Reading and writing of Kaldi data directories.

    wav.scp      recording path             segments    utterance recording start end   (optional)
    utt2spk      utterance speaker          spk2gender  speaker m|f                     (optional)
    utt2emo      utterance emotion          text        utterance words                 (optional)

Any other `utt2NAME` becomes the column NAME (`utt2lang` the language). Files need not be sorted. Commands in `wav.scp`
are refused: reading data must never run a program.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from unheard.corpora.rows import invalid, times_of, to_manifest
from unheard.corpora.table import read_text
from unheard.errors import ManifestError, counted
from unheard.files import replacing
from unheard.manifest import COLUMNS, Manifest, Note

_FILES = {"speaker": "utt2spk", "emotion": "utt2emo", "text": "text", "language": "utt2lang"}
_FILES |= {name: f"utt2{name}" for name in ("session", "corpus", "original", "channel")}
# Files of Kaldi's scripts on features and lengths, which are not columns.
_NOT_COLUMNS = {"spk", "emo", "dur", "num_frames", "uniq", "utt"}
_KALDI_FILE = re.compile(r"wav\.scp|segments|text|(?:utt|spk|reco)2\w+|(?:feats|cmvn|vad)\.scp")
_ARCHIVE = re.compile(r"-|.*\.ark(?::\d+)?")
_GUESSES = 20


def read_kaldi(
    folder: str | Path, *, mapping: Mapping[str, str] | None = None, audio_root: str | Path | None = None
) -> Manifest:
    """Read a Kaldi data directory, in the order of `segments`, else of `wav.scp`.

    Relative audio paths are searched in `audio_root` and its sub-folders; by default in `folder` and then, as in Kaldi,
    in the working directory. Utterances without a speaker or an emotion, and entries without audio, are left out and
    counted in notes of the kind `missing`. `mapping` gives the labels of unknown words. Raises `ManifestError` for a
    missing file, a command or an archive in `wav.scp`, a repeated entry, impossible times, or an unknown emotion.
    """
    folder = Path(folder)
    recordings = _recordings(folder)
    spans = _segments(folder / "segments", recordings)
    values = {"speaker": _values(folder / "utt2spk"), "emotion": _values(folder / "utt2emo")}
    genders = _values(folder / "spk2gender", optional=True)
    values["text"] = _values(folder / "text", optional=True)
    for path in sorted(folder.glob("utt2*")):
        name = path.name.removeprefix("utt2")
        if name not in _NOT_COLUMNS and path.is_file():
            values.setdefault("language" if name == "lang" else name, _values(path))

    records = []
    lost: dict[str, list[str]] = {"speaker": [], "emotion": []}
    for name, (recording, start, end) in spans.items():
        cells = {column: known.get(name, (0, ""))[1] for column, known in values.items()}
        if without := next((column for column in lost if name not in values[column]), None):
            lost[without].append(name)
            continue
        cells["gender"] = cells.get("gender") or genders.get(cells["speaker"], (0, ""))[1]
        cells |= {"id": name, "audio": recordings[recording], "start": start, "end": end}
        own = {column: column for column in COLUMNS if column in cells}
        records.append((values["emotion"][name][0], cells, own))
    notes = [
        Note("missing", f"{counted(len(ids), 'utterance')} without {what} left out", tuple(ids))
        for what, ids in lost.items()
        if ids
    ]
    if silent := tuple(name for name in values["emotion"] if name not in spans):
        notes.append(Note("missing", f"{counted(len(silent), 'utterance')} of utt2emo without audio", silent))
    if len(spans) == sum(map(len, lost.values())):
        mend = "Use the same utterance ids in wav.scp (or segments), utt2spk and utt2emo."
        raise invalid("no utterance has both a speaker and an emotion", folder, mend)
    base, search = audio_root or _base(folder, recordings), audio_root is not None
    return to_manifest(records, folder / "utt2emo", base, mapping=mapping, search=search, notes=notes)


def write_kaldi(manifest: Manifest, folder: str | Path) -> None:
    """Write `manifest` as a Kaldi data directory, sorted as Kaldi requires (by bytes), with absolute audio paths.

    `segments` is written if an utterance is a part of its file; columns without a Kaldi file become `utt2NAME`.
    Raises `ManifestError` for an id or a speaker with a space, for values that do not fit in Kaldi's lines, and if the
    folder contains another data directory.
    """
    folder = Path(folder)
    genders: dict[str, str] = {}
    utterances: dict[str, list[str]] = {}
    for row in sorted(manifest, key=lambda row: _bytes(row.id)):
        utterances.setdefault(row.speaker, []).append(row.id)
        if row.gender and genders.setdefault(row.speaker, row.gender) != row.gender:
            what = f"speaker '{row.speaker}' is both {genders[row.speaker]} and {row.gender}"
            raise invalid(what, folder, "Give every person their own speaker name.")
    short = {"male": "m", "female": "f"}
    files = {file: {row.id: row.get(column) for row in manifest} for column, file in _FILES.items()}
    files["utt2channel"] = {name: channel for name, channel in files["utt2channel"].items() if channel != "mix"}
    files["spk2gender"] = {speaker: short.get(gender, gender) for speaker, gender in genders.items()}
    files = {name: lines for name, lines in files.items() if any(lines.values()) or name in ("utt2spk", "utt2emo")}
    files["spk2utt"] = {speaker: " ".join(ids) for speaker, ids in utterances.items()}
    for name in dict.fromkeys(name for row in manifest for name in row.extra):
        if not re.fullmatch(r"\w+", name) or name in {*COLUMNS, *_NOT_COLUMNS, "lang"}:
            raise invalid(f"the column '{name}' cannot become a file 'utt2{name}'", folder, "Rename it.")
        files[f"utt2{name}"] = {row.id: row.extra.get(name, "") for row in manifest}
    files |= _audio_files(manifest)  # wav.scp last: it marks a complete directory
    if folder.is_dir():
        foreign = [p.name for p in folder.iterdir() if _KALDI_FILE.fullmatch(p.name) and p.name not in files]
        if not foreign and (folder / "wav.scp").exists():
            old = (folder / "wav.scp").read_text("utf-8", errors="replace").splitlines()
            same = {line.split(maxsplit=1)[0] for line in old if line.strip()} == files["wav.scp"].keys()
            foreign = [] if same else ["wav.scp"]
        if foreign:
            what = f"this is another data directory already: {', '.join(sorted(foreign))}"
            raise invalid(what, folder, "Choose an empty folder.")
    for name, lines in files.items():
        _write(folder / name, lines)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "replace")


def _recordings(folder: Path) -> dict[str, str]:
    """Return recording -> path, from `wav.scp`."""
    paths = {}
    for name, (place, path) in _values(folder / "wav.scp").items():
        where = f"{folder / 'wav.scp'}, line {place}"
        if path.endswith("|") or path.startswith("|"):
            mend = "Run it once, save its output as WAV or FLAC, and write that path here."
            raise invalid(f"'{name}' is the output of a command, which is never run: {path[:60]}", where, mend)
        if _ARCHIVE.fullmatch(path):
            mend = "Copy it to WAV files (wav-copy) and write their paths here."
            raise invalid(f"'{name}' is in a Kaldi archive or a stream: {path[:60]}", where, mend)
        paths[name] = path
    return paths


def _base(folder: Path, recordings: Mapping[str, str]) -> Path:
    """Return the folder of relative paths: `folder`, or the working directory if only it has the recordings."""
    some = [path for path in recordings.values() if not Path(path).is_absolute()][:_GUESSES]
    elsewhere = not any((folder / path).exists() for path in some) and any(map(os.path.exists, some))
    return Path.cwd() if elsewhere else folder


def _segments(path: Path, recordings: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """Return utterance -> (recording, start, end); without `segments`, every recording is one utterance."""
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
        start, end = times
        end = "" if re.fullmatch(r"-1(\.0*)?", end) else end  # in Kaldi, -1 is the end of the recording
        times_of({"start": start, "end": end}, where)
        spans[name] = (recording, start, end)
    return spans


def _values(path: Path, *, optional: bool = False) -> dict[str, tuple[int, str]]:
    """Return first word of each line -> (line number, rest of the line)."""
    if optional and not path.exists():
        return {}
    if not path.exists():
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


def _audio_files(manifest: Manifest) -> dict[str, dict[str, str]]:
    """Return the content of `wav.scp`, and of `segments` if an utterance is a part of its file."""
    paths = {row.id: os.path.abspath(row.audio) for row in sorted(manifest, key=lambda row: _bytes(row.id))}  # noqa: PTH100
    if all(row.start == 0 and row.end is None for row in manifest):
        return {"wav.scp": paths}
    recordings = {path: f"rec-{name}" for name, path in reversed(paths.items())}  # named by its first utterance
    ends = {row.id: -1 if row.end is None else row.end for row in manifest}
    segments = {row.id: f"{recordings[paths[row.id]]} {row.start!r} {ends[row.id]!r}" for row in manifest}
    return {"segments": segments, "wav.scp": {name: path for path, name in recordings.items()}}


def _write(path: Path, lines: Mapping[str, str]) -> None:
    with replacing(path, ManifestError) as stream:
        for name in sorted(filter(lines.get, lines), key=_bytes):
            value = lines[name]
            if name.split() != [name]:
                raise invalid(f"'{name}' cannot be a name in Kaldi: it has a space", path, "Rename it without.")
            if len(value.splitlines()) > 1 or value != value.strip():
                what = f"the value of '{name}' does not fit in a line: {value[:60]!r}"
                raise invalid(what, path, "Remove its line breaks and outer spaces.")
            stream.write(f"{name} {value}\n")
