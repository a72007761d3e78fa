"""The table on hand-made predictions whose answers can be seen."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from unheard.experiments.results import COLUMNS, Row, pool, results_csv, table_latex, table_markdown

LABELS = ("angry", "sad")


@dataclass
class FoldIndex:
    index: int


class MadeCell:
    """What the table needs of a cell; `test` is (emotion, predicted) an utterance, as letters: "aa as ss"."""

    def __init__(self, out: Path, system: str, fold: int, seed: int, test: str = "") -> None:
        self.system, self.seed, self.fold, self.labels = system, seed, FoldIndex(fold), LABELS
        self.name = f"{system}-fold{fold}-seed{seed}-00000000"
        self._folder, self._result = out / self.name, None
        if not test:
            return
        words = {"a": "angry", "s": "sad"}
        pairs = [(words[e], words[p]) for e, p in test.split()]
        self._folder.mkdir()
        with (self._folder / "predictions.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "speaker", "part", "emotion", "predicted", "p_angry", "p_sad"])
            for place, (emotion, predicted) in enumerate(pairs):
                writer.writerow([f"u{place}", "s", "test", emotion, predicted, 0.5, 0.5])
            writer.writerow(["v0", "d", "dev", "angry", "angry", 0.5, 0.5])
            writer.writerow(["v1", "d", "dev", "sad", "angry", 0.5, 0.5])
        wa = sum(e == p for e, p in pairs) / len(pairs)
        known = dict.fromkeys(COLUMNS, 0)
        self._result = known | {"system": system, "fold": fold, "seed": seed, "test_wa": wa, "under_trained": False}

    def result(self):  # type: ignore[no-untyped-def]
        return self._result

    def readout_folder(self) -> Path:
        return self._folder


def line(text: str, name: str) -> list[str]:
    (found,) = [row for row in text.splitlines() if row.startswith((f"| {name} |", f"{name} &"))]
    return [word.strip() for word in found.strip("|").split("|" if found.startswith("|") else "&")]


def test_pooled_over_utterances_not_over_folds(tmp_path: Path) -> None:
    """3 of 4 in one fold, 0 of 1 in the other: 3 of 5 are right. Angry 2 of 3, sad 1 of 2."""
    cells = [MadeCell(tmp_path, "ser", 0, 0, "aa aa as ss"), MadeCell(tmp_path, "ser", 1, 0, "sa")]
    (row,) = pool(cells)  # type: ignore[arg-type]
    (seed,) = row.seeds
    assert seed.test_wa == pytest.approx(3 / 5)
    assert seed.test_uar == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert seed.test_wa_of_folds == pytest.approx((3 / 4 + 0) / 2)
    assert seed.n_test == 5
    assert seed.val_wa == pytest.approx(1 / 2)
    assert seed.test_macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)  # angry 2·2/(3 + 3), sad 2·1/(2 + 2)


def test_mean_sample_deviation_difference_and_error_reduction(tmp_path: Path) -> None:
    """SER 50 and 75 % (62.5 ± 17.7), MTL 75 and 100 % (+25 points: two thirds of 37.5 % error)."""
    said = {
        ("ser", 0): "aa ss as sa",
        ("ser", 1): "aa ss aa sa",
        ("mtl", 0): "aa ss aa sa",
        ("mtl", 1): "aa ss aa ss",
        ("dat", 0): "as sa aa ss",
        ("dat", 1): "",
    }
    cells = [MadeCell(tmp_path, system, 0, seed, test) for (system, seed), test in said.items()]
    rows = pool(cells)  # type: ignore[arg-type]
    text = table_markdown(rows, "caption")
    assert line(text, "SER_only")[2] == f"62.5 ± {100 * math.sqrt(2) * 0.125:.1f}"
    assert line(text, "SER_only")[6:] == ["", "", "2/2"]
    assert line(text, "SER_SR_MTL")[2] == "87.5 ± 17.7"
    assert line(text, "SER_SR_MTL")[6:] == ["+25.0", "+66.7 %", "2/2"]
    # seed 0 alone, on both sides: 50 % against 50 %
    assert line(text, "SER_SR_DAT")[2] == "50.0 ± –"
    assert line(text, "SER_SR_DAT")[6:] == ["+0.0", "+0.0 %", "1/2"]
    assert [row.system for row in rows] == ["ser", "mtl", "dat"]


def test_an_incomplete_seed_is_never_averaged(tmp_path: Path) -> None:
    cells = [
        MadeCell(tmp_path, "ser", 0, 0, "aa aa"),
        MadeCell(tmp_path, "ser", 1, 0),
        MadeCell(tmp_path, "ser", 0, 1, "as ss"),
        MadeCell(tmp_path, "ser", 1, 1, "as ss"),
        MadeCell(tmp_path, "cgt", 0, 0, "aa aa"),
        MadeCell(tmp_path, "cgt", 1, 0),
    ]
    rows = pool(cells)  # type: ignore[arg-type]
    assert [p.seed for p in rows[0].seeds] == [1]
    text = table_markdown(rows, "caption")
    assert line(text, "SER_only")[1:6] == ["50.0 ± –"] * 4 + ["33.3 ± –"]
    assert line(text, "SER_only")[8] == "3/4"
    assert line(text, "SER_SR_CGT")[1:] == ["1/2"] * 5 + ["–", "–", "1/2"]
    assert line(table_latex(rows, "caption"), r"SER\_SR\_CGT")[1:] == ["1/2", r"1/2 \\"]


def test_no_error_is_left_to_reduce(tmp_path: Path) -> None:
    cells = [MadeCell(tmp_path, "ser", 0, 0, "aa ss"), MadeCell(tmp_path, "dat", 0, 0, "aa sa")]
    assert line(table_markdown(pool(cells), ""), "SER_SR_DAT")[6:8] == ["-50.0", "–"]  # type: ignore[arg-type]


def test_no_baseline_no_difference(tmp_path: Path) -> None:
    (row,) = pool([MadeCell(tmp_path, "dat", 0, 0, "aa ss")])  # type: ignore[list-item]
    assert line(table_markdown([row], ""), "SER_SR_DAT")[6:8] == ["", ""]


def test_latex_is_escaped() -> None:
    row = Row("ser", (), 0, 1)
    text = table_latex([row], "my_50%&#${x}^~\\ ± –")
    assert r"\caption{my\_50\%\&\#\$\{x\}\textasciicircum{}\textasciitilde{}\textbackslash{} $\pm$ --}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"SER\_only & 0/1 & 0/1 \\" in text


def test_results_csv_is_sorted_and_leaves_out_what_failed(tmp_path: Path) -> None:
    cells = [
        MadeCell(tmp_path, "dat", 0, 0, "aa"),
        MadeCell(tmp_path, "ser", 1, 0, "aa"),
        MadeCell(tmp_path, "ser", 0, 1, "as"),
        MadeCell(tmp_path, "ser", 0, 0),
    ]
    rows = list(csv.DictReader(results_csv(cells).splitlines()))  # type: ignore[arg-type]
    order = [(row["system"], row["fold"], row["seed"]) for row in rows]
    assert order == [("ser", "0", "1"), ("ser", "1", "0"), ("dat", "0", "0")]
    assert [row["test_wa"] for row in rows] == ["0.000000", "1.000000", "1.000000"]
    assert list(rows[0])[-1] == "train_seconds"
    assert json.dumps(COLUMNS[:7]) == '["system", "fold", "seed", "val_wa", "val_uar", "test_wa", "test_uar"]'
