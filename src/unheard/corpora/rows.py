"""Conversion of table rows to a manifest: meaning of columns, and valid values of cells."""

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import dropwhile, takewhile
from pathlib import Path, PurePath
from shlex import quote
from urllib.parse import unquote

from unheard.errors import ManifestError, counted, did_you_mean
from unheard.files import walk_files
from unheard.manifest import COLUMNS, LABELS, Manifest, Note, Utterance, plain

_SYNONYMS = {
    "angry": "anger, ang, angriness, rage",
    "happy": "happiness, hap, joy, joyful, happily",
    "neutral": "neutrality, neu, normal",
    "sad": "sadness",
    "surprised": "surprise, sur, pleasant surprise, pleasantly surprised, ps",
    "fearful": "fear, fea, afraid, scared, anxiety, anxious, anxiety/fear",
    "disgusted": "disgust, dis",
    "calm": "calmness, cal",
    "bored": "boredom, bor",
    "excited": "excitement, exc",
    "frustrated": "frustration, fru",
    "other": "others, oth",
}
EMOTION_WORDS = {label: label for label in LABELS} | {
    word: label for label, words in _SYNONYMS.items() for word in words.split(", ")
}
"""Accepted words for emotions, in lower case -> canonical label."""

_GENDERS = {
    **dict.fromkeys(("m", "male", "man"), "male"),
    **dict.fromkeys(("f", "female", "woman", "w"), "female"),
    **dict.fromkeys(("", "unknown", "u", "nan", "none", "na", "n/a", "-"), ""),
}

_OTHER_NAMES = {
    "id": "utt uttid utt_id utterance_id segment_id key",
    "audio": "file path wav filename filepath file_path file_name audio_path audio_file audio_filepath "
    "wav_path wav_file",
    "start": "start_time offset",
    "end": "end_time",
    "speaker": "spk spkr speaker_id spk_id speakerid spkrid actor actor_id",
    "gender": "sex",
    "session": "session_id",
    "emotion": "label emo emotion_label class emoclass",
    "text": "transcript transcription sentence utterance",
    "corpus": "dataset",
    "language": "lang",
}
ALIASES: Mapping[str, tuple[str, ...]] = {name: tuple(others.split()) for name, others in _OTHER_NAMES.items()}
"""Alternative names of columns, the likeliest first; the standard name is always preferred."""

DURATION = ("duration", "dur", "length")
"""Names of a column with the duration of an utterance; used if there is a start but no end."""

MSP_LETTERS = {
    **{"a": "angry", "h": "happy", "n": "neutral", "s": "sad", "u": "surprised", "f": "fearful", "d": "disgusted"},
    **{"c": "other", "o": "other", "x": ""},
}
"""Letters in the column EmoClass of MSP-Podcast: `c` is contempt, `x` is no agreement, and not a label."""

_UNIT = r"(time|s|secs?|seconds|ms|msec|frames?|samples?)?"
_UNREAD_STARTS = re.compile(rf"(start|begin|onset){_UNIT}|from|xmin|tmin|t0")
_UNREAD_ENDS = re.compile(rf"(end|stop|finish){_UNIT}|to|xmax|tmax|t1")
# Words in names of time columns that are not read. Such columns are refused; otherwise utterances would span files.

REQUIRED = ("audio", "speaker", "emotion")  # the columns that every table needs

_CLOCK = re.compile(r"(?:(\d+) days?)?(?:(?:^| )(?:\+)?(\d+):(\d\d):(\d\d(?:\.\d*)?))?")
_NO_TIME = {"", "nat", "none", "null"}


def invalid(what: str, where: str | Path, mend: str) -> ManifestError:
    """Return an error for a manifest: what is wrong, where, and how to mend it."""
    return ManifestError(what, where=where, mend=mend)


def canonical_gender(word: str) -> str:
    """Return `male`, `female` or an empty string for the usual spellings; any other word is kept."""
    return _GENDERS.get(word.strip().casefold(), word.strip())


