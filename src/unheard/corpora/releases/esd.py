"""ESD, the Emotional Speech Dataset: ten English and ten Mandarin speakers, the same 350 sentences in five emotions.

`0011/Angry/0011_000351.wav`: speaker, emotion, number; some releases put `train`, `evaluation` and `test`
folders in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from unheard.corpora.official import Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "angry": ("angry", "Angry"),
    "happy": ("happy", "Happy"),
    "neutral": ("neutral", "Neutral"),
    "sad": ("sad", "Sad"),
    "surprise": ("surprised", "Surprise"),
}
"""Folder name in lower case -> canonical, original."""

FEMALE = frozenset(["0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"])
"""Speakers that the release's ReadMe.txt calls female; the other ten are male."""

MANDARIN = tuple(f"{number:04d}" for number in range(1, 11))
ENGLISH = tuple(f"{number:04d}" for number in range(11, 21))
SUBSETS = {"english": ENGLISH, "mandarin": MANDARIN}
PARTS = ("train", "evaluation", "test")
SENTENCES = 350
"""Sentences a language; every speaker says each once in each emotion."""

_HOME = "https://github.com/HLTSingapore/Emotional-Speech-Data"
_LABELS = ("angry", "happy", "neutral", "sad", "surprised")

OFFICIAL = Official(
    name="esd",
    title="ESD (Emotional Speech Dataset)",
    language="en, zh",
    licence="research only, after a signed licence form",
    citation=(
        "Zhou, Sisman, Liu, Li (2022): Emotional voice conversion: Theory, databases and ESD, Speech "
        "Communication 137: 1-18"
    ),
    homepage=_HOME,
    fetchable=False,
    obtain=f"Fill in the licence form at {_HOME} and send it to zhoukun@u.nus.edu; the page names the download.",
    layout="0011/Angry/0011_000351.wav",
    speakers=20,
    utterances=35_000,
    counts=dict.fromkeys(_LABELS, SENTENCES * 20),
    sources={
        "speakers": f"{_HOME} (README)",
        "utterances": f"{_HOME} (README): 350 parallel utterances x 5 emotions x 20 speakers",
        "counts": f"{_HOME} (README)",
        "speaker_counts": f"{_HOME} (README)",
        "licence": f"{_HOME} (README)",
    },
    speaker_counts={speaker: dict.fromkeys(_LABELS, SENTENCES) for speaker in (*MANDARIN, *ENGLISH)},
    traps=(
        "ESD: every speaker says the same 350 sentences, so a split by speaker still shares the words",
        "ESD: its train, evaluation and test folders share every speaker; they are kept in the column 'part' only",
        "ESD: the transcripts (0001/0001.txt) differ in encoding and labels between speakers and are not read",
        "ESD: two languages; ask for one with --subset english or mandarin",
    ),
    subsets=tuple(SUBSETS),
)

_NAME = re.compile(r"(\d{4})_(\d{6})")


def read(
    root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False, subset: str | None = None
) -> Manifest:
    """The manifest of ESD; `root` is the folder that holds `0001/` or one above it.

    `subset` is `english` or `mandarin`: only these ten speakers, and completeness for them. Raises
    `CorpusError`.
    """
    if subset is None:
        return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)
    speakers = SUBSETS[subset]
    half = replace(
        OFFICIAL,
        title=f"ESD ({subset})",
        speakers=10,
        utterances=17_500,
        counts=dict.fromkeys(_LABELS, SENTENCES * 10),
        speaker_counts={speaker: OFFICIAL.speaker_counts[speaker] for speaker in speakers},
    )
    return read_tree(
        half, root, _parse, labels=labels, partial=partial, ignore=lambda path: path.stem[:4] not in speakers
    )


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    folders = [folder.lower() for folder in path.parts[-4:-1]]
    emotion = next((EMOTIONS[folder] for folder in reversed(folders) if folder in EMOTIONS), None)
    if match is None or emotion is None or match[1] not in OFFICIAL.speaker_counts:
        return None
    number = int(match[2])
    if not 1 <= number <= SENTENCES * len(EMOTIONS):
        return None
    speaker = match[1]
    language = "zh" if speaker in MANDARIN else "en"
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=speaker,
        emotion=emotion[0],
        gender="female" if speaker in FEMALE else "male",
        # Numbers run on through the emotions: 1, 351, 701, 1051 and 1401 are one sentence.
        text=f"{language}-{(number - 1) % SENTENCES + 1:03d}",
        corpus=OFFICIAL.name,
        language=language,
        original=emotion[1],
        extra={"part": next((folder for folder in folders if folder in PARTS), "")},
    )
