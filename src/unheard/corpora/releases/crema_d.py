"""CREMA-D: 91 actors of many backgrounds, twelve sentences, six emotions.

`AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, intended emotion, level (LO, MD, HI; XX unspecified).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from unheard.corpora.official import Official, read_tree
from unheard.errors import CorpusError
from unheard.manifest import Manifest, Note, Utterance

EMOTIONS = {
    "ANG": ("angry", "anger"),
    "DIS": ("disgusted", "disgust"),
    "FEA": ("fearful", "fear"),
    "HAP": ("happy", "happy"),
    "NEU": ("neutral", "neutral"),
    "SAD": ("sad", "sad"),
}
"""Code of the emotion the actor was asked for -> canonical, original."""

SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}

_FEMALE = (
    1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028,
    1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061, 1063,
    1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091,
)  # fmt: skip
FEMALE = frozenset(map(str, _FEMALE))
"""The actors whose Sex is Female in VideoDemographics.csv (repository, commit 98df52c2); the others are male."""

UNUSABLE = {
    "1076_MTI_SAD_XX": "it has no sound",
    "1064_IEO_DIS_MD": "one minute with every emotion of the sentence in it",
}
"""Clips the makers list as broken whose recording is not the utterance that their name promises."""

_HOME = "https://github.com/CheyneyComputerScience/CREMA-D"

OFFICIAL = Official(
    name="crema-d",
    title="CREMA-D",
    language="en",
    licence="Open Database License 1.0, contents under the Database Contents License 1.0",
    citation=(
        "Cao, Cooper, Keutmann, Gur, Nenkova, Verma (2014): CREMA-D: Crowd-Sourced Emotional Multimodal Actors "
        "Dataset, IEEE Transactions on Affective Computing 5(4): 377-390"
    ),
    homepage=_HOME,
    fetchable=True,
    obtain=f"The release is at {_HOME}, its audio in Git LFS (unheard fetch crema-d).",
    layout="AudioWAV/1001_DFA_ANG_XX.wav",
    speakers=91,
    utterances=7442,
    counts={
        "angry": 1271, "disgusted": 1271, "fearful": 1271, "happy": 1271, "neutral": 1087, "sad": 1271,
    },
    sources={
        "speakers": f"{_HOME} (README: 48 male, 43 female)",
        "utterances": f"{_HOME} (README)",
        "counts": "counted alike by several public projects; they add up to the README's 7442",
        "licence": f"{_HOME}/blob/master/LICENSE.txt",
    },
    traps=(
        "CREMA-D: the labels are the emotions the actors were asked for; listeners who only heard the clips "
        "agreed with them in about 41 % (Cao et al. 2014), so no model will do very well",
        "CREMA-D: twelve sentences, so a split by speaker still shares the words; levels exist for IEO only",
        "CREMA-D: its makers also list 1064_TIE_SAD_XX and 1076_MTI_NEU_XX as broken (almost empty)",
    ),
)  # fmt: skip

_NAME = re.compile(rf"(\d{{4}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_(LO|MD|HI|XX?)")


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of CREMA-D with the intended emotions; `root` holds `AudioWAV/` or is it.

    The clips of `UNUSABLE` are left out and noted. Raises `CorpusError`, also for a clone without Git LFS.
    """
    manifest = read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial)
    notes = list(manifest.notes)
    broken = tuple(row.id for row in manifest if row.id in UNUSABLE)
    if broken:
        why = ", ".join(f"{name} ({UNUSABLE[name]})" for name in broken)
        notes.append(Note("unusable", f"{len(broken)} clips are broken in the release and left out: {why}", broken))
    rows = tuple(row for row in manifest if row.id not in UNUSABLE)
    return replace(manifest, rows=rows, notes=tuple(notes))


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or not 1001 <= int(match[1]) <= 1091:
        return None
    _require_sound(path)
    actor, sentence, code, level = match.groups()
    # One file of older releases is named 1040_ITH_SAD_X: the same clip as today's 1040_ITH_SAD_XX.
    level = "XX" if level == "X" else level
    emotion, original = EMOTIONS[code]
    return Utterance(
        id=f"{actor}_{sentence}_{code}_{level}",
        audio=str(path),
        speaker=actor,
        emotion=emotion,
        gender="female" if actor in FEMALE else "male",
        text=sentence,
        corpus=OFFICIAL.name,
        language=OFFICIAL.language,
        original=original,
        extra={"level": LEVELS[level]},
    )


def _require_sound(path: Path) -> None:
    """A clone without Git LFS has small text files in the place of the audio."""
    try:
        if path.stat().st_size > 1024 or not path.read_bytes().startswith(b"version https://git-lfs"):
            return
    except OSError:
        return
    raise CorpusError(
        "this is a pointer of Git LFS, not audio",
        where=path,
        mend="Run 'git lfs pull' in the clone, or fetch it with: unheard fetch crema-d.",
    )
