"""How `results/development-speakers.csv` was drawn: half of the speakers of the larger corpora, half of each gender.

python -m benchmarks.development_speakers CORPORA OUT.csv      (CORPORA holds emodb, ravdess, ased and nemo)
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from unheard.corpora import read_corpus
from unheard.manifest import Manifest
from unheard.splits.protocols import Groups

CORPORA = {"emodb": False, "ravdess": True, "ased": True, "nemo": True}
"""Corpus -> whether half of its speakers are development speakers; of a small one all are untouched."""


def development_speakers(manifest: Manifest) -> set[str]:
    """For odd numbers the halves are balanced over the genders: the two parts differ by one speaker at most."""
    groups = Groups(manifest, "speaker")
    chosen: list[str] = []
    seen = 0
    for stratum in groups.shuffled_strata([[name] for name in groups.names], "development/0"):
        seen += len(stratum)
        chosen += [block[0] for block in stratum[: seen // 2 - len(chosen)]]
    return set(chosen)


def main(corpora: Path, out: Path) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("corpus", "speaker", "gender", "part"))
        for corpus, halved in CORPORA.items():
            manifest = read_corpus(corpus, corpora / corpus)
            groups = Groups(manifest, "speaker")
            chosen = development_speakers(manifest) if halved else set()
            for name in groups.names:
                part = "development" if name in chosen else "untouched"
                rows.writerow((corpus, name, groups.gender(name), part))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
