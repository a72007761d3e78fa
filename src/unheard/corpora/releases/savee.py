"""SAVEE: four English men, seven emotions, 120 sentences each.

`AudioData/DC/sa03.wav` or `DC_sa03.wav`: speaker, emotion letters, number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unheard.corpora.official import UNVERIFIED, Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "a": ("angry", "anger"),
    "d": ("disgusted", "disgust"),
    "f": ("fearful", "fear"),
    "h": ("happy", "happiness"),
    "n": ("neutral", "neutral"),
    "sa": ("sad", "sadness"),
    "su": ("surprised", "surprise"),
}
"""Letters -> canonical, original."""

SPEAKERS = ("DC", "JE", "JK", "KL")
_EACH = {"angry": 15, "disgusted": 15, "fearful": 15, "happy": 15, "neutral": 30, "sad": 15, "surprised": 15}

_HOME = "http://kahlan.eps.surrey.ac.uk/savee/"
_INFO = "AudioData/Info.txt of the release: 15 sentences an emotion; 'DC', 'JE', 'JK', 'KL', all male"

OFFICIAL = Official(
    name="savee",
    title="SAVEE (Surrey Audio-Visual Expressed Emotion)",
    language="en",
    licence="research only, after registration",
    citation="Jackson, Haq (2014): Surrey Audio-Visual Expressed Emotion (SAVEE) Database, University of Surrey",
    homepage=_HOME,
    fetchable=False,
    obtain=f"Register at {_HOME} to be given the download.",
    layout="AudioData/DC/a01.wav or DC_a01.wav",
    speakers=4,
    utterances=480,
    counts={label: 4 * count for label, count in _EACH.items()},
    sources={
        "speakers": _INFO,
        "utterances": "counted alike by several public projects: neutral 120, the others 60",
        "counts": f"{_INFO}; neutral 30 as counted by several public projects",
        "speaker_counts": _INFO,
        "licence": UNVERIFIED,
    },
    speaker_counts=dict.fromkeys(SPEAKERS, _EACH),
    traps=(
        "SAVEE: four speakers, all men; no result on it says much about unseen voices",
        "SAVEE: most sentences belong to one emotion, so the words give the emotion away",
    ),
)

_FLAT = re.compile(rf"({'|'.join(SPEAKERS)})_(a|d|f|h|n|sa|su)(\d\d)", re.IGNORECASE)
_PLAIN = re.compile(r"(a|d|f|h|n|sa|su)(\d\d)", re.IGNORECASE)


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of SAVEE; `root` holds a folder a speaker, or files that begin with the speaker.

    Raises `CorpusError`.
    """
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)


def _parse(path: Path) -> Utterance | None:
    if flat := _FLAT.fullmatch(path.stem):
        speaker, letters, number = flat.groups()
    elif (plain := _PLAIN.fullmatch(path.stem)) and path.parent.name.upper() in SPEAKERS:
        speaker, (letters, number) = path.parent.name, plain.groups()
    else:
        return None
    speaker, letters = speaker.upper(), letters.lower()
    emotion, original = EMOTIONS[letters]
    if not 1 <= int(number) <= _EACH[emotion]:
        return None
    return Utterance(
        id=f"{speaker}_{letters}{number}",
        audio=str(path),
        speaker=speaker,
        emotion=emotion,
        gender="male",
        text=f"{letters}{number}",
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=original,
    )
