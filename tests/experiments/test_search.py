"""`--tune optuna`: the same budget for each system, each fold's own validation speakers, killed and continued."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="needs the extra `tune`")

from experimenting import cells, experiment, flags, result, rows_of, table, times_of_change, write_rows

from unheard.experiments import run as run_module
from unheard.experiments.cell import Outcome
from unheard.experiments.plan import Cell
from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise
from unheard.report import compose
from unheard.report.content import markdown_of

SPACE = ("--space", "training.lr=1e-3:1e-1:log,options.dat.lam=0.01:3:log,network.dense=8:16")
SEARCH = ("--epochs", "1", "--tune", "optuna", "--trials", "12")


def searched(out: Path, *more: str, source: Sequence[str] = ()) -> list[dict[str, str]]:
    """The trials of a search on one fold of three."""
    how = (*SEARCH, *SPACE, "--protocol", "kfold", "--k", "3", "--folds", "1", *more)
    assert experiment(out, *how, source=source) == 0
    return rows_of(out / "trials.csv")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search") / "run"
    searched(out, "--systems", "ser,dat", "--seeds", "2")
    return out


def test_every_system_is_searched_with_the_same_budget(search: Path) -> None:
    rows = rows_of(search / "trials.csv")
    assert Counter(row["system"] for row in rows) == {"ser": 12, "dat": 12}
    assert all(len({row["value"] for row in rows if row["system"] == system}) == 12 for system in ("ser", "dat"))
    values = [dict(pair.split("=") for pair in row["value"].split(",")) for row in rows]
    assert all(0.001 <= float(one["training.lr"]) <= 0.1 and one["network.dense"].isdigit() for one in values)
    assert [("options.dat.lam" in one) for one in values] == [row["system"] == "dat" for row in rows]
    for system in ("ser", "dat"):
        own = [row for row in rows if row["system"] == system]
        best = max(own, key=lambda row: float(row["val_wa"]))
        assert [row for row in own if row["chosen"] == "True"] == [best]
    run = read_run(search)
    assert [line.name for line in run.lines] == ["SER_only", "SER_only, tuned", "SER_SR_DAT", "SER_SR_DAT, tuned"]
    assert [(line.finished, line.planned, len(line.seeds)) for line in run.lines] == [(2, 2, 2)] * 4
    # the tables have the chosen trials alone, trained as their settings say
    picked = {row["value"] for row in rows if row["chosen"] == "True"}
    assert {cell.value for cell in run.cells if isinstance(cell.value, str)} == picked
    for cell in run.cells:
        stored = json.loads((cell.folder / "result.json").read_text())
        if isinstance(cell.value, str):
            own = dict(pair.split("=") for pair in cell.value.split(","))
            assert stored["settings"]["recipe"]["lr"] == float(own["training.lr"])
            assert stored["settings"]["network"]["dense"] == int(own["network.dense"])
            assert stored["options"].get("lam", 0) == float(own.get("options.dat.lam", 0))
    found = {one.name: one.baseline for one in summarise(run).contrasts}
    assert found == {"SER_SR_DAT": "SER_only", "SER_SR_DAT, tuned": "SER_only, tuned"}
    page = markdown_of(compose(run, summarise(run)))
    assert "Settings chosen by search" in page
    assert all(value.replace(",", ", ") in page for value in picked)


def test_a_killed_search_continues_with_the_same_trials(search: Path, tmp_path: Path) -> None:
    rows, text = rows_of(search / "trials.csv"), (search / "trials.csv").read_text()
    out = tmp_path / "run"
    shutil.copytree(search, out)
    later = rows[10]["value"]  # the first that the sampler chose by the results before it
    (lost,) = [one for one in cells(out).values() if '"trial": "' + later + '"' in (one / "result.json").read_text()]
    for path in (lost, *[one for one in cells(out).values() if "dat" in one.name]):
        shutil.rmtree(path)
    (out / "trials.csv").unlink()
    kept = times_of_change(out)
    assert searched(out, "--systems", "ser,dat", "--seeds", "2") == rows
    assert (out / "trials.csv").read_text() == text
    assert {name: when for name, when in times_of_change(out).items() if name in kept} == kept
    assert result(out / "cells" / lost.name) == result(lost if lost.exists() else search / "cells" / lost.name)


def test_test_labels_have_no_part_in_a_search(search: Path, tmp_path: Path) -> None:
    """Other labels of the test speakers: the same trials, validation figures and choice."""
    run = read_run(search)
    tested = {row.speaker for row in run.splits if row.part == "test"}
    other = {"angry": "sad", "sad": "angry"}
    swapped = table(
        tmp_path, emotion=lambda row: other.get(row["emotion"]) if row["speaker"] in tested else row["emotion"]
    )
    rows = searched(tmp_path / "run", "--systems", "ser", source=("--manifest", str(swapped)))
    assert rows == [row for row in rows_of(search / "trials.csv") if row["system"] == "ser"]
    before, after = (next(line for line in one.lines if line.chosen) for one in (run, read_run(tmp_path / "run")))
    assert after.seeds[0].test.wa == 1 - before.seeds[0].test.wa


def test_each_direction_has_a_study_of_its_own(tmp_path: Path) -> None:
    """The validation speaker of one direction tests in the other."""
    common = ("--protocol", "paired", "--folds", "1", "--systems", "ser", "--space", "training.lr=1e-3:1e-1:log")
    assert experiment(tmp_path, *SEARCH, *common) == 0
    rows = rows_of(tmp_path / "trials.csv")
    values = {way: [row["value"] for row in rows if row["direction"] == way] for way in ("male", "female")}
    assert values["male"][:10] == values["female"][:10]
    assert len(cells(tmp_path)) == 1 + len({*values["male"], *values["female"]})
    _, line = read_run(tmp_path).lines
    assert (line.name, line.finished, len(line.seeds)) == ("SER_only, tuned", 1, 1)


def test_a_trial_of_the_fixed_settings_is_their_training(tmp_path: Path) -> None:
    """Batches of four are what the run has anyway: that cell stands in both lines."""
    space = ("--space", "training.batch_size=4|8")
    assert experiment(tmp_path, *SEARCH, *space, "--systems", "ser", "--folds", "1") == 0
    rows = rows_of(tmp_path / "trials.csv")
    assert {row["value"] for row in rows} == {"training.batch_size=4", "training.batch_size=8"}
    assert [row["chosen"] for row in rows].count("True") == 1 < len(rows) == 12
    for row in rows:
        row["chosen"] = str(row is next(one for one in rows if one["value"].endswith("4")))
    write_rows(tmp_path / "trials.csv", rows)
    assert len(cells(tmp_path)) == 2
    assert experiment(tmp_path, "--epochs", "1", "--systems", "ser", "--folds", "1") == 0
    fixed, tuned = read_run(tmp_path).lines
    assert (fixed.finished, tuned.finished, tuned.name) == (1, 1, "SER_only, tuned")
    assert fixed.seeds[0].test.wa == tuned.seeds[0].test.wa


def test_a_search_and_a_grid_in_one_folder(tmp_path: Path) -> None:
    """Trials with values of the grid count for it too; a later search does not continue the grid on other seeds."""
    split = ("--protocol", "kfold", "--k", "3", "--folds", "1")
    common = ("--epochs", "1", "--systems", "dat", "--option", "dat.lam=0.2", *split)
    space = ("--trials", "12", "--space", "options.dat.lam=0.03|0.1|0.3|1")
    assert experiment(tmp_path, *common, "--tune", "optuna", *space) == 0
    assert experiment(tmp_path, *common, "--tune", "grid") == 0
    assert len(cells(tmp_path)) == 5
    lines = {line.name: line.finished for line in read_run(tmp_path).lines}
    assert lines == {"SER_SR_DAT": 1, "SER_SR_DAT, λ chosen": 1, "SER_SR_DAT, tuned": 1}
    more = ("--trials", "2", "--space", "training.lr=0.02:0.03", "--seeds", "2")
    assert experiment(tmp_path, *common, "--tune", "optuna", *more) == 0
    assert sum("-seed1-" in name for name in cells(tmp_path)) == 2


def test_a_trial_that_fails_is_tried_and_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = run_module.run_cells

    def some_fail(given: Sequence[Cell], *how: object) -> Iterator[Outcome]:
        yield from train([cell for cell in given if not cell.settings.training.lr > 0.05], *how)
        yield from ((cell, "diverged") for cell in given if cell.settings.training.lr > 0.05)

    monkeypatch.setattr(run_module, "run_cells", some_fail)
    out = tmp_path / "run"
    assert experiment(out, *SEARCH, "--space", "training.lr=0.04:0.06", "--systems", "ser", "--folds", "1") == 1
    values = [float(row["value"].partition("=")[2]) for row in rows_of(out / "trials.csv")]
    assert 0 < len(values) < 12
    assert max(values) <= 0.05
    assert read_run(out).lines[-1].finished == 1
    capsys.readouterr()
    failing = ("--space", "training.lr=0.06:0.07", "--systems", "ser,svm", "--folds", "1")
    assert experiment(tmp_path / "none", *SEARCH, *failing) == 1
    said = capsys.readouterr().err
    assert "Settings are not chosen for 1 combination of system, fold and direction: every trial failed" in said
    assert "more on the other seeds" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--systems", "svm"), "nothing to search for svm"),
        (("--systems", "ser,dat", "--space", "options.dat.lam=0:1"), "no key of ser"),
        (("--space", "training.batch-sizes=4:8"), "Did you mean 'training.batch_size'"),
        (("--space", "features.bands=20:40"), "not a setting that can be searched"),
        (("--space", "training.epochs=2:4"), "not a setting that can be searched"),
        (("--space", "training.lr=1e-2:1e-4"), "cannot be searched"),
        (("--space", "training.lr=0:0.1:log"), "cannot be searched"),
        (("--space", "training.lr=1:2:linear"), "'linear' should be 'log'"),
        (("--space", "training.lr"), "For instance training.lr=1e-4:1e-2:log"),
        (("--space", "network.dropout=0.5:1.5"), "out of range"),
        (("--space", "training.optimizer=sgd|adam"), "unknown optimizer 'adam'"),
        (("--space", "options.dat.lamda=0:1"), "Did you mean 'options.dat.lam'"),
    ],
)
def test_a_space_that_cannot_be_searched(tmp_path: Path, cli: Any, arguments: tuple[str, ...], message: str) -> None:
    assert message in cli("experiment", *flags(tmp_path, "--tune", "optuna", *arguments), code=2)[1]
    assert not (tmp_path / "features").exists()


def test_without_optuna_the_extra_is_named(tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert 'pip install "unheard[tune]"' in cli("experiment", *flags(tmp_path, "--tune", "optuna"), code=2)[1]
