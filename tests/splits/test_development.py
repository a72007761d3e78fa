"""Development speakers: half of everybody, balanced, and the table in the repository is what the function gives."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from unheard.corpora import read_corpus
from unheard.errors import SplitError
from unheard.manifest import Manifest, Utterance
from unheard.splits.files import development_speakers, of_part, read_parts, write_parts

TABLE = Path(__file__).resolve().parents[2] / "results" / "development-speakers.csv"


def people(women: int, men: int) -> Manifest:
    genders = ["female"] * women + ["male"] * men
    rows = (
        Utterance(f"{k}-{take}", "x.wav", str(k), "sad", gender=gender)
        for k, gender in enumerate(genders)
        for take in range(2)
    )
    return Manifest(tuple(rows))


@pytest.mark.parametrize(
    ("women", "men", "half"), [(12, 12, (6, 6)), (25, 39, (12, 20)), (3, 3, (1, 2)), (5, 0, (2, 0)), (1, 2, (0, 1))]
)
def test_half_of_each_gender(women: int, men: int, half: tuple[int, int]) -> None:
    chosen = development_speakers(people(women, men))
    assert (sum(int(name) < women for name in chosen), sum(int(name) >= women for name in chosen)) == half
    assert list(chosen) == sorted(chosen, key=int)


def test_the_seed_decides_and_the_order_of_the_rows_does_not() -> None:
    manifest = people(12, 12)
    assert development_speakers(manifest) == development_speakers(Manifest(manifest.rows[::-1]))
    drawn = {development_speakers(manifest, seed) for seed in range(5)}
    assert len(drawn) == 5
    assert set().union(*drawn) == set(manifest.speakers)


def test_the_table_goes_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    a, b = people(2, 2), people(1, 1)
    write_parts(path, {"a": a, "b": b}, untouched=["b"])
    parts = read_parts(path, "a")
    assert [name for name, part in parts.items() if part == "development"] == list(development_speakers(a))
    assert set(parts) == set(a.speakers)
    assert read_parts(path, "b") == {"0": "untouched", "1": "untouched"}
    with pytest.raises(SplitError, match="'c'"):
        read_parts(path, "c")


def test_only_the_speakers_of_a_part(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    rows = [Utterance(f"{c}{k}", "x.wav", str(k), "sad", corpus=c) for c in "ab" for k in range(3)]
    write_parts(path, {"a": Manifest(tuple(rows[:3])), "b": Manifest(tuple(rows[3:]))}, untouched=["b"])
    both = Manifest.concat([Manifest(tuple(rows[:3])), Manifest(tuple(rows[3:]))])
    for manifest in (Manifest(tuple(rows)), both):  # two corpora read together say whose speaker it is
        here, there = (of_part(manifest, f"{path}:{part}").ids for part in ("development", "untouched"))
        assert len(here) == 1
        assert sorted(here + there) == sorted(manifest.ids)
        assert "a" in here[0]
    for chosen, message in (
        (f"{path}:developmnt", "Did you mean 'development'"),
        (str(path), "is not FILE:PART"),
        (f"{tmp_path / 'none.csv'}:development", "cannot be read"),
    ):
        with pytest.raises(SplitError, match=message):
            of_part(both, chosen)


def test_a_table_that_a_spreadsheet_has_changed(tmp_path: Path) -> None:
    """Zeros that are gone are an error, not speakers fewer; a byte order mark and blanks do no harm."""
    manifest = Manifest(tuple(replace(row, speaker=f"0{row.speaker}", corpus="c") for row in people(3, 3)))
    path = tmp_path / "parts.csv"
    write_parts(path, {"c": manifest})
    whole = of_part(manifest, f"{path}:development")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(",development", ", development "), encoding="utf-8-sig")
    assert of_part(manifest, f"{path}:development").ids == whole.ids
    path.write_text(text.replace("c,0", "c,"))
    with pytest.raises(SplitError, match=r"speaker '0.*' of 'c' is not listed, and the listed '.*' is not in it"):
        of_part(manifest, f"{path}:development")
    path.write_text(text + text.splitlines()[1].rpartition(",")[0] + ",other\n")
    with pytest.raises(SplitError, match="and 'other'"):
        of_part(manifest, f"{path}:development")


def test_the_table_in_the_repository() -> None:
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = {
        (corpus, gender): [row["part"] for row in rows if (row["corpus"], row["gender"]) == (corpus, gender)]
        for corpus in ("emodb", "ravdess", "ased")
        for gender in ("female", "male")
    }
    halves = {key: (parts.count("development"), parts.count("untouched")) for key, parts in counts.items()}
    assert halves == {
        ("emodb", "female"): (0, 5), ("emodb", "male"): (0, 5),
        ("ravdess", "female"): (6, 6), ("ravdess", "male"): (6, 6),
        ("ased", "female"): (12, 13), ("ased", "male"): (20, 19),
    }  # fmt: skip


def test_the_function_gives_the_table_in_the_repository(corpora: Path, tmp_path: Path) -> None:
    manifests = {name: read_corpus(name, corpora / name) for name in ("emodb", "ravdess", "ased")}
    write_parts(tmp_path / "parts.csv", manifests, untouched=["emodb"])
    assert (tmp_path / "parts.csv").read_text() == TABLE.read_text()
