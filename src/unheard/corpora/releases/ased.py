"""ASED v1, the Amharic Speech Emotion Dataset: 65 speakers, five emotions, two common and 25 tied sentences.

`05Angry/a5-03-01-02-50.wav`: emotion and its number, sentence, repetition, gender (01 female), speaker.

Recordings are there more than once. One that two speakers share, however shifted, is left out in every copy,
because nobody can say who speaks; a second take with the samples of the first is left out once. That leaves
1918 of the 1964 clips that are not fearful.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unheard.corpora.official import UNVERIFIED, Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "n1": ("neutral", "neutral"),
    "f2": ("fearful", "fearful"),
    "h3": ("happy", "happy"),
    "s4": ("sad", "sad"),
    "a5": ("angry", "angry"),
}
"""The first part of the file name -> canonical, original."""

COMMON_SENTENCES = ("01", "02")
"""Said in every emotion; the other five numbers are a different sentence in each emotion."""

_FEMALE = "01 03 05 07 09 11 13 15 17 19 21 23 25 27 29 31 33 35 37 43 47 48 49 58 62"
FEMALE = frozenset(_FEMALE.split())
"""Speakers whose files say 01; two single files, s4-01-02-02-09 and s4-04-01-02-23, contradict the rest."""

# Clips, named without their repetition, whose second take is the first one again: the same samples at the
# same place up to rounding and clipping (correlation above 0.9999).
_SAME_TAKE = """
a5-01-01-37 a5-01-01-49 a5-02-01-37 a5-03-01-21 a5-03-01-25 a5-04-01-21 a5-05-01-21 a5-05-01-25 a5-06-01-21
a5-07-01-21 a5-07-02-63 h3-01-01-49 h3-01-02-08 h3-03-01-21 h3-04-01-21 h3-06-01-11 h3-06-01-21 h3-07-01-21
h3-07-01-31 n1-02-01-37 n1-03-01-21 n1-03-01-25 n1-04-01-21 n1-04-01-25 n1-05-01-21 n1-05-01-25 n1-06-01-21
n1-06-01-25 n1-07-01-21 n1-07-01-29 n1-07-02-53 s4-03-01-21 s4-03-01-23 s4-03-01-25 s4-04-01-21 s4-05-01-21
s4-05-01-25 s4-06-01-21 s4-07-01-21 s4-07-01-25
"""

# Speaker, then its angry, happy, neutral and sad files.
_BY_SPEAKER = """
01 14 14 14 14; 02 4 4 4 4; 03 4 4 4 4; 04 14 14 14 14; 05 14 14 14 10; 06 14 14 14 14; 07 4 0 4 4; 08 0 4 4 0;
09 4 4 4 4; 10 14 14 14 10; 11 10 10 14 14; 12 4 0 4 0; 13 14 14 14 14; 14 4 0 4 4; 15 0 4 4 0; 16 0 4 4 0;
17 0 4 4 0; 18 4 4 4 0; 19 4 4 4 0; 20 10 10 14 10; 21 10 10 14 10; 22 0 4 4 0; 23 10 10 10 10; 24 0 4 4 4;
25 14 10 14 14; 26 14 10 14 14; 27 14 14 10 14; 28 14 14 10 14; 29 14 14 10 14; 30 14 14 10 14; 31 10 10 10 10;
32 4 4 4 4; 33 4 4 0 0; 34 0 0 4 0; 35 0 0 4 4; 36 0 0 4 4; 37 4 0 4 0; 38 4 0 4 4; 39 14 14 14 14;
41 14 14 14 14; 42 0 0 4 0; 43 0 4 0 0; 44 0 0 4 0; 45 10 10 10 10; 46 4 0 4 0; 47 2 4 4 4; 48 10 10 10 10;
49 2 4 0 0; 50 14 14 14 14; 51 10 10 10 10; 52 10 10 10 10; 53 10 10 10 10; 54 10 10 10 10; 55 10 10 10 10;
56 10 10 10 10; 57 10 10 10 10; 58 10 10 10 10; 59 10 10 10 10; 60 10 10 10 10; 61 10 10 10 10; 62 10 10 10 10;
63 10 10 10 10; 64 10 10 10 10; 65 10 10 10 10
"""

_README = "https://github.com/Ethio2021/ASED_V1 (README.md)"


def _speaker_counts() -> dict[str, dict[str, int]]:
    table = {}
    for line in _BY_SPEAKER.split(";"):
        speaker, *counts = line.split()
        table[speaker] = dict(zip(("angry", "happy", "neutral", "sad"), map(int, counts), strict=True))
    return table


def _both_takes(name: str) -> tuple[str, str]:
    emotion, sentence, gender, speaker = name.split("-")
    return f"{emotion}-{sentence}-01-{gender}-{speaker}", f"{emotion}-{sentence}-02-{gender}-{speaker}"


OFFICIAL = Official(
    name="ased",
    title="ASED v1 (Amharic Speech Emotion Dataset)",
    language="am",
    licence="not stated; 'freely available for download'",
    citation=(
        "Retta, Almekhlafi, Sutcliffe, Mhamed, Ali, Feng (2022): A New Amharic Speech Emotion Dataset and "
        "Classification Benchmark, ACM TALLIP, doi 10.1145/3529759"
    ),
    homepage="https://github.com/Ethio2021/ASED_V1",
    fetchable=True,
    obtain="The release is at https://github.com/Ethio2021/ASED_V1 (unheard fetch ased).",
    layout="01Neutral/n1-01-01-01-01.wav",
    speakers=65,
    utterances=2474,
    counts={"angry": 486, "fearful": 510, "happy": 486, "neutral": 522, "sad": 470},
    sources={
        "speakers": _README,
        "utterances": _README,
        "counts": f"counted in a copy of the release that has all but fearful; fearful {UNVERIFIED}: the rest of 2474",
        "speaker_counts": "counted in a copy of the release that has all but fearful",
        "licence": "https://arxiv.org/abs/2201.02710 (abstract)",
        "duplicates": "found by comparing the decoded samples of all clips but fearful, every pair at every shift",
    },
    speaker_counts=_speaker_counts(),
    copies=tuple(_both_takes(name) for name in _SAME_TAKE.split()),
    clashes=(
        ("h3-07-01-01-23", "h3-07-01-01-25"),
        ("h3-07-01-02-39", "h3-07-01-02-45"),
        ("n1-05-01-02-52", "n1-05-02-02-45"),
    ),
    traps=(
        "ASED: sentences 03 to 07 are different ones in each emotion, so the words give the emotion away; "
        "only 01 and 02 are said in all",
        "ASED: nine more second takes are cut or edited from another clip of the same speaker and were kept "
        "(r 0.96 to 0.9996 once aligned, for example s4-06-01-02-57 and s4-07-02-02-57)",
        "ASED: s4-01-02-02-09 and s4-04-01-02-23 are named male; their speakers are female in all other files",
    ),
)  # fmt: skip

# Case is ignored: the release itself has one S4-04-02-01-29.
_NAME = re.compile(rf"({'|'.join(EMOTIONS)})-(0[1-7])-(0[12])-(0[12])-(\d\d)", re.IGNORECASE)


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of ASED; `root` is the folder that holds `01Neutral/` and the others. Raises `CorpusError`."""
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or not 1 <= int(match[5]) <= OFFICIAL.speakers:
        return None
    code, sentence, repetition, gender, speaker = match.groups()
    emotion, original = EMOTIONS[code.lower()]
    female = speaker in FEMALE or (speaker not in OFFICIAL.speaker_counts and gender == "01")
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=speaker,
        emotion=emotion,
        gender="female" if female else "male",
        text=sentence if sentence in COMMON_SENTENCES else f"{code[0].lower()}{sentence}",
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=original,
        extra={"repetition": repetition},
    )
