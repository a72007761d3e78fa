"""IEMOCAP: ten actors in five dyadic sessions, improvised and scripted, labelled by listeners.

    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      one line per utterance: times, id, label, [V, A, D]
    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav
    Session1/dialog/transcriptions/Ses01F_impro01.txt     the words

In `Ses01F_impro01_M003` the first letter is who wears the markers; **the last one is who speaks**.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from unheard.corpora.corpus import Corpus, finish, listed, open_root, speaker_table, walk_audio, without_copies
from unheard.errors import CorpusError, some
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "ang": "angry", "dis": "disgusted", "exc": "excited", "fea": "fearful", "fru": "frustrated",
    "hap": "happy", "neu": "neutral", "oth": "other", "sad": "sad", "sur": "surprised",
}  # fmt: skip
"""The corpus's label -> canonical."""

NO_AGREEMENT = "xxx"
"""The label of utterances on which the listeners did not agree: not usable."""

SESSIONS = ("1", "2", "3", "4", "5")

_FOUR_BY_SESSION = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}  # four labels in all dialogues
_LABELS = "counted over the 10,039 lines of the release's EmoEvaluation files"
_TOTALS = f"{_LABELS}; the same totals in https://github.com/tae898/multimodal-datasets (IEMOCAP/dataset-stats.md)"

CORPUS = Corpus(
    name="iemocap",
    title="IEMOCAP",
    language="en",
    licence="USC's own: free for research after signing its release form",
    citation="Busso et al. (2008): IEMOCAP: interactive emotional dyadic motion capture database, LRE 42(4)",
    homepage="https://sail.usc.edu/iemocap/",
    obtain="Ask for the release at https://sail.usc.edu/iemocap/ and unpack it.",
    layout="Session1/dialog/EmoEvaluation and Session1/sentences/wav",
    genders={f"{n}{side}": gender for n in SESSIONS for side, gender in (("F", "female"), ("M", "male"))},
    counts={
        "angry": 1103, "disgusted": 2, "excited": 1041, "fearful": 40, "frustrated": 1849,
        "happy": 595, "neutral": 1708, "other": 3, "sad": 1084, "surprised": 107,
    },
    unlabelled=2507,
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
    subsets={"paper": (), "four": (), "all": ()},
)  # fmt: skip

