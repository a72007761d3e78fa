"""Development speakers: the rows of one part of a table, and the table in the repository."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from splitting import table

from benchmarks.development_speakers import development_speakers, main
from unheard.errors import SplitError
from unheard.manifest import Manifest
from unheard.splits.files import of_part

TABLE = Path(__file__).resolve().parents[2] / "results" / "development-speakers.csv"


def people(women: int, men: int) -> Manifest:
    return table(*(f"f{k}" for k in range(women)), *(f"m{k}" for k in range(men)))


@pytest.mark.parametrize(
    ("women", "men", "half"), [(12, 12, (6, 6)), (25, 39, (12, 20)), (3, 3, (1, 2)), (5, 0, (2, 0)), (1, 2, (0, 1))]
)
def test_half_of_each_gender(women: int, men: int, half: tuple[int, int]) -> None:
    manifest = people(women, men)
    chosen = development_speakers(manifest)
    assert tuple(Counter(name[0] for name in chosen)[gender] for gender in "fm") == half
    assert development_speakers(Manifest(manifest.rows[::-1])) == chosen


A, B = table("f1", "m1", corpus="a"), table("f1", "m1", corpus="b")
ROWS = "corpus,speaker,part\na,f1,development\na,m1,untouched\nb,f1,untouched\nb,m1,untouched\n"


@pytest.mark.parametrize("text", [ROWS, "\ufeff" + ROWS.replace(",development", ", development ")])
def test_only_the_speakers_of_a_part(tmp_path: Path, text: str) -> None:
    path = tmp_path / "parts.csv"
    path.write_text(text, encoding="utf-8")
    both = Manifest.concat([A, B])
    renamed = Manifest((*A, *(replace(row, id=f"b{row.id}") for row in B)))
    for manifest in (both, renamed):  # two corpora read together say whose speaker it is
        here, there = (of_part(manifest, f"{path}:{part}") for part in ("development", "untouched"))
        assert {(row.corpus, row.gender) for row in here} == {("a", "f")}
        assert sorted(here.ids + there.ids) == sorted(manifest.ids)


@pytest.mark.parametrize(
    ("text", "part", "message"),
    [
        (ROWS, ":developmnt", "Did you mean 'development'"),
        (ROWS, "", "is not FILE:PART"),
        (ROWS.replace("b,", "c,"), ":untouched", "no speaker of 'b' is listed"),
        (ROWS.replace("a,f1", "a,f01"), ":untouched", "'f1' of 'a' is not listed, and the listed 'f01' is not in it"),
        (ROWS + "a,f1,other\n", ":untouched", "speaker 'f1' of 'a' is 'development' and 'other'"),
        ("corpus,part\n", ":untouched", "has no column 'speaker'"),
        ("\xff", ":untouched", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, part: str, message: str) -> None:
    path = tmp_path / "parts.csv"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SplitError, match=message):
        of_part(Manifest.concat([A, B]), f"{path}{part}")


def test_the_table_in_the_repository() -> None:
    """Development and untouched speakers of each corpus and gender."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [(row["corpus"], row["gender"], row["part"]) for row in csv.DictReader(file)]
    parts = ("development", "untouched")
    counts = {key: tuple(rows.count((*key, part)) for part in parts) for key in {row[:2] for row in rows}}
    assert counts == {
        ("emodb", "female"): (0, 5), ("emodb", "male"): (0, 5), ("nemo", "female"): (2, 2), ("nemo", "male"): (2, 3),
        ("ravdess", "female"): (6, 6), ("ravdess", "male"): (6, 6),
        ("ased", "female"): (12, 13), ("ased", "male"): (20, 19),
    }  # fmt: skip


def test_the_function_gives_the_table_in_the_repository(corpora: Path, tmp_path: Path) -> None:
    main(corpora, tmp_path / "parts.csv")
    assert (tmp_path / "parts.csv").read_text() == TABLE.read_text()
