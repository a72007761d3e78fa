"""EmoDB, the Berlin Database of Emotional Speech: ten German actors, ten sentences, seven emotions.

`wav/03a01Fa.wav`: speaker 03, sentence a01, emotion F (the German word's letter), version a.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unheard.corpora.official import UNVERIFIED, Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "W": ("angry", "anger"),
    "L": ("bored", "boredom"),
    "E": ("disgusted", "disgust"),
    "A": ("fearful", "fear"),
    "F": ("happy", "happiness"),
    "T": ("sad", "sadness"),
    "N": ("neutral", "neutral"),
}
"""The letter of the German word (Wut, Langeweile, Ekel, Angst, Freude, Trauer) -> canonical, original."""

GENDERS = {
    "03": "male", "08": "female", "09": "female", "10": "male", "11": "male",
    "12": "male", "13": "female", "14": "female", "15": "male", "16": "female",
}  # fmt: skip

SENTENCES = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")

_COUNTED = "counted in a copy of the release that is complete for anger, happiness, neutral and sadness"

_BY_SPEAKER = {
    "03": (14, 7, 11, 7), "08": (12, 11, 10, 9), "09": (13, 4, 9, 4), "10": (10, 4, 4, 3), "11": (11, 8, 9, 7),
    "12": (12, 2, 4, 4), "13": (12, 10, 9, 5), "14": (16, 8, 7, 10), "15": (13, 6, 11, 4), "16": (14, 11, 5, 9),
}  # fmt: skip
"""Speaker -> files of angry, happy, neutral, sad."""

OFFICIAL = Official(
    name="emodb",
    title="EmoDB (Berlin Database of Emotional Speech)",
    language="de",
    licence="free for research; republished by audEERING as CC0 1.0",
    citation="Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss (2005): A Database of German Emotional Speech, "
    "Interspeech",
    homepage="http://emodb.bilderbar.info/",
    fetchable=True,
    obtain="The release is at http://emodb.bilderbar.info/ (unheard fetch emodb).",
    layout="wav/03a01Fa.wav",
    speakers=10,
    utterances=535,
    counts={
        "angry": 127, "bored": 81, "disgusted": 46, "fearful": 69, "happy": 71, "neutral": 79, "sad": 62,
    },
    sources={
        "speakers": "http://emodb.bilderbar.info/docu/",
        "utterances": "https://huggingface.co/datasets/renumics/emodb (a mirror: 535 examples)",
        "counts": f"{_COUNTED}; boredom, disgust and fear {UNVERIFIED}, together the rest of 535",
        "speaker_counts": _COUNTED,
        "licence": f"research: {UNVERIFIED}; CC0: https://github.com/audeering/emodb (README.md)",
    },
    speaker_counts={
        speaker: dict(zip(("angry", "happy", "neutral", "sad"), counts, strict=True))
        for speaker, counts in _BY_SPEAKER.items()
    },
    traps=(
        "EmoDB: ten sentences said in every emotion, so a split by speaker still shares the words",
        "EmoDB: some packagings name four speakers' gender wrongly; 09, 13 are women, 10, 12 men",
    ),
)  # fmt: skip

_NAME = re.compile(rf"({'|'.join(GENDERS)})({'|'.join(SENTENCES)})([{''.join(EMOTIONS)}])([a-z])")


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of EmoDB; `root` holds `wav/` or is it. Raises `CorpusError`."""
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker, sentence, letter, version = match.groups()
    emotion, original = EMOTIONS[letter]
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=speaker,
        emotion=emotion,
        gender=GENDERS[speaker],
        text=sentence,
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=original,
        extra={"version": version},
    )