def _spoken_of(times: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """Return the names with a word in `times`, such as `Start (s)`, `segmentStart` and `Begin Time - ss.msec`."""
    split = {name: re.findall(r"[a-z]+\d?", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()) for name in names}
    return [name for name, words in split.items() if any(map(times.fullmatch, words)) and "date" not in words]


def _bare(name: str) -> str:
    """Return the name of a column without case, spaces, hyphens and underscores: `Speaker ID` is `speaker_id`."""
    return re.sub(r"[\s_-]", "", name.casefold())


def name_columns(header: Sequence[str], where: str, required: Sequence[str] = REQUIRED) -> dict[str, str]:
    """Return our name -> name in the table for the columns of a table that are in `COLUMNS`.

    Raises `ManifestError` for a header without column names, with a duplicate column or without one of `required`.
    """
    present = [name for name in header if name.strip()]
    twice = [name for name, count in Counter(present).items() if count > 1]
    if twice:
        raise invalid(f"the column '{twice[0]}' occurs twice", where, "Rename one of them.")
    given = {_bare(name): name for name in reversed(present)}
    aliases = dict(ALIASES)
    if "onset" in given and "start" not in given:  # then the offset is the end
        aliases |= {"start": ("onset",), "end": (*ALIASES["end"], "offset")}
    found = {}
    for ours in COLUMNS:
        theirs = [given[name] for name in map(_bare, (ours, *aliases.get(ours, ()))) if name in given]
        if theirs:
            found[ours] = ours if ours in present else theirs[0]
            spelt = [name for name in present if _bare(name) == _bare(theirs[0])]
            if len(spelt) > 1 and ours not in present:
                what = f"the columns {' and '.join(map(repr, spelt))} are the same"
                raise invalid(what, where, "Rename one of them.")
            if f"{found[ours]}.1" in present:  # pandas' name for the second of two columns
                raise invalid(f"the column '{found[ours]}' occurs twice", where, "Rename or remove one of them.")
    if "start" in found:
        lasts = [given[name] for name in DURATION if name in given]  # as in manifests of speech recognisers
        found |= {"duration": lasts[0]} if lasts else {}
        ends = _spoken_of(_UNREAD_ENDS, present)
        if ends and not {"end", "duration"} & set(found):
            what = f"'{found['start']}' is the start of an utterance, but its end would not be read: '{ends[0]}'"
            raise invalid(what, where, "Name that column 'end' (seconds from the beginning of the file) or 'duration'.")
    elif starts := _spoken_of(_UNREAD_STARTS, present):
        what = f"'{starts[0]}' looks like the start of an utterance and would not be read"
        raise invalid(what, where, "Name the columns 'start' and 'end', in seconds from the beginning of the file.")
    missing = [name for name in required if name not in found]
    if not missing:
        return found
    shown = ", ".join(repr(name) for name in present[:12])
    if not found:
        what = f"no header that names the columns, but {shown or 'nothing'}"
        names = ",".join(required).replace("audio", "file")
        raise invalid(what, where, f"Begin the table with a line of column names, of which {names} are needed.")
    what = f"no column {' and no column '.join(repr(name) for name in missing)}; there are {shown}"
    raise invalid(what, where, f"Add or rename one. Accepted for '{missing[0]}': {', '.join(ALIASES[missing[0]])}.")


def seconds(text: str) -> float | None:
    """Parse a time in seconds from `1.5`, `00:00:01.5` or `0 days 00:00:01.5`; None for an empty text.

    Raises `ValueError` for anything else, including infinity and NaN.
    """
    text = text.strip().replace(",", ".")  # many locales write 1,5
    if text.casefold() in _NO_TIME:
        return None
    if match := _CLOCK.fullmatch(text):
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        value = 86400 * days + 3600 * hours + 60 * minutes + rest
    else:
        value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


Record = tuple[int, Mapping[str, str], Mapping[str, str]]
"""Place of a row, its cells by the table's names, and the result of `name_columns`."""


def to_manifest(
    records: Iterable[Record],
    table: str | Path,
    folder: str | Path,
    unit: str = "line",
    *,
    mapping: Mapping[str, str] | None = None,
    search: bool = False,
    notes: Iterable[Note] = (),
) -> Manifest:
    """Convert the rows of a table to a manifest; missing extra columns of a row are empty.

    Audio paths are relative to `folder`; with `search`, its sub-folders are searched for missing files. `mapping` gives
    the labels of unknown words. A place is the number of a `unit`, such as a line. Raises `ManifestError`, naming the
    place, for an invalid cell, unknown emotions, an empty table and a repeated id.
    """
    home = os.path.abspath(Path(folder).expanduser())  # noqa: PTH100 - Path.resolve would follow links
    labels, files = _Labels(mapping, table), _Files(home, table, search)
    rows: dict[int, Utterance] = {}
    for place, cells, columns in records:
        where = f"{table}, {unit} {place}"
        own = _stripped(cells, columns, where)
        word, label = own["emotion"], labels.read(own, columns["emotion"], place)
        if not label:
            continue
        if not own.get("original") and ("original" not in columns or word != label):
            own["original"] = word
        own |= {"emotion": label, "gender": canonical_gender(own.get("gender", ""))}
        own["channel"] = own.get("channel", "").strip().casefold() or "mix"
        if own["channel"] not in ("mix", "left", "right") and not own["channel"].isdecimal():
            mend = "Known: mix, left, right or a channel's number."
            raise invalid(f"unknown channel '{own['channel']}'", where, mend)
        own["audio"] = files.find(own["audio"], where)
        start, end = times_of(own, where)
        used = {theirs for ours, theirs in columns.items() if ours != "duration"}  # duration is also kept in extra
        extra = {name: value for name, value in cells.items() if name not in used and name.strip()}
        own.pop("duration", None)
        rows[place] = Utterance(**{**own, "start": start, "end": end, "extra": extra})  # type: ignore[arg-type]
    if labels.unknown:
        raise _unknown_emotions(labels.unknown, f"{table}, {unit}")
    if not rows:
        raise invalid("it contains no utterance", table, "Add a row per utterance.")
    names = dict.fromkeys(name for row in rows.values() for name in row.extra)
    first: dict[str, int] = {}
    for place, name in _ids(rows, home).items():
        if first.setdefault(name, place) != place:
            what = f"the id '{name}' was already used in {unit} {first[name]}"
            column = f", rename the column '{columns['id']}'" if "id" in columns else ""
            mend = f"Give every utterance its own id{column}, or remove the repeated row."
            raise invalid(what, f"{table}, {unit} {place}", mend)
        if not rows[place].id or len(rows[place].extra) < len(names):
            rows[place] = replace(rows[place], id=name, extra={n: rows[place].extra.get(n, "") for n in names})
    return Manifest(tuple(rows.values()), (*labels.notes(), *notes))


def _stripped(cells: Mapping[str, str], columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the cells of a row by our names; raises `ManifestError` for a required cell that is empty."""
    own = {ours: cells[theirs] for ours, theirs in columns.items() if theirs in cells}
    for name in ("id", *REQUIRED):
        own[name] = (plain if name in ("speaker", "emotion") else str.strip)(own.get(name, ""))
        if not own[name] and name in REQUIRED:
            raise invalid(f"the {name} is empty", where, "Fill it or remove the row.")
    return own


class _Labels:
    """Reader of a column of emotions; words that are not labels are collected in `unknown`, with their places."""

    def __init__(self, mapping: Mapping[str, str] | None, table: str | Path) -> None:
        if not isinstance(mapping, Mapping | None):
            raise invalid(f"the mapping is a {type(mapping).__name__}", table, 'Give a dict: {"rabbia": "angry"}.')
        self._mapping = {plain(str(word)): label for word, label in (mapping or {}).items()}
        if strange := sorted({*self._mapping.values()} - {*LABELS}):
            raise invalid(f"unknown emotion '{strange[0]}' to map to", table, did_you_mean(strange[0], LABELS))
        self.unknown: dict[str, list[int]] = defaultdict(list)
        self._undecided: list[str] = []
        self._read_as: Counter[tuple[str, str]] = Counter()

    def read(self, own: Mapping[str, str], column: str, place: int) -> str:
        """Return the label of a row, "" if its word is not one."""
        word = own["emotion"]
        letters = MSP_LETTERS if column.strip().casefold() == "emoclass" else {}
        label = EMOTION_WORDS.get(" ".join(word.casefold().replace("_", " ").split())) or letters.get(word.casefold())
        label = label or self._mapping.get(word, "")
        if label:
            self._read_as[word, label] += word.casefold() != label
        elif word.casefold() in letters:
            self._undecided.append(own["id"] or own["audio"])
        else:
            self.unknown[word].append(place)
        return label

    def notes(self) -> Iterator[Note]:
        """Yield notes on words that were read as other labels, and on rows without agreement among raters."""
        if renamed := [f"{word} -> {label} ({n})" for (word, label), n in sorted(self._read_as.items()) if n]:
            yield Note("labels", f"labels read as: {', '.join(renamed)}")
        if self._undecided:
            what = "left out, without a label that the raters agreed on (X)"
            what = f"{counted(len(self._undecided), 'utterance')} {what}"
            yield Note("unusable", what, tuple(self._undecided))


def _unknown_emotions(unknown: Mapping[str, Sequence[int]], where: str) -> ManifestError:
    words = sorted(unknown, key=lambda word: -len(unknown[word]))
    counts = ", ".join(f"'{word}' ({len(unknown[word])})" for word in words)
    what = f"{len(words)} unknown emotions: {counts}" if len(words) > 1 else f"unknown emotion {counts}"
    guesses = ""
    for word in words:
        # only near-certain typos: 'unhappy' is not 'happy'
        close = get_close_matches(word.casefold(), EMOTION_WORDS, n=1, cutoff=0.85)
        if close and close[0][0] == word[0].casefold():
            guesses += f"Did you mean '{EMOTION_WORDS[close[0]]}' by '{word}'? "
    mend = f"{guesses}Known: {', '.join(sorted(LABELS))}. Map a word with --map {quote(words[0])}=LABEL; any further "
    return invalid(what, f"{where} {min(min(places) for places in unknown.values())}", f"{mend}emotion is 'other'.")


class _Files:
    """Finder of recordings by their names in a table, in a folder or, with `search`, in its sub-folders."""

    def __init__(self, folder: str, table: str | Path, search: bool) -> None:
        self._folder, self._table, self._search = folder, str(table), search
        self._index: dict[str, list[str]] = defaultdict(list)  # filled on first use
        self._asked: dict[str, str] = {}

    def find(self, audio: str, where: str) -> str:
        """Return the absolute path; raises `ManifestError` for a name in several folders, or two names of one file."""
        path = self._path(audio)
        if self._asked.setdefault(path, audio) != audio and self._index:
            what = f"'{self._asked[path]}' and '{audio}' are both found as {path}"
            raise invalid(what, where, "Restore the folders, or write the actual paths.")
        return path

    def _path(self, audio: str) -> str:
        """Return the path; the name may be of Windows, with SpeechBrain's placeholder, or in a data set's mapping."""
        mapping = re.match(r"\{.*['\"]path['\"]: *['\"]([^'\"]+)", audio)
        name = re.sub(r"^\{\w+\}[/\\]*", "", mapping[1] if mapping else audio)
        path = os.path.join(self._folder, name)  # noqa: PTH118
        if re.match(r".*[\\%]|~|file:", name) and not os.path.exists(path):  # noqa: PTH110 - a name may contain them
            name = unquote(name.removeprefix("file://")).replace("\\", "/").replace("\0", "%00")
            name = os.path.expanduser(name)  # noqa: PTH111
            path = os.path.join(self._folder, name)  # noqa: PTH118
        if not self._search or os.path.exists(path):  # noqa: PTH110
            return path
        if not self._index:
            for place in walk_files(self._folder):
                for key in {PurePath(place).name, PurePath(place).stem}:
                    self._index[key].append(place)
        name, *parents = reversed(PurePath(path).parts)
        by_likeness: dict[int, list[str]] = defaultdict(list)  # number of common folders from the end
        for place in self._index.get(name, ()):
            pairs = zip(parents, reversed(PurePath(place).parts[:-1]), strict=False)
            by_likeness[sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))].append(place)
        matches = by_likeness[max(by_likeness)] if by_likeness else [path]
        if len(matches) > 1:
            what = f"'{name}' is in several folders: {', '.join(sorted(matches)[:3])}"
            raise invalid(what, self._table, "Write the folder in front of the name.")
        return matches[0]


def _ids(rows: Mapping[int, Utterance], folder: str) -> dict[int, str]:
    """Return place -> id; missing ids are made from path and times, independently of other rows.

    Suffixes are kept only in ids of files that differ in nothing else.
    """
    paths = {}
    for audio in {row.audio for row in rows.values() if not row.id}:
        paths[audio] = PurePath(audio)
        inside = below(audio, folder)
        if inside is not None:  # without a leading `../`
            paths[audio] = PurePath(*dropwhile("..".__eq__, PurePath(os.path.normpath(inside)).parts))
        if not paths[audio].name:
            raise invalid("this is a folder, not a recording", audio, "Name a file.")
    stems = Counter(path.with_suffix("") for path in paths.values())
    ids = {place: row.id for place, row in rows.items()}
    for place in (place for place, name in ids.items() if not name):
        row, path = rows[place], paths[rows[place].audio]
        stem = path.with_suffix("")
        ids[place] = (stem if stems[stem] == 1 else path).as_posix().lstrip("/")
        if row.start or row.end is not None:
            ids[place] += f"@{row.start:.10g}-{'' if row.end is None else format(row.end, '.10g')}"
    return ids


def times_of(own: Mapping[str, str], where: str) -> tuple[float, float | None]:
    """Return start and end in seconds, the end computed from the duration if missing; raises `ManifestError`."""
    times: dict[str, float | None] = {}
    wanted = ("start", "end" if own.get("end", "").strip().casefold() not in _NO_TIME else "duration")
    for name in wanted:
        try:
            times[name] = seconds(own.get(name, ""))
        except ValueError:
            raise invalid(f"the {name} '{own[name]}' is not a time", where, "Write it in seconds: 1.5") from None
    start, duration = times["start"] or 0.0, times.get("duration")
    end = times.get("end") if duration is None else start + duration
    if start < 0:
        raise invalid(f"it starts at {start} s, before its file", where, "Begin at 0.")
    if end is not None and end <= start:
        raise invalid(f"it ends at {end} s but starts at {start} s", where, "Make 'end' later than 'start'.")
    return start, end


def below(audio: str, folder: str) -> str | None:
    """Return `audio` relative to `folder`, or None if it is not below `folder`."""
    start = folder.rstrip(os.sep) + os.sep
    return audio[len(start) :] if audio.startswith(start) else None
