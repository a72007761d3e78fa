"""nEMO: nine Polish actors, ninety sentences, six emotions.

`samples/EB0_anger_1.wav`: speaker, emotion, sentence; `data.tsv` beside it lists every clip of the release.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from unheard.corpora.official import Official, open_root, read_tree
from unheard.manifest import Manifest, Utterance

EMOTIONS = {
    "anger": ("angry", "anger"),
    "fear": ("fearful", "fear"),
    "happiness": ("happy", "happiness"),
    "neutral": ("neutral", "neutral"),
    "sadness": ("sad", "sadness"),
    "surprised": ("surprised", "surprised"),
}
"""Middle part of the name -> canonical, original."""

GENDERS = {
    "EB0": "female", "IC0": "female", "KD0": "female", "MK0": "female",
    "KS0": "male", "MP0": "male", "SM0": "male", "TP0": "male", "WR0": "male",
}  # fmt: skip
"""Speaker -> the column `gender` of data.tsv (repository, commit 06f1f83d)."""

_HOME = "https://github.com/amu-cai/nEMO"
_CARD = "https://huggingface.co/datasets/amu-cai/nEMO (dataset card)"

OFFICIAL = Official(
    name="nemo",
    title="nEMO",
    language="pl",
    licence="CC BY-NC-SA 4.0",
    citation="Christop (2024): nEMO: Dataset of Emotional Speech in Polish, LREC-COLING, arXiv 2404.06292",
    homepage=_HOME,
    fetchable=True,
    obtain=f"The release is at {_HOME} (unheard fetch nemo).",
    layout="samples/EB0_anger_1.wav",
    speakers=9,
    utterances=4481,
    counts={"angry": 749, "fearful": 736, "happy": 749, "neutral": 809, "sad": 769, "surprised": 669},
    sources={
        "speakers": f"{_HOME} (README, data.tsv)",
        "utterances": _CARD,
        "counts": f"{_CARD}: anger, fear; sad, happy, neutral as counted by public code; surprised: the rest of 4481",
        "licence": f"{_HOME} (README)",
    },
    traps=(
        "nEMO: ninety sentences said in every emotion, so a split by speaker still shares the words",
    ),
)  # fmt: skip

_NAME = re.compile(rf"({'|'.join(GENDERS)})_({'|'.join(EMOTIONS)})_(\d{{1,2}})")


def read(root: str | Path, *, labels: Iterable[str] | None = None, partial: bool = False) -> Manifest:
    """The manifest of nEMO; `root` holds `samples/` or is it.

    With the release's `data.tsv` in `root` or above `samples/`, completeness is checked clip by clip, else by
    counts. Raises `CorpusError`.
    """
    names = _listed(open_root(OFFICIAL, root))
    return read_tree(OFFICIAL, root, _parse, labels=labels, partial=partial, names=names)


def _listed(root: Path) -> dict[str, str] | None:
    """Every clip of the release by data.tsv: id -> canonical label; None where the list is not whole."""
    candidates = (root / "data.tsv", root.parent / "data.tsv", *sorted(root.glob("*/data.tsv")))
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            files = [row.get("file_id") or "" for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    matches = [_NAME.fullmatch(Path(name.strip()).stem) for name in files]
    names = {match[0]: EMOTIONS[match[2]][0] for match in matches if match}
    return names if len(names) == OFFICIAL.utterances else None


def _parse(path: Path) -> Utterance | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or not 1 <= int(match[3]) <= 90:
        return None
    speaker, word, sentence = match.groups()
    emotion, original = EMOTIONS[word]
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
    )
