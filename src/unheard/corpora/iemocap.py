"""IEMOCAP: ten actors in five dyadic sessions, improvised and scripted, labelled by listeners.

    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      one line per utterance: times, id, label, [V, A, D]
    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav
    Session1/dialog/transcriptions/Ses01F_impro01.txt     the words

In `Ses01F_impro01_M003` the first letter is the actor with the markers; **the last letter is the speaker**.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unheard.corpora.corpus import Corpus, finish, listed, open_root, speaker_table, walk_audio, without_copies
from unheard.corpora.rows import EMOTION_WORDS
from unheard.errors import CorpusError, some
from unheard.manifest import Manifest, Utterance

SESSIONS = ("1", "2", "3", "4", "5")
NO_AGREEMENT = "xxx"  # the label of utterances on which the listeners did not agree; they are not used

_FOUR = ("ang", "exc", "hap", "neu", "sad")
_ALL = (*_FOUR, "dis", "fea", "fru", "oth", "sur")

_FOUR_BY_SESSION = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}  # four labels in all dialogues
_LABELS = "counted over the 10,039 lines of the release's EmoEvaluation files"
_TOTALS = f"{_LABELS}; the same totals in https://github.com/tae898/multimodal-datasets (IEMOCAP/dataset-stats.md)"

IEMOCAP = Corpus(
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
        **dict.fromkeys(("utterances", "counts"), _TOTALS),
        "licence": "https://sail.usc.edu/iemocap/Data_Release_Form_IEMOCAP.pdf (terms unverified)",
    },
    traps=(
        "IEMOCAP: the speaker is the last letter of an id; the first one, which several public readers take, is "
        "who wears the markers, someone else in half the utterances",
        "IEMOCAP: the two speakers of a session talk to each other; hold out whole sessions",
    ),
    subsets=dict.fromkeys(("paper", "four", "all"), ()),
)  # fmt: skip

SUBSETS = {
    "paper": replace(
        IEMOCAP,
        title="IEMOCAP (improvised, four emotions)",
        counts={"angry": 289, "happy": 947, "neutral": 1099, "sad": 608},
        unlabelled=0,
        speaker_counts=speaker_table(
            "1F 72 119 43 37; 1M 60 104 61 25; 2F 113 90 63 7; 2M 78 127 37 15; 3F 80 95 108 22; 3M 69 103 82 68;"
            "4F 129 51 41 47; 4M 66 123 40 37; 5F 124 151 73 18; 5M 156 136 60 13",
            "happy neutral sad angry",
        ),
        sources={**IEMOCAP.sources, **dict.fromkeys(("utterances", "counts", "speaker_counts"), _LABELS)},
    ),
    "four": replace(
        IEMOCAP,
        title="IEMOCAP (four emotions)",
        counts={"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084},
        unlabelled=0,
    ),
    "all": replace(IEMOCAP, unlabelled=0),
}
"""The required contents of each subset; in `paper` and `four`, excited utterances count as happy."""

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
    """Read IEMOCAP; `root` is the folder with `Session1` to `Session5`, or up to two above.

    `subset` is `paper` (improvised; happy with excited, sad, angry, neutral: 2943 utterances), `four` (the same labels
    in all dialogues: 5531) or `all` (every label that the listeners agreed on: 7532). Completeness is checked for
    `labels`, by default those of the subset. Raises `CorpusError` for an incomplete or inconsistent release.
    """
    corpus = SUBSETS[subset]
    folder = _sessions_folder(open_root(IEMOCAP, root))
    rows: list[Utterance] = []
    lists: defaultdict[str, list[str]] = defaultdict(list)
    for session in SESSIONS:
        home = folder / f"Session{session}"
        lines = _label_lines(home / "dialog" / "EmoEvaluation", session, lists)
        words = [_TRANSCRIPT.fullmatch(line) for _, line in _lines(home / "dialog" / "transcriptions")]
        texts = {match[1]: match[2] for match in reversed(words) if match}
        sentences = home / "sentences" / "wav"
        paths: dict[str, list[str]] = {}
        for path in walk_audio(sentences):
            paths.setdefault(Path(path).stem, []).append(path)
        audio, copies = without_copies(sentences, paths, r"Ses0[1-5][FM]_\w+")
        lists["copies"] += copies
        lists["unlabelled"] += sorted(set(audio) - set(lines))
        for name, line in lines.items():
            label, improvised = line["label"], "_impro" in line["dialog"]
            if label == NO_AGREEMENT:
                lists[NO_AGREEMENT].append(name)
            elif subset == "all" or (label in _FOUR and (subset == "four" or improvised)):
                if name not in audio:
                    lists["silent"].append(name)
                    continue
                speaker = session + line["speaker"]
                extra = {"scenario": "improvised" if improvised else "scripted"}
                extra |= {column: line[column] for column in ("dialog", "valence", "activation", "dominance")}
                emotion = "happy" if label == "exc" and subset != "all" else EMOTION_WORDS[label]
                about: dict[str, Any] = {
                    "gender": IEMOCAP.genders[speaker],
                    "corpus": IEMOCAP.name,
                    "language": IEMOCAP.language,
                }
                about |= {"session": session, "text": texts.get(name, ""), "original": label}
                rows.append(Utterance(name, audio[name], speaker, emotion, extra=extra, **about))
    notes = [note for name, about in _NOTES.items() for note in listed(*about, lists[name])]
    reasons = {
        "not there": [f"Session{n}" for n in SESSIONS if not (folder / f"Session{n}").is_dir()],
        "labelled but without audio": lists["silent"],
        "audio without a label line": lists["unlabelled"],
        "unreadable label lines": lists["garbled"],
    }
    if subset == "four":
        counts = Counter(row.session for row in rows)
        reasons["by session"] = [
            f"{n}: {counts[n]} of {total}" for n, total in _FOUR_BY_SESSION.items() if counts[n] < total
        ]
    detail = "".join(f"; {reason}: {some(names)}" for reason, names in reasons.items() if names)
    wanted = corpus.counts if labels is None else labels
    return finish(corpus, folder, rows, labels=wanted, partial=partial, notes=notes, detail=detail)


_NOTES = {
    NO_AGREEMENT: ("unusable", "utterance", "left out, without a label that most listeners agreed on (xxx)"),
    "silent": ("no-audio", "labelled utterance", "without audio"),
    "unlabelled": ("no-label", "sentence", "with audio and without a label line"),
    "garbled": ("garbled", "label line", "that cannot be read"),
    "repeated": ("extra", "label line", "repeating an utterance already labelled"),
    "copies": ("extra", "file", "skipped for repeating a sentence (another folder or format)"),
}
"""List of names -> kind, noun and message of its note."""


def _sessions_folder(root: Path) -> Path:
    """Return the folder with the sessions: `root`, or the first folder that has them up to two levels below."""
    for folder in (root, *sorted(root.glob("*")), *sorted(root.glob("*/*"))):
        if any((folder / f"Session{session}" / "dialog" / "EmoEvaluation").is_dir() for session in SESSIONS):
            return folder
    what = "this is not IEMOCAP: no folder Session1 to Session5 with dialog/EmoEvaluation in it"
    raise CorpusError(what, where=root, mend=f"Give the folder that holds {IEMOCAP.layout}. {IEMOCAP.obtain}")


def _lines(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, line) of the text files at the top level of a folder, except hidden files."""
    for file in sorted(folder.glob("[!.]*.txt")):
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            for number, line in enumerate(text.splitlines(), start=1):
                yield f"{file.name} line {number}", line.strip()


def _label_lines(folder: Path, session: str, lists: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return the label lines of a session by utterance id; places of other lines are added to `lists`.

    Raises `CorpusError` if one utterance has two labels.
    """
    lines: dict[str, dict[str, str]] = {}
    places: dict[str, str] = {}
    for place, content in _lines(folder):
        if not content.startswith("["):  # headers and votes of individual listeners
            continue
        match = _LINE.fullmatch(content)
        if not match or match["session"] != session or match["label"] not in {*_ALL, NO_AGREEMENT}:
            lists["garbled"].append(place)
        elif lines.setdefault(match["id"], match.groupdict()) != match.groupdict():
            what = f"{match['id']} is labelled twice and differently, in {places[match['id']]} and in {place}"
            raise CorpusError(what, where=folder, mend="Keep the file of the release and remove the other.")
        elif places.setdefault(match["id"], place) != place:
            lists["repeated"].append(place)
    return lines
