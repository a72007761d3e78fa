"""RAVDESS, speech part: 24 North American actors, two sentences, eight emotions in two intensities.

`Actor_12/03-01-06-01-02-01-12.wav`: modality (03 audio only), channel (01 speech), emotion, intensity,
statement, repetition, actor (even: female).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from unheard.corpora.official import Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "01": ("neutral", "neutral"),
    "02": ("calm", "calm"),
    "03": ("happy", "happy"),
    "04": ("sad", "sad"),
    "05": ("angry", "angry"),
    "06": ("fearful", "fearful"),
    "07": ("disgusted", "disgust"),
    "08": ("surprised", "surprised"),
}
"""Emotion code -> canonical, original."""

STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
INTENSITIES = {"01": "normal", "02": "strong"}
ACTORS = tuple(f"{number:02d}" for number in range(1, 25))

_RECORD = "https://zenodo.org/record/1188976"
_SAMPLES = "found by comparing the decoded samples of all clips of the four usual emotions"

OFFICIAL = Official(
    name="ravdess",
    title="RAVDESS (speech)",
    language="en",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Livingstone, Russo (2018): The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE "
        "13(5): e0196391"
    ),
    homepage=_RECORD,
    fetchable=True,
    obtain=f"The release is Audio_Speech_Actors_01-24.zip at {_RECORD} (unheard fetch ravdess).",
    layout="Actor_01/03-01-06-01-02-01-01.wav",
    speakers=24,
    utterances=1440,
    counts={
        "neutral": 96, "calm": 192, "happy": 192, "sad": 192,
        "angry": 192, "fearful": 192, "disgusted": 192, "surprised": 192,
    },
    sources={
        "speakers": _RECORD,
        "utterances": _RECORD,
        "counts": f"{_RECORD}: 24 actors x 2 statements x 2 repetitions x 2 intensities, one for neutral",
        "licence": _RECORD,
        "duplicates": _SAMPLES,
    },
    copies=(("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),),
    traps=(
        "RAVDESS: two sentences only, so a model can do well on them and on nothing else",
        "RAVDESS: 'calm' is a label of its own here; merge it with --map calm=neutral where a paper does",
    ),
)  # fmt: skip

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_SPEECH = ("03", "01")  # modality and channel of the audio-only speech


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of RAVDESS's speech; `root` is the folder that holds `Actor_01/` or one above it.

    Song and the sound of the videos, where unpacked beside it, are passed over. Raises `CorpusError`.
    """
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial, names=_names(), ignore=_other_modality)


def _names() -> dict[str, str]:
    """Every clip of the release: id -> canonical label. Neutral has no strong intensity."""
    grid = product(EMOTIONS, INTENSITIES, STATEMENTS, ("01", "02"), ACTORS)
    return {
        "-".join((*_SPEECH, emotion, intensity, statement, repetition, actor)): EMOTIONS[emotion][0]
        for emotion, intensity, statement, repetition, actor in grid
        if (emotion, intensity) != ("01", "02")
    }


def _other_modality(path: Path) -> bool:
    match = _NAME.fullmatch(path.stem)
    return match is not None and match.groups()[:2] != _SPEECH


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    emotion, intensity, statement, repetition, actor = match.groups()[2:]
    if not (emotion in EMOTIONS and intensity in INTENSITIES and statement in STATEMENTS and actor in ACTORS):
        return None
    canonical, original = EMOTIONS[emotion]
    return Utterance(
        id=path.stem,
        audio=str(path),
        speaker=actor,
        emotion=canonical,
        gender="female" if int(actor) % 2 == 0 else "male",
        text=STATEMENTS[statement],
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=original,
        extra={"intensity": INTENSITIES[intensity], "repetition": repetition},
    )
