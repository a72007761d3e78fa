"""What adaptation.csv holds: how many utterances were told after so many of their speaker had been heard.

counts of a measurement <-> adaptation.csv; those of trainings whose models are gone stay in it
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unheard.errors import RunError
from unheard.experiments.records import RunRecords

ALL = -1
"""k of all utterances of the speaker."""

FILE = "adaptation.csv"
_HEADER = ("system", "seed", "k", "draw", "speaker", "emotion", "utterances", "correct", "before")


@dataclass(frozen=True)
class Count:
    """How many utterances of one emotion a speaker said, and how many were told, after `k` heard in draw `draw`.

    `before`: how many of the same were told with nobody heard.
    """

    system: str
    seed: int
    k: int
    draw: int
    speaker: str
    emotion: str
    utterances: int
    correct: int
    before: int


def counts_csv(counts: Sequence[Count]) -> str:
    """The text of adaptation.csv; k of all is written `all`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for count in counts:
        values = vars(count) | {"k": "all" if count.k == ALL else count.k}
        writer.writerow([values[name] for name in _HEADER])
    return text.getvalue()


def read_counts(folder: Path) -> list[Count]:
    """The counts in the folder's adaptation.csv, [] where there is none; raises `RunError` for another file."""
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        return [
            Count(
                row["system"],
                int(row["seed"]),
                ALL if row["k"] == "all" else int(row["k"]),
                int(row["draw"]),
                row["speaker"],
                row["emotion"],
                *(int(row[name]) for name in _HEADER[-3:]),
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(
            f"is no table of counts ({type(error).__name__}: {error})", where=path, mend="Delete it."
        ) from error


def still_true(before: Sequence[Count], now: Sequence[Count], records: RunRecords) -> list[Count]:
    """Of the counts of `before` those of systems and seeds that `now` has none of and that still say what is so.

    They were measured at the same k in as many draws, and with nobody heard their networks tell as many utterances of
    each speaker as the run's predictions do.
    """
    measured = {(one.system, one.seed) for one in now}
    groups: dict[tuple[str, int], list[Count]] = {}
    for one in before:
        if (one.system, one.seed) not in measured:
            groups.setdefault((one.system, one.seed), []).append(one)
    asked = {(one.k, one.draw) for one in now}
    return [
        one
        for (system, seed), own in groups.items()
        if {(count.k, count.draw) for count in own} == asked and _told_by(own) == _told_in(records, system, seed) != {}
        for one in own
    ]


def _told_by(counts: Sequence[Count]) -> dict[str, tuple[int, int]]:
    """Speaker -> utterances, and how many of them are told with nobody heard; {} where not all were scored so."""
    whole = [one for one in counts if one.k in (0, ALL)]
    found: dict[str, tuple[int, int]] = {}
    for one in whole:
        if one.k == whole[0].k:
            said, told = found.get(one.speaker, (0, 0))
            found[one.speaker] = said + one.utterances, told + one.before
    return found


def _told_in(records: RunRecords, system: str, seed: int) -> dict[str, tuple[int, int]]:
    """The same of the run's test predictions."""
    found: dict[str, tuple[int, int]] = {}
    for line in records.lines:
        if line.system != system or line.chosen:
            continue
        for of_seed in line.seeds:
            if of_seed.seed == seed:
                test = of_seed.test
                for speaker, right in zip(test.speakers, test.truth == test.predicted, strict=True):
                    said, told = found.get(speaker, (0, 0))
                    found[speaker] = said + 1, told + int(right)
    return found
