"""Records of run folders: hand-made ones whose answers can be seen, and a small real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experimenting import experiment, flags, only, rows_of, table
from recording import finish, write_run

from unheard.errors import RunError
from unheard.experiments import run as run_module
from unheard.experiments.baselines import NAMES
from unheard.experiments.config import load
from unheard.experiments.plan import make_plan
from unheard.experiments.records import read_run
from unheard.experiments.summary import table_markdown
from unheard.training.strategies import STRATEGIES, resolve_options


def test_pooled_over_utterances_not_over_folds(tmp_path: Path) -> None:
    """3 of 4 in one fold, 0 of 1 in the other: 3 of 5 are right. Angry 2 of 3, sad 1 of 2."""
    run = read_run(write_run(tmp_path, {("ser", 0, 0): "aa aa as ss", ("ser", 1, 0): "sa"}, systems="ser"))
    (line,) = run.lines
    (seed,) = line.seeds
    assert seed.test.wa == pytest.approx(3 / 5)
    assert seed.test.uar == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert seed.test.wa_of_folds == pytest.approx((3 / 4 + 0) / 2)
    assert seed.test.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)  # angry 2·2/(3 + 3), sad 2·1/(2 + 2)
    assert seed.dev.wa == pytest.approx(1 / 2)
    assert seed.test.confusion.tolist() == [[2, 1], [1, 1]]
    assert seed.test.ids == ("test0-0", "test0-1", "test0-2", "test0-3", "test1-0")
    assert seed.test.speakers == ("test-speaker0",) * 4 + ("test-speaker1",)
    assert seed.test.folds.tolist() == [0, 0, 0, 0, 1]
    assert seed.test.probabilities[2].tolist() == [0.25, 0.75]
    assert (line.finished, line.planned, line.name) == (2, 2, "SER_only")
    assert [cell.name for cell in seed.cells] == ["ser-fold0-seed0-0", "ser-fold1-seed0-0"]


def test_cells_of_earlier_calls_count_too(tmp_path: Path) -> None:
    """The last call named one system and one seed; what else is there is shown, wanted with as many seeds."""
    said = {("cgt", 0, 0): "aa", ("ser", 0, 0): "aa", ("ser", 0, 1): "as", ("ser", 0, 2): "aa"}
    run = read_run(write_run(tmp_path, said, systems="dat", seeds=2))
    assert [(line.name, line.finished, line.planned) for line in run.lines] == [
        ("SER_only", 3, 3),
        ("SER_SR_DAT", 0, 2),
        ("SER_SR_CGT", 1, 1),
    ]
    assert len(run.cells) == 4


@pytest.mark.parametrize("damage", ["other id", "one more", "one less", "cut short", "result"])
def test_cells_of_other_utterances_or_damaged_do_not_count(tmp_path: Path, damage: str) -> None:
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss"}, systems="ser")
    folder = next((out / "cells").iterdir())
    (out / "cells" / "copy-fold-of-seed-0").mkdir()
    path = folder / "predictions.csv"
    text = path.read_text()
    path.write_text(
        {
            "other id": text.replace("test0-1", "test0-7"),
            "one more": text + text.splitlines()[-1].replace("test0-1", "test0-2") + "\n",
            "one less": "\n".join(text.splitlines()[:-1]) + "\n",
            "cut short": text[:-8],
        }.get(damage, text)
    )
    if damage == "result":
        (folder / "result.json").write_text("{")
    assert read_run(finish(out)).cells == ()


def test_the_order_is_the_splits(tmp_path: Path) -> None:
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss as"}, systems="ser")
    path = next(out.glob("cells/*/predictions.csv"))
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")
    (seed,) = read_run(finish(out)).lines[0].seeds
    assert seed.test.ids == ("test0-0", "test0-1", "test0-2")
    assert seed.test.predicted.tolist() == [0, 1, 1]


def test_names_are_the_strategies() -> None:
    classical = [("svm", "SVM (functionals)"), ("pooled", "SVM (pooled frames)")]
    assert list(NAMES.items()) == [*((key, entry[0]) for key, entry in STRATEGIES.items()), *classical]


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        read_run(tmp_path)
    out = write_run(tmp_path / "run", {("ser", 0, 0): "aa"})
    for name, text in (
        ("predictions.csv.xz", "fold\n1\n"),
        ("results.csv", ""),
        ("results.csv", "system\nser\n"),
        ("config.yaml", "- 1"),
        ("config.yaml", "x: 1"),
    ):
        before = (out / name).read_bytes()
        (out / name).write_text(text)
        with pytest.raises(RunError, match=name.replace("results.csv", "predictions.csv.xz")) as caught:
            read_run(out)
        assert caught.value.mend
        (out / name).write_bytes(before)


def test_a_real_run(tmp_path: Path) -> None:
    """Both directions of two pairs, two seeds, in two calls; then an earlier readout."""
    out = tmp_path / "run"
    paired = ("--protocol", "paired", "--epochs", "2", "--training.report-epochs", "1")
    assert experiment(out, *paired, "--folds", "1", "--systems", "ser") == 0
    assert experiment(out, *paired, "--folds", "2", "--systems", "ser,dat") == 0
    run = read_run(out)
    assert run.absent == ()
    assert [(line.name, line.finished, line.planned) for line in run.lines] == [
        ("SER_only", 2, 2),
        ("SER_SR_DAT", 2, 2),
    ]
    assert {row["gender"] for row in run.utterances.values()} == {"female", "male"}
    assert set(run.utterances) == {row["id"] for row in rows_of(out / "splits.csv")}
    for line in run.lines:
        (seed,) = line.seeds
        stored = [figures for cell in seed.cells for figures in cell.result["directions"].values()]
        assert seed.test.wa == pytest.approx(np.mean([one["test_wa"] for one in stored]))  # folds of one size
        for part in (seed.dev, seed.test):
            assert part.directions == (("male",) * 4 + ("female",) * 4) * 2
            assert {run.utterances[name]["speaker"] for name in part.ids} == set(part.speakers)
        for cell in seed.cells:
            assert [record["epoch"] for record in cell.history()] == [1, 2]
            embeddings, _, parts = cell.embeddings()
            assert (embeddings.shape, set(parts)) == ((16, 512), {"dev", "test"})
    paired = ("--protocol", "paired", "--epochs", "1")
    assert experiment(out, *paired, "--folds", "2", "--systems", "ser,dat") == 0
    early = read_run(out)
    assert [line.finished for line in early.lines] == [2, 2]
    assert [len(cell.history()) for cell in early.cells] == [1] * 4
    assert {cell.folder.name for cell in early.cells} == {"00001"}


def test_a_published_run_is_read(done: Path, tmp_path: Path) -> None:
    """From three files, with the same figures; what is absent is described."""
    whole = read_run(done)
    published = tmp_path / "published"
    published.mkdir()
    for name in ("config.yaml", "predictions.csv.xz", "results.csv"):
        shutil.copy(done / name, published)
    run = read_run(published)
    assert (run.splits, run.utterances) == (whole.splits, whole.utterances)
    for one, other in zip(run.lines, whole.lines, strict=True):
        assert table_markdown([one], "") == table_markdown([other], "")
        assert np.array_equal(one.seeds[0].test.probabilities, other.seeds[0].test.probabilities)
    assert len(run.absent) == 2
    assert run.cells[0].history() == []
    assert run.cells[0].embeddings() is None


def test_cells_of_other_settings_do_not_count(tmp_path: Path) -> None:
    """An earlier call's cells count under its settings alone."""
    out = tmp_path / "run"
    assert experiment(out, "--epochs", "1", "--systems", "dat") == 0
    shutil.copy(out / "config.yaml", out / "first.yaml")

    def counted(**changes: Any) -> int:
        grid = make_plan(load(out / "first.yaml", changes))
        run_module.write_settings_and_split(grid)
        return len(run_module.collect(grid).cells)

    assert counted(training={"lr": 0.1}) == counted(normalise="speaker") == counted(network={"dropout": 0.1}) == 0
    assert counted(epochs=2) == counted(options={"dat": {"gamma": 3}}) == 0
    assert counted(seeds=2) == counted(systems="ser", options={"dat": {"lam": 0.3}}) == counted() == 1


