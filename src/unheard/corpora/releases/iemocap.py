"""IEMOCAP: ten actors in five dyadic sessions, improvised and scripted, labelled by listeners.

    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      one line an utterance: times, id, label, [V, A, D]
    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav
    Session1/dialog/transcriptions/Ses01F_impro01.txt     what is said

In `Ses01F_impro01_M003` the first letter is who wears the markers; **the last one is who speaks**.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from unheard.corpora.official import AUDIO_SUFFIXES, Official, finish, open_root, some
from unheard.errors import CorpusError, did_you_mean
from unheard.manifest import Manifest, Note, Utterance

EMOTIONS = {
    "ang": "angry",
    "dis": "disgusted",
    "exc": "excited",
    "fea": "fearful",
    "fru": "frustrated",
    "hap": "happy",
    "neu": "neutral",
    "oth": "other",
    "sad": "sad",
    "sur": "surprised",
}
"""The corpus's label -> canonical. `xxx`, on which the listeners did not agree, is not usable."""

NO_AGREEMENT = "xxx"

SESSIONS = ("1", "2", "3", "4", "5")

# Speaker, then happy (with excited), neutral, sad, angry in the improvised dialogues.
_IMPROVISED = """
1F 72 119 43 37; 1M 60 104 61 25; 2F 113 90 63 7; 2M 78 127 37 15; 3F 80 95 108 22; 3M 69 103 82 68;
4F 129 51 41 47; 4M 66 123 40 37; 5F 124 151 73 18; 5M 156 136 60 13
"""
# Four labels in all dialogues; the five totals most papers report.
_FOUR_BY_SESSION = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}

_LABELS = "counted over the 10,039 lines of the release's EmoEvaluation files"
_TOTALS = f"{_LABELS}; the same totals in https://github.com/tae898/multimodal-datasets (IEMOCAP/dataset-stats.md)"

OFFICIAL = Official(
    name="iemocap",
    title="IEMOCAP",
    language="en",
    licence="USC's own: free for research after signing its release form",
    citation="Busso et al. (2008): IEMOCAP: interactive emotional dyadic motion capture database, LRE 42(4)",
    homepage="https://sail.usc.edu/iemocap/",
    fetchable=False,
    obtain="Ask for the release at https://sail.usc.edu/iemocap/ and unpack it.",
    layout="Session1/dialog/EmoEvaluation and Session1/sentences/wav",
    speakers=10,
    utterances=10039,
    counts={
        "angry": 1103, "disgusted": 2, "excited": 1041, "fearful": 40, "frustrated": 1849,
        "happy": 595, "neutral": 1708, "other": 3, "sad": 1084, "surprised": 107,
    },
    sources={
        "speakers": "README.txt of the release",
        "utterances": _TOTALS,
        "counts": _TOTALS,
        "licence": "https://sail.usc.edu/iemocap/Data_Release_Form_IEMOCAP.pdf (terms unverified)",
    },
    traps=(
        "IEMOCAP: the speaker is the last letter of an id; the first one, which several public readers take, is "
        "who wears the markers, someone else in half the utterances",
        "IEMOCAP: the two speakers of a session talk to each other; hold out whole sessions",
    ),
    subsets=("paper", "four", "all"),
)  # fmt: skip


def _improvised_counts() -> dict[str, dict[str, int]]:
    table = {}
    for line in _IMPROVISED.split(";"):
        speaker, *counts = line.split()
        table[speaker] = dict(zip(("happy", "neutral", "sad", "angry"), map(int, counts), strict=True))
    return table


