"""The tables on hand-made predictions whose answers can be seen."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from recording import finish, write_run
from reporting import invent

from unheard.experiments.records import read_run
from unheard.experiments.summary import caption, hardly_trained, single_class, summarise, table_markdown, write_table


def line(text: str, name: str) -> list[str]:
    (found,) = [row for row in text.splitlines() if row.startswith((f"| {name} |", f"{name} &"))]
    return [word.strip() for word in found.strip("|").split("|" if found.startswith("|") else "&")]


def test_mean_sample_deviation_difference_and_error_reduction(tmp_path: Path) -> None:
    """SER 50 and 75 % (62.5 ± 17.7), MTL 75 and 100 % (+25 points: two thirds of 37.5 % error)."""
    said = {
        ("ser", 0, 0): "aa ss as sa",
        ("ser", 0, 1): "aa ss aa sa",
        ("mtl", 0, 0): "aa ss aa sa",
        ("mtl", 0, 1): "aa ss aa ss",
        ("dat", 0, 0): "aa ss as sa",
    }
    run = read_run(write_run(tmp_path, said, seeds=2, systems="ser,mtl,dat"))
    text = table_markdown(run.lines, "caption")
    assert line(text, "SER_only")[2] == f"62.5 ± {100 * math.sqrt(2) * 0.125:.1f}"
    assert line(text, "SER_only")[6:] == ["", "", "2/2"]
    assert line(text, "SER_SR_MTL")[2] == "87.5 ± 17.7"
    assert line(text, "SER_SR_MTL")[6:] == ["+25.0", "+66.7 %", "2/2"]
    # seed 0 alone, on both sides: 50 % against 50 %
    assert line(text, "SER_SR_DAT")[2] == "50.0 ± –"
    assert line(text, "SER_SR_DAT")[6:] == ["+0.0 (1 seed)", "+0.0 %", "1/2"]
    assert "chosen" not in text


def test_an_incomplete_seed_is_never_averaged(tmp_path: Path) -> None:
    said = {("ser", 0, 0): "aa aa", ("ser", 0, 1): "aa as", ("ser", 1, 1): "aa as", ("cgt", 0, 0): "aa aa"}
    run = read_run(write_run(tmp_path, said, seeds=2, systems="ser,cgt"))
    assert [seed.seed for seed in run.lines[0].seeds] == [1]
    text = table_markdown(run.lines, "caption")
    assert line(text, "SER_only")[2] == "50.0 ± –"
    assert line(text, "SER_only")[8] == "3/4"
    assert line(text, "SER_SR_CGT")[1:] == ["1/4"] * 5 + ["–", "–", "1/4"]


def test_no_error_is_left_to_reduce_and_no_baseline_no_difference(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, {("ser", 0, 0): "aa ss", ("dat", 0, 0): "aa sa"}))
    assert line(table_markdown(run.lines, ""), "SER_SR_DAT")[6:8] == ["-50.0", "–"]
    assert line(table_markdown(run.lines[1:], ""), "SER_SR_DAT")[6:8] == ["", ""]


def test_results_csv_is_sorted_and_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    said = {("dat", 0, 0): "aa", ("ser", 1, 0): "aa", ("ser", 0, 1): "as"}
    rows = list(csv.DictReader((write_run(tmp_path, said, seeds=2) / "results.csv").read_text().splitlines()))
    order = [(row["system"], row["fold"], row["seed"]) for row in rows]
    assert order == [("ser", "0", "1"), ("ser", "1", "0"), ("dat", "0", "0")]
    assert [row["test_wa"] for row in rows] == ["0.000000", "1.000000", "1.000000"]
    assert [row["options"] for row in rows] == ["", "", "lam=0.1"]
    assert list(rows[0])[-1] == "train_seconds"


@pytest.mark.parametrize(
    ("folds", "total", "said"),
    [(1, 0, "1 fold"), (1, 1, "1 fold"), (1, 4, "1 of 4 folds"), (2, 2, "2 folds"), (2, 5, "2 of 5 folds")],
)
def test_the_caption_counts(tmp_path: Path, folds: int, total: int, said: str) -> None:
    run = read_run(write_run(tmp_path, {("ser", 0, 0): "aa ss", ("ser", 1, 0): "aa"}, epochs=7, seeds=3))
    run = replace(run, splits=tuple(row for row in run.splits if row.fold < folds))
    assert caption(run, total) == (
        f"made.csv: 9 utterances, 5 speakers, angry, sad; protocol kfold, {said}, {6 // folds} seeds, 7 epochs"
    )


def test_the_caption_counts_the_epochs_of_every_fold(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, {("ser", 0, 0): "aa ss"}, epochs=40, **{"training": {"updates": 30}}))
    assert "1 seed, 30 epochs" in caption(run)
    more = [row._replace(fold=1, id=f"more{i}") for row in run.splits if row.part == "train" for i in range(40)]
    assert "15 to 30 epochs" in caption(replace(run, splits=(*run.splits, *more)))


def test_validation_that_only_says_the_test_again(tmp_path: Path) -> None:
    """Both speakers of a pair, one network: what is validation of one direction is the test of the other."""
    out = invent(tmp_path / "run", speakers=8, folds=4, both=True, systems=("ser", "mtl"), seeds=2)
    assert not any(one.unvalidated for one in read_run(out).lines)
    for path in out.glob("cells/*/predictions.csv"):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        tested = {row["id"]: row for row in rows if row["part"] == "test"}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(tested[row["id"]] | {"part": row["part"]} for row in rows)
    run = read_run(finish(out))
    assert all(one.unvalidated for one in run.lines)
    text = table_markdown(run.lines, "caption")
    cells = line(text, "SER_only")
    assert (cells[1], cells[3]) == ("–", "–")
    assert "±" in cells[2]
    assert "No validation figure (–)" in text
    rows = list(csv.DictReader((run.folder / "results.csv").read_text().splitlines()))
    assert {row[name] for row in rows for name in ("val_wa", "val_uar", "val_macro_f1", "n_val")} == {""}
    summary = summarise(run)
    assert summary.gaps == ()
    assert len(summary.contrasts) == 2
    assert summary.lines[0].gap.values == ()
    assert write_table(run) == (out / "table.md").read_text()


def test_systems_that_are_no_recognisers_are_named(tmp_path: Path) -> None:
    """A system may answer another single class in every fold, which the pooled predictions do not show."""
    said = {("ser", 0, 0): "as ss as", ("ser", 1, 0): "aa sa sa", ("dat", 0, 0): "as sa", ("dat", 1, 0): "aa ss"}
    lines = read_run(write_run(tmp_path / "run", said)).lines
    assert "Only one class is predicted by SER_only (2 of 2 test results): not a" in table_markdown(lines, "")
    assert single_class([line for line in lines if line.system == "dat"]) == ""
    for epochs, few in ((22, "Fewer than 200 updates: SER_only (198). Raise the number of epochs."), (23, "")):
        assert hardly_trained(read_run(invent(tmp_path / str(epochs), systems=["ser"], epochs=epochs)).lines) == few
