"""The text files of an IEMOCAP session: label lines and transcripts."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from unheard.errors import CorpusError

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_LINE = re.compile(
    rf"\[\s*{_NUMBER}\s*-\s*{_NUMBER}\s*\]\s+(\S+)\s+(\w+)\s+\[\s*{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\s*\]\s*"
)
_ID = re.compile(r"(Ses0([1-5])[FM]_(impro\d{2}[ab]?|script\d{2}_\db?))_([FM])\d{3}")
_TRANSCRIPT = re.compile(r"(Ses0[1-5][FM]_\w+)\s*\[[\d.\s-]*\]:?\s*(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One label line. `speaker` is F or M, the last letter of the id; V, A and D are on scales from 1 to 5."""

    id: str
    dialog: str
    speaker: str
    scenario: str
    label: str
    valence: str
    activation: str
    dominance: str


@dataclass(frozen=True)
class Labels:
    """The label lines of a session, and the places of those that cannot be read or say nothing new."""

    lines: tuple[Line, ...]
    garbled: tuple[str, ...]
    repeated: tuple[str, ...]


def read_labels(session_folder: Path, session: str, known: Collection[str]) -> Labels:
    """Every summary line of the session's label files, those at the top level whose name has no leading dot.

    Raises `CorpusError` when one utterance is given two labels.
    """
    lines: dict[str, Line] = {}
    places: dict[str, str] = {}
    garbled: list[str] = []
    repeated: list[str] = []
    folder = session_folder / "dialog" / "EmoEvaluation"
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    for file in (path for path in files if not path.name.startswith(".") and path.is_file()):
        text = file.read_text(encoding="utf-8", errors="replace")
        for number, content in enumerate(text.splitlines(), start=1):
            if not content.lstrip().startswith("["):  # headers and the single listeners' votes
                continue
            place = f"{file.name} line {number}"
            line = _parse(content, session, known)
            if line is None:
                garbled.append(place)
            elif line.id not in lines:
                lines[line.id], places[line.id] = line, place
            elif line == lines[line.id]:
                repeated.append(place)
            else:
                raise CorpusError(
                    f"{line.id} is labelled twice and differently, in {places[line.id]} and in {place}",
                    where=folder,
                    mend="Keep the file of the release and remove the other.",
                )
    return Labels(tuple(lines.values()), tuple(garbled), tuple(repeated))


def read_transcripts(folder: Path) -> dict[str, str]:
    """What is said, by utterance id; empty where the session has no transcriptions."""
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*.txt")) if folder.is_dir() else []:
        if file.name.startswith("."):
            continue
        for content in file.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _TRANSCRIPT.fullmatch(content.strip())
            if match is not None:
                texts.setdefault(match[1], match[2])
    return texts


def _parse(content: str, session: str, known: Collection[str]) -> Line | None:
    match = _LINE.fullmatch(content.strip())
    name = match and _ID.fullmatch(match[3])
    if not match or not name or name[2] != session or match[4] not in known:
        return None
    return Line(
        id=match[3],
        dialog=name[1],
        speaker=name[4],
        scenario="improvised" if name[3].startswith("impro") else "scripted",
        label=match[4],
        valence=match[5],
        activation=match[6],
        dominance=match[7],
    )