SUBSETS = {
    "paper": replace(
        OFFICIAL,
        title="IEMOCAP (improvised, four emotions)",
        utterances=2943,
        counts={"angry": 289, "happy": 947, "neutral": 1099, "sad": 608},
        speaker_counts=_improvised_counts(),
        sources={**OFFICIAL.sources, "utterances": _LABELS, "counts": _LABELS, "speaker_counts": _LABELS},
    ),
    "four": replace(
        OFFICIAL,
        title="IEMOCAP (four emotions)",
        utterances=5531,
        counts={"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084},
    ),
    "all": replace(OFFICIAL, utterances=7532),
}
"""What each subset must hold; in `paper` and `four` the excited utterances count as happy."""


def read(
    root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False, subset: str = "paper"
) -> Manifest:
    """The manifest of IEMOCAP; `root` is the folder that holds `Session1` to `Session5`, or the one above.

    `subset`: `paper`, improvised and happy (with excited), sad, angry, neutral, 2943 utterances; `four`, the
    same labels in all dialogues, 5531; `all`, every label the listeners agreed on, 7532. `labels` decide
    completeness, by default those of the subset. Raises `CorpusError`.
    """
    if subset not in SUBSETS:
        raise CorpusError(f"IEMOCAP has no subset '{subset}'", mend=did_you_mean(subset, SUBSETS))
    official = SUBSETS[subset]
    folder = _sessions_folder(open_root(OFFICIAL, root))
    tree = _read_tree(folder, subset)
    return finish(
        official,
        folder,
        tree.rows,
        labels=official.counts if labels is None else labels,
        partial=partial,
        notes=tree.notes,
        detail=tree.detail,
    )


@dataclass(frozen=True)
class _Tree:
    """What was found: rows of the subset, notes, and what explains missing files."""

    rows: list[Utterance]
    notes: list[Note]
    detail: str


def _sessions_folder(root: Path) -> Path:
    """The folder with the sessions: `root`, or the only folder in it that has them."""
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if any((folder / f"Session{session}" / "dialog" / "EmoEvaluation").is_dir() for session in SESSIONS):
            return folder
    raise CorpusError(
        "this is not IEMOCAP: no folder Session1 to Session5 with dialog/EmoEvaluation in it",
        where=root,
        mend=f"Give the folder that holds {OFFICIAL.layout}. {OFFICIAL.obtain}",
    )


def _read_tree(folder: Path, subset: str) -> _Tree:
    rows: list[Utterance] = []
    notes: list[Note] = []
    silent: list[str] = []
    garbled: list[str] = []
    repeated: list[str] = []
    undecided: list[str] = []
    unlabelled: list[str] = []
    for session in SESSIONS:
        labels = read_labels(folder / f"Session{session}", session, known={*EMOTIONS, NO_AGREEMENT})
        garbled += labels.garbled
        repeated += labels.repeated
        texts = read_transcripts(folder / f"Session{session}" / "dialog" / "transcriptions")
        audio = _find_audio(folder / f"Session{session}" / "sentences" / "wav")
        unlabelled += sorted(set(audio) - {line.id for line in labels.lines})
        for line in labels.lines:
            if line.label == NO_AGREEMENT:
                undecided.append(line.id)
            elif not _in_subset(line, subset):
                continue
            elif line.id not in audio:
                silent.append(line.id)
            else:
                rows.append(_utterance(line, session, audio[line.id], texts.get(line.id, ""), subset))
    if undecided:
        said = f"{len(undecided)} utterances of IEMOCAP have no label most listeners agreed on (xxx), not used"
        notes.append(Note("unusable", said, tuple(undecided)))
    if silent:
        said = f"{len(silent)} labelled utterances have no audio: {some(silent)}"
        notes.append(Note("no-audio", said, tuple(silent)))
    if unlabelled:
        said = f"{len(unlabelled)} sentences have audio and no label line: {some(unlabelled)}"
        notes.append(Note("no-label", said, tuple(unlabelled)))
    if garbled:
        said = f"{len(garbled)} label lines of IEMOCAP cannot be read: {some(garbled)}"
        notes.append(Note("garbled", said, tuple(garbled)))
    if repeated:
        said = f"{len(repeated)} label lines repeat an utterance already labelled: {some(repeated)}"
        notes.append(Note("extra", said, tuple(repeated)))
    reasons = {
        "labelled but without audio": silent,
        "audio without a label line": unlabelled,
        "unreadable label lines": garbled,
    }
    return _Tree(rows, notes, _explain(folder, rows, reasons, subset))


def _explain(folder: Path, rows: list[Utterance], found: dict[str, list[str]], subset: str) -> str:
    """Why files may be missing, worst first, as the end of a sentence."""
    reasons = []
    absent = [f"Session{n}" for n in SESSIONS if not (folder / f"Session{n}").is_dir()]
    if absent:
        reasons.append(f"not there: {', '.join(absent)}")
    reasons += [f"{what}: {some(places)}" for what, places in found.items() if places]
    if subset == "four":
        counts = Counter(row.session for row in rows)
        short = [f"{n}: {counts[n]} of {total}" for n, total in _FOUR_BY_SESSION.items() if counts[n] < total]
        if short:
            reasons.append(f"by session: {', '.join(short)}")
    return "".join(f"; {reason}" for reason in reasons)


def _in_subset(line: Line, subset: str) -> bool:
    if subset == "all":
        return True
    four = line.label in {"ang", "exc", "hap", "neu", "sad"}
    return four and (subset == "four" or line.scenario == "improvised")


def _utterance(line: Line, session: str, audio: Path, text: str, subset: str) -> Utterance:
    merged = line.label == "exc" and subset != "all"
    return Utterance(
        id=line.id,
        audio=str(audio),
        speaker=f"{session}{line.speaker}",
        emotion="happy" if merged else EMOTIONS[line.label],
        gender="female" if line.speaker == "F" else "male",
        session=session,
        text=text,
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=line.label,
        extra={
            "scenario": line.scenario,
            "dialog": line.dialog,
            "valence": line.valence,
            "activation": line.activation,
            "dominance": line.dominance,
        },
    )


def _find_audio(folder: Path) -> dict[str, Path]:
    """The sentence files of a session by utterance id, WAV where a clip is there as FLAC too."""
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for dialog in sorted(folder.iterdir()):
        if dialog.name.startswith(".") or not dialog.is_dir():
            continue
        for path in dialog.iterdir():
            suffix = path.suffix.lower()
            if suffix not in AUDIO_SUFFIXES or path.name.startswith("."):
                continue
            if suffix == AUDIO_SUFFIXES[0] or path.stem not in found:
                found[path.stem] = path
    return found


# The text files of an IEMOCAP session: label lines and transcripts.

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
