"""TESS, the Toronto emotional speech set: two actresses, 200 words in one carrier phrase, seven emotions.

`OAF_angry/OAF_back_angry.wav`: talker (older, younger), word, emotion (ps: pleasant surprise).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unheard.corpora.official import Official, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "angry": ("angry", "angry"),
    "disgust": ("disgusted", "disgust"),
    "fear": ("fearful", "fear"),
    "happy": ("happy", "happy"),
    "neutral": ("neutral", "neutral"),
    "ps": ("surprised", "pleasant surprise"),
    "sad": ("sad", "sad"),
}
"""Last part of the name -> canonical, original."""

AGES = {"OAF": "64", "YAF": "26"}
"""Talker -> age in years."""

_LABELS = tuple(canonical for canonical, _ in EMOTIONS.values())
_HOME = "https://doi.org/10.5683/SP2/E8H2MF"
_CARD = "https://tspace.library.utoronto.ca/handle/1807/24487, as quoted by several catalogues"

OFFICIAL = Official(
    name="tess",
    title="TESS (Toronto emotional speech set)",
    language="en",
    licence="CC BY-NC 4.0",
    citation="Pichora-Fuller, Dupuis (2020): Toronto emotional speech set (TESS), Borealis, doi 10.5683/SP2/E8H2MF",
    homepage=_HOME,
    fetchable=True,
    obtain=f"The release is at {_HOME} (unheard fetch tess).",
    layout="OAF_angry/OAF_back_angry.wav",
    speakers=2,
    utterances=2800,
    counts=dict.fromkeys(_LABELS, 400),
    sources={
        "speakers": _CARD,
        "utterances": _CARD,
        "counts": f"{_CARD}: 200 words x 2 talkers an emotion",
        "speaker_counts": f"{_CARD}: 200 words an emotion",
        "licence": "https://huggingface.co/datasets/myleslinder/tess (cc-by-nc-4.0); at the origin: unverified, "
        "some catalogues say CC BY-NC-ND 4.0",
    },
    speaker_counts={talker: dict.fromkeys(_LABELS, 200) for talker in AGES},
    traps=(
        "TESS: two speakers, both women; it cannot show how a model does on unseen voices",
        "TESS: one carrier phrase ('Say the word ...'), so the words are shared by every split",
        "TESS: some tools cannot read YAF_germ_angry.wav and YAF_neat_fear.wav",
    ),
)

_NAME = re.compile(rf"(OAF?|YAF)_([a-z]+)_({'|'.join(EMOTIONS)})", re.IGNORECASE)


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of TESS; `root` holds the clips, in folders a talker and emotion or flat.

    A second copy inside (some archives carry one) is passed over and noted. Raises `CorpusError`.
    """
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    talker, word, ending = match[1].upper(), match[2].lower(), match[3].lower()
    # The release misspells one name: OA_bite_neutral is OAF_bite_neutral, not a third talker.
    talker = "OAF" if talker == "OA" else talker
    emotion, original = EMOTIONS[ending]
    return Utterance(
        id=f"{talker}_{word}_{ending}",
        audio=str(path),
        speaker=talker,
        emotion=emotion,
        gender="female",
        text=word,
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=original,
        extra={"age": AGES[talker]},
    )