def test_another_split_is_refused_more_folds_are_not(tmp_path: Path, cli: Any) -> None:
    out, brief = tmp_path / "run", ("--systems", "ser", "--epochs", "1")
    one = (*brief, "--protocol", "paired")
    assert experiment(out, *one, "--folds", "2") == 0
    before = (out / "splits.csv").read_text()
    for more in ((*brief, "--protocol", "kfold", "--k", "3"), (*brief, "--protocol", "loso"), (*one, "--test", "male")):
        assert "this folder holds a run with " in cli("experiment", *flags(out, *more), code=2)[1]
        assert (out / "splits.csv").read_text() == before
    assert experiment(out, *one, "--folds", "3") == 0
    three = (out / "splits.csv").read_text()
    assert len(three) > len(before)
    assert experiment(out, *one, "--folds", "1") == 0  # fewer again: nothing is forgotten
    assert (out / "splits.csv").read_text() == three
    assert "3 folds" in (out / "table.md").read_text()
    assert {row["fold"] for row in rows_of(out / "results.csv")} == {"0", "1", "2"}


def test_a_run_knows_which_labels_its_trainings_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels are mended for some of the folds: the others' trainings are of the old ones and wait to be done again."""
    out = tmp_path / "run"
    other = {"angry": "sad", "sad": "angry"}

    def run(folds: int, swap: bool = False) -> int:
        source = table(tmp_path, emotion=lambda row: other[row["emotion"]] if swap else row["emotion"])
        more = ("--systems", "ser", "--epochs", "1", "--protocol", "kfold", "--k", "3", "--folds", str(folds))
        return experiment(out, *more, source=("--manifest", str(source)))

    def said(folder: Path) -> tuple[int, int, list[list[str]]]:
        (line,) = read_run(folder).lines
        labels = [
            [p.split(",")[3] for p in (c.folder / "predictions.csv").read_text().splitlines()[1:]]
            for c in read_run(folder).cells
        ]
        return line.finished, line.planned, labels

    assert run(3) == 0
    before = said(out)
    assert before[:2] == (3, 3)
    assert run(2, swap=True) == 0
    now = said(out)
    assert now[:2] == (2, 3)  # fold 2 is of the old labels
    assert now[2] == [[other[label] for label in fold] for fold in before[2][:2]]
    assert "3 trainings on other data" in capsys.readouterr().err
    assert run(3) == 0  # as they were: nothing is trained again
    assert said(out) == before


def test_another_system_and_more_seeds_come_beside(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert experiment(out, "--systems", "dat", "--epochs", "1", "--seeds", "2", "--option", "dat.lam=0.5") == 0
    assert experiment(out, "--systems", "ser", "--epochs", "1") == 0
    assert [(row["system"], row["seed"], row["options"]) for row in rows_of(out / "results.csv")] == [
        ("ser", "0", ""),
        ("dat", "0", "lam=0.5"),
        ("dat", "1", "lam=0.5"),
    ]
    assert "| SER_SR_DAT |" in (out / "table.md").read_text()
    # the other system's options are kept: with the usual λ it would be another line
    assert read_run(out).lines[1].value == 0.5


def test_json_is_strict_and_its_options_can_be_given_back(done: Path) -> None:
    """λ has no cap unless one is asked for: JSON says null, which stands for the default."""
    folder = only(done, "dat")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    result = json.loads((folder / "result.json").read_text(), parse_constant=refuse)
    for line in (folder / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert result["options"]["cap"] is None
    assert resolve_options("dat", result["options"]) == resolve_options("dat")
