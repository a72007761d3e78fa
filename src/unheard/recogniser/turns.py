"""Read who spoke when, as diarisers, transcribers and annotation tools write it.

RTTM, Praat TextGrid, SRT or VTT with names, a table (start,end,speaker), an audformat database -> turns
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeAlias
from urllib.parse import unquote

from unheard.corpora.rows import seconds, times_of
from unheard.corpora.table import TABLE_SUFFIXES, read_rows, read_speakers, read_text
from unheard.errors import ConfigError, ManifestError
from unheard.splits.speakers import is_unknown

LARGEST = 64 << 20  # upper limit for a file, in bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """Speech of `speaker` from `start` to `end` (seconds; infinite: to the end of the recording).

    Raises `ConfigError` for times that are no stretch of time.
    """

    start: float
    end: float
    speaker: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaker", "" if self.speaker is None else str(self.speaker).strip())
        if not 0 <= self.start <= self.end or math.isinf(self.start):
            raise ConfigError(f"a turn from {self.start} to {self.end} s is no stretch of time")

    @property
    def known(self) -> bool:
        """Whether the speaker is somebody, not empty or `Unknown`."""
        return not is_unknown(self.speaker)


TurnsByRecording: TypeAlias = Mapping[str, Sequence[Turn]]  # recording as named in the file, or "" -> its turns

_TurnRows: TypeAlias = Iterator[tuple[str, str, float, float, str, str]]
"""Place, recording, start, end, speaker, channel."""


def read_turns(path: str | Path, content: bytes | None = None) -> TurnsByRecording:
    """Read a file, an audformat database, or a folder with a file for each recording.

    With the `content` of a file nothing is read from disk, and `path` is what it is called. Raises `ManifestError`,
    naming the line, where it cannot be read or has no turn.
    """
    path = Path(path)
    database = content is None and (path / "db.yaml").exists()
    if content is None and path.is_dir() and not database:
        files = sorted(one for one in path.glob("[!.]*") if one.suffix.lower() in _READERS)
        stems = Counter(one.stem for one in files)
        if not files:
            mend = f"Name one that has {' '.join(sorted(_READERS))}."
            raise ManifestError("no file of turns is in this folder", where=path, mend=mend)
        if twice := [stem for stem, count in stems.items() if count > 1]:
            raise ManifestError(f"several files are called {twice[0]}", where=path, mend="Leave one of them.")
        return {name or one.stem: turns for one in files for name, turns in read_turns(one).items()}
    reader = _READERS.get(path.suffix.lower())
    if not database and reader is None:
        what = f"no format of turns has the ending '{path.suffix}'"
        folder = ", or an audformat folder" if content is None else ""
        raise ManifestError(what, where=path, mend=f"Use {' '.join(sorted(_READERS))}{folder}.")
    if content is None and path.is_file() and path.stat().st_size > LARGEST:
        raise ManifestError(f"a file of turns must not exceed {LARGEST >> 20} MiB", where=path)
    found = reader(path, read_text(path, content)) if reader and not database else _audformat(path)
    turns: dict[str, list[Turn]] = {}
    channels: dict[str, str] = {}
    try:
        for place, recording, start, end, speaker, channel in found:
            channels.setdefault(recording, channel)
            if channels[recording] != channel:
                what = f"turns of the channels {channels[recording] or 'mix'} and {channel or 'mix'}"
                mend = "Write a file for each, and name the channel: --channel left."
                raise ManifestError(what, where=f"{path}, {place}", mend=mend)
            try:
                turns.setdefault(recording, []).append(Turn(start, end, speaker))
            except ConfigError as problem:
                raise ManifestError(problem.what, where=f"{path}, {place}", mend="Check its times.") from None
    except ValueError as problem:
        raise ManifestError(f"not a turn ({problem})", where=path, mend="Check its times.") from None
    if not turns:
        raise ManifestError("it has no turn of a speaker", where=path, mend="Name the file of a diariser.")
    return {name: in_order(of) for name, of in turns.items()}


def in_order(turns: Iterable[Turn]) -> list[Turn]:
    """Sort turns by time."""
    return sorted(turns, key=lambda turn: (turn.start, turn.end))


def turns_of(turns: TurnsByRecording, recording: str) -> Sequence[Turn]:
    """Return the turns of `recording` (a path); raises `ConfigError` where the file names others only."""
    if "" in turns:
        return turns[""]
    path = PurePath(recording)
    names = {name: PurePath(unquote(name)) for name in turns}
    for found in (
        [name for name, one in names.items() if one == path],
        [name for name, one in names.items() if one.name in (path.name, path.stem)],
        [name for name, one in names.items() if one.stem == path.stem],
    ):
        if len(found) == 1:
            return turns[found[0]]
        if found:
            what = f"the turns of several recordings fit: {', '.join(found[:5])}"
            raise ConfigError(what, where=recording, mend="Use paths.")
    what = f"no turns are given for this recording, only for {', '.join(list(turns)[:5])}"
    raise ConfigError(what, where=recording, mend="Turns are matched by the name of the recording's file.")


def _rttm(path: Path, text: str) -> _TurnRows:
    """Read RTTM (NIST, RT-09 evaluation plan, appendix A); lines of other types are ignored."""
    for number, line in enumerate(text.splitlines(), start=1):
        fields, place = line.split(), f"line {number}"
        if fields[:1] == ["SPEAKER"]:
            if not 8 <= len(fields) <= 10:
                mend = "Write a space in a name as %20."
                what = f"a SPEAKER line has 10 fields, this one {len(fields)}"
                raise ManifestError(what, where=f"{path}, {place}", mend=mend)
            start, length = map(float, fields[3:5])
            yield place, fields[1], start, start + length, unquote(fields[7]), fields[2]


_NO_SPEAKER = re.compile(r"(?i)(^|[\W_])(words?|phones?|phonemes?|syllables?|segments?)$")  # as aligners name tiers
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)')


def _textgrid(path: Path, text: str) -> _TurnRows:
    """Read the free numbers and texts of a TextGrid, long or short (Praat manual, "TextGrid file formats").

    A tier is a speaker, or the only tier has the speakers' names as texts.
    """
    tokens = [match[2] or match[1].replace('""', '"') for match in _TOKEN.finditer(text)]
    if tokens[1:2] != ["TextGrid"]:
        raise ManifestError("not a TextGrid", where=path, mend="Save it as a text file in Praat.")
    try:
        left = iter(tokens[4:])  # after two texts and two times
        tiers = []
        for _ in range(int(next(left))):
            kind, name = next(left), next(left)
            _, _, count = (next(left) for _ in range(3))
            width = 3 if kind == "IntervalTier" else 2
            items = [[next(left) for _ in range(width)] for _ in range(int(count))]
            if kind == "IntervalTier":
                tiers.append((name, items))
    except (StopIteration, RuntimeError):
        raise ManifestError("this TextGrid breaks off", where=path, mend="Save it again.") from None
    for name, items in tiers:
        if len(tiers) > 1 and _NO_SPEAKER.search(name):
            mend = "Keep the tiers that are named after speakers, with an interval for each turn."
            raise ManifestError(f"the tier '{name}' is not a speaker's turns", where=path, mend=mend)
        for number, (start, end, said) in enumerate(items, start=1):
            if said.strip():
                place = f"tier {name}, interval {number}"
                yield place, "", float(start), float(end), said if len(tiers) == 1 else name, ""


_TIME = r"((?:\d+:)?\d+:\d\d(?:[.,]\d+)?)"
_CUE = re.compile(rf"\s*{_TIME}\s+-->\s+{_TIME}(?!\S)")
_MARKS = r"(?:\s|<(?!v[ .])[^>]*>|\{\\[^}]*\}|[-\u2013>]+(?=[\s\w<\[]))*"  # of italics, places, changes of speaker
_NAMED = re.compile(_MARKS + r"(?:\[([^\]]{1,60})\](?!\s*$)|([^\W\d][^:\uff1a.,;!?<]{0,39})(?:\uff1a|:(?=\s|<|$)))")
_VOICE = re.compile(r"<v(?:\.[^ >]{0,40})?\s{1,9}([^>\s][^>]{0,99})>")


def _subtitles(path: Path, text: str) -> _TurnRows:
    """Read SRT or WebVTT; a cue names its speaker as `<v Anna>`, `[Anna]` or `Anna:`; several names count as none."""
    cues: list[tuple[int, re.Match[str], list[str]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if cue := _CUE.match(line):
            cues.append((number, cue, []))
        elif re.match(r"\s*\d+:.*-->", line):
            raise ManifestError("not the times of a cue", where=f"{path}, line {number}", mend="00:01.5 --> 00:02.5")
        elif inside and line.strip():
            cues[-1][2].append(line)
        inside = bool(cue or (inside and line.strip()))

    def named(text: str) -> set[str]:
        return {found[1] or found[2]} if (found := _NAMED.match(text)) else set()

    begin = [named(" ".join(said)) for *_, said in cues]
    people = set().union(*begin)  # what is not among them stands before a colon by chance
    for (number, cue, said), names in zip(cues, begin, strict=True):
        further = set().union(*map(named, said[1:])) & people
        names = names | further | {voice[1] for voice in _VOICE.finditer(" ".join(said))}
        parts = [time.replace(",", ".").split(":") for time in cue.groups()]  # hours may be missing
        start, end = (sum(float(x) * 60**at for at, x in enumerate(reversed(time))) for time in parts)
        yield f"line {number}", "", start, end, names.pop() if len(names) == 1 else "", ""


def _table(path: Path, text: str) -> _TurnRows:
    """Read the columns start, end (or duration), speaker, and file if there are several recordings."""
    named = any("speaker" in columns for *_, columns in read_rows(path, ("start",), text))  # WhisperX leaves some out
    for number, cells, columns in read_rows(path, ("start",) if named else ("start", "speaker"), text):
        where = f"{path}, row {number}"
        if not {"end", "duration"} & set(columns):
            raise ManifestError("no column 'end' and no column 'duration'", where=path, mend="Add one.")
        own = {ours: cells.get(theirs, "") for ours, theirs in columns.items()}
        start, end = times_of(own, where)
        last = math.inf if end is None else end
        yield f"row {number}", own.get("audio", ""), start, last, own.get("speaker", ""), own.get("channel", "").strip()


def _audformat(path: Path) -> _TurnRows:
    for (file, start, end), speaker in read_speakers(path).items():
        last = seconds(end)
        yield file, file, seconds(start) or 0.0, math.inf if last is None else last, speaker, ""


_READERS = {
    ".rttm": _rttm,
    ".textgrid": _textgrid,
    ".srt": _subtitles,
    ".vtt": _subtitles,
    **dict.fromkeys(TABLE_SUFFIXES, _table),
}
"""Ending -> reader of a path and its text."""