SUBSETS = {
    "paper": replace(
        CORPUS,
        title="IEMOCAP (improvised, four emotions)",
        counts={"angry": 289, "happy": 947, "neutral": 1099, "sad": 608},
        unlabelled=0,
        speaker_counts=speaker_table(
            "1F 72 119 43 37; 1M 60 104 61 25; 2F 113 90 63 7; 2M 78 127 37 15; 3F 80 95 108 22; 3M 69 103 82 68;"
            "4F 129 51 41 47; 4M 66 123 40 37; 5F 124 151 73 18; 5M 156 136 60 13",
            "happy neutral sad angry",
        ),
        sources={**CORPUS.sources, "utterances": _LABELS, "counts": _LABELS, "speaker_counts": _LABELS},
    ),
    "four": replace(
        CORPUS,
        title="IEMOCAP (four emotions)",
        counts={"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084},
        unlabelled=0,
    ),
    "all": replace(CORPUS, unlabelled=0),
}
"""What each subset must hold; in `paper` and `four` the excited utterances count as happy."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_ID = r"(?P<id>(?P<dialog>Ses0(?P<session>[1-5])[FM]_(?:impro\d{2}[ab]?|script\d{2}_\db?))_(?P<speaker>[FM])\d{3})"
_LINE = re.compile(
    rf"\[\s*{_NUMBER}\s*-\s*{_NUMBER}\s*\]\s+{_ID}\s+(?P<label>\w+)\s+"
    rf"\[\s*(?P<valence>{_NUMBER}),\s*(?P<activation>{_NUMBER}),\s*(?P<dominance>{_NUMBER})\s*\]\s*"
)
_TRANSCRIPT = re.compile(r"(Ses0[1-5][FM]_\w+)\s*\[[\d.\s-]*\]:?\s*(.*)")


def read(
    root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False, subset: str = "paper"
) -> Manifest:
    """Read IEMOCAP; `root` is the folder that holds `Session1` to `Session5`, or the one above.

    `subset`: `paper`, improvised and happy (with excited), sad, angry, neutral, 2943 utterances; `four`, the same
    labels in all dialogues, 5531; `all`, every label the listeners agreed on, 7532. `labels` decide completeness, by
    default those of the subset. Raises `CorpusError`.
    """
    corpus = SUBSETS[subset]
    folder = _sessions_folder(open_root(CORPUS, root))
    rows: list[Utterance] = []
    lists: defaultdict[str, list[str]] = defaultdict(list)
    for session in SESSIONS:
        home = folder / f"Session{session}"
        lines = _label_lines(home, session, lists)
        texts = _transcripts(home / "dialog" / "transcriptions")
        sentences = home / "sentences" / "wav"
        paths: dict[str, list[str]] = {}
        for path in walk_audio(sentences):
            paths.setdefault(Path(path).stem, []).append(path)
        audio, copies = without_copies(sentences, paths, r"Ses0[1-5][FM]_\w+")
        lists["copies"] += copies
        lists["unlabelled"] += sorted(set(audio) - set(lines))
        for name, line in lines.items():
            if line["label"] == NO_AGREEMENT:
                lists["xxx"].append(name)
            elif _in_subset(line, subset) and name not in audio:
                lists["silent"].append(name)
            elif _in_subset(line, subset):
                rows.append(_utterance(line, audio[name], texts.get(name, ""), subset))
    found = {
        "xxx": ("unusable", "utterances have no label that most listeners agreed on (xxx) and are not used"),
        "silent": ("no-audio", "labelled utterances have no audio"),
        "unlabelled": ("no-label", "sentences have audio and no label line"),
        "garbled": ("garbled", "label lines cannot be read"),
        "repeated": ("extra", "label lines repeat an utterance already labelled"),
        "copies": ("extra", "files repeat a sentence (another folder or format) and were skipped"),
    }
    notes = [note for name, (kind, what) in found.items() for note in listed(kind, what, lists[name])]
    wanted, detail = corpus.counts if labels is None else labels, _explanation(folder, rows, lists, subset)
    return finish(corpus, folder, rows, labels=wanted, partial=partial, notes=notes, detail=detail)


def _sessions_folder(root: Path) -> Path:
    """The folder with the sessions: `root`, or the only folder in it that has them."""
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if any((folder / f"Session{session}" / "dialog" / "EmoEvaluation").is_dir() for session in SESSIONS):
            return folder
    what = "this is not IEMOCAP: no folder Session1 to Session5 with dialog/EmoEvaluation in it"
    raise CorpusError(what, where=root, mend=f"Give the folder that holds {CORPUS.layout}. {CORPUS.obtain}")


def _explanation(folder: Path, rows: list[Utterance], lists: Mapping[str, list[str]], subset: str) -> str:
    """Why files may be missing, the worst reason first, as the end of a sentence."""
    absent = [f"Session{n}" for n in SESSIONS if not (folder / f"Session{n}").is_dir()]
    reasons = {
        "not there": absent,
        "labelled but without audio": lists["silent"],
        "audio without a label line": lists["unlabelled"],
        "unreadable label lines": lists["garbled"],
    }
    if subset == "four":
        counts = Counter(row.session for row in rows)
        short = [f"{n}: {counts[n]} of {total}" for n, total in _FOUR_BY_SESSION.items() if counts[n] < total]
        reasons["by session"] = short
    return "".join(f"; {reason}: {some(names)}" for reason, names in reasons.items() if names)


def _in_subset(line: Mapping[str, str], subset: str) -> bool:
    four = line["label"] in {"ang", "exc", "hap", "neu", "sad"}
    return subset == "all" or (four and (subset == "four" or "_impro" in line["dialog"]))


def _utterance(line: Mapping[str, str], audio: str, text: str, subset: str) -> Utterance:
    speaker = line["session"] + line["speaker"]
    return Utterance(
        id=line["id"],
        audio=audio,
        speaker=speaker,
        emotion="happy" if line["label"] == "exc" and subset != "all" else EMOTIONS[line["label"]],
        gender=CORPUS.genders[speaker],
        session=line["session"],
        text=text,
        corpus=CORPUS.name,
        language=CORPUS.language,
        original=line["label"],
        extra={"scenario": "improvised" if "_impro" in line["dialog"] else "scripted"}
        | {name: line[name] for name in ("dialog", "valence", "activation", "dominance")},
    )


def _lines(folder: Path) -> Iterable[tuple[str, str]]:
    """(place, line) of the text files at the top level of a folder; names with a leading dot are skipped."""
    for file in sorted(folder.glob("*.txt")) if folder.is_dir() else []:
        if not file.name.startswith(".") and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), start=1):
                yield f"{file.name} line {number}", line.strip()


def _label_lines(home: Path, session: str, lists: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """The label lines of a session by utterance id; places of other lines are added to `lists`.

    Raises `CorpusError` if one utterance has two labels.
    """
    lines: dict[str, dict[str, str]] = {}
    places: dict[str, str] = {}
    folder = home / "dialog" / "EmoEvaluation"
    for place, content in _lines(folder):
        if not content.startswith("["):  # headers and the single listeners' votes
            continue
        match = _LINE.fullmatch(content)
        if not match or match["session"] != session or match["label"] not in {*EMOTIONS, NO_AGREEMENT}:
            lists["garbled"].append(place)
        elif match["id"] not in lines:
            lines[match["id"]], places[match["id"]] = match.groupdict(), place
        elif match.groupdict() == lines[match["id"]]:
            lists["repeated"].append(place)
        else:
            what = f"{match['id']} is labelled twice and differently, in {places[match['id']]} and in {place}"
            raise CorpusError(what, where=folder, mend="Keep the file of the release and remove the other.")
    return lines


def _transcripts(folder: Path) -> dict[str, str]:
    """The words by utterance id; empty if the session has no transcriptions."""
    texts: dict[str, str] = {}
    for _, content in _lines(folder):
        if match := _TRANSCRIPT.fullmatch(content):
            texts.setdefault(match[1], match[2])
    return texts
