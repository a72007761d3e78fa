"""nEMO: nine Polish actors, ninety sentences, six emotions.

`samples/EB0_anger_1.wav`: speaker, emotion, sentence; `data.tsv` beside it lists every clip of the release.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from unheard.corpora.corpus import Corpus, Download

EMOTIONS = {
    "anger": ("angry", "anger"), "fear": ("fearful", "fear"), "happiness": ("happy", "happiness"),
    "neutral": ("neutral", "neutral"), "sadness": ("sad", "sadness"), "surprised": ("surprised", "surprised"),
}  # fmt: skip
_NAME = r"(?P<speaker>[A-Z]{2}0)_(?P<emotion>[a-z]+)_(?P<text>[1-9]|[1-8]\d|90)"
_HOME = "https://github.com/amu-cai/nEMO"
_CARD = "https://huggingface.co/datasets/amu-cai/nEMO (dataset card)"


def clips(root: Path) -> Mapping[str, str] | None:
    """Return every clip of the release by its data.tsv, in `root` or beside it; None without the whole list."""
    for path in (root / "data.tsv", root.parent / "data.tsv", *sorted(root.glob("*/data.tsv"))):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            files = [row.get("file_id") or "" for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
            matches = [re.fullmatch(_NAME, Path(name.strip()).stem) for name in files]
            listed = {match[0]: EMOTIONS[match[2]][0] for match in matches if match and match[2] in EMOTIONS}
            return listed if len(listed) == CORPUS.utterances else None
    return None


CORPUS = Corpus(
    name="nemo",
    title="nEMO",
    language="pl",
    licence="CC BY-NC-SA 4.0",
    citation="Christop (2024): nEMO: Dataset of Emotional Speech in Polish, LREC-COLING, arXiv 2404.06292",
    homepage=_HOME,
    obtain=f"The release is at {_HOME} (unheard fetch nemo).",
    layout="samples/EB0_anger_1.wav",
    patterns=(_NAME,),
    folder="samples",
    emotions=EMOTIONS,
    genders={  # the column `gender` of data.tsv (repository, commit 06f1f83d)
        **dict.fromkeys(("EB0", "IC0", "KD0", "MK0"), "female"),
        **dict.fromkeys(("KS0", "MP0", "SM0", "TP0", "WR0"), "male"),
    },
    counts={"angry": 749, "fearful": 736, "happy": 749, "neutral": 809, "sad": 769, "surprised": 669},
    clips=clips,
    sources={
        "speakers": f"{_HOME} (README, data.tsv)",
        "utterances": _CARD,
        "counts": f"{_CARD}: anger, fear; sad, happy, neutral as counted by public code; surprised: the rest of 4481",
        "licence": f"{_HOME} (README)",
    },
    traps=("nEMO: ninety sentences said in every emotion, so a split by speaker still shares the words",),
    download=Download(
        url="https://github.com/amu-cai/nEMO/archive/refs/heads/main.zip",
        file="nEMO.zip",
        strip=1,
        source=f"{_HOME}; address as used by public code, no checksum published",
    ),
)  # fmt: skip
