"""λ and ε: chosen by validation speakers alone, the same budget for each system, then frozen."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from experimenting import all_numbers, cells, corpus, experiment, flags, rows_of, times_of_change, write_rows
from hypothesis import given
from hypothesis import strategies as st
from recording import finish, rows_of_cell, write_cell, write_run

from unheard.experiments import cell as work_module
from unheard.experiments import run as run_module
from unheard.experiments.records import read_run
from unheard.experiments.selection import TUNED_OPTIONS, Candidate, choose
from unheard.experiments.summary import table_markdown
from unheard.training.strategies import resolve_options

GRID = TUNED_OPTIONS["dat"].grid


def figures(*val_wa: float, system: str = "dat", fold: int = 0, direction: str = "test") -> list[Candidate]:
    grid = TUNED_OPTIONS[system].grid
    return [Candidate(system, fold, direction, value, wa, 0.5) for value, wa in zip(grid, val_wa, strict=False)]


@pytest.mark.parametrize(
    ("found", "values"),
    [
        (figures(0.1, 0.2, 0.4, 0.3), [0.3]),
        (figures(0.1, 0.4, 0.4, 0.4), [0.1]),
        (figures(0.4, 0.4, 0.4, 0.4), [0.03]),
        ([*figures(0.9, 0, 0, 0, direction="male"), *figures(0, 0, 0, 0.1, direction="female"),
          *figures(0, 0.2, 0, 0.1, fold=1, direction="male")], [0.03, 1.0, 0.1]),
        (figures(0.1, 0.2, 0.9), []),
        ([*figures(0.1, 0.2, 0.3), Candidate("dat", 0, "test", 0.5, 1.0, 1.0)], []),
    ],
    ids=["the best", "the smaller of equals", "of all", "each reading for itself", "a smaller budget", "off the grid"],
)  # fmt: skip
def test_what_is_chosen(found: list[Candidate], values: list[float]) -> None:
    assert [choice.value for choice in choose(found) if choice.chosen] == values


def test_every_system_has_the_same_budget_with_its_fixed_value_in_it() -> None:
    for system, option in TUNED_OPTIONS.items():
        assert resolve_options(system)[option.name] == option.fixed
        assert option.fixed in option.grid
    assert len({len(option.grid) for option in TUNED_OPTIONS.values()}) == 1


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=4, max_size=4), st.randoms())
def test_the_order_of_the_figures_does_not_matter(val_wa: list[float], chance: random.Random) -> None:
    here = figures(*val_wa)
    mixed = list(here)
    chance.shuffle(mixed)
    assert choose(mixed) == choose(here)


def tuned(out: Path, scramble: random.Random | None = None, best: Sequence[float] = (1, 0.03), seeds: int = 2) -> Path:
    """Two folds of DAT; validation likes one λ best in each. `scramble` draws the test.

    Two seeds, the second one with λ = 0.1 and, where `seeds` asks for it, with the chosen λ.
    """
    write_run(out, {("ser", 0, 0): "as aa", ("ser", 1, 0): "as aa"}, systems="ser,dat", tune="grid", seeds=seeds)
    settings = read_run(out).settings
    for fold, winner in enumerate(best):
        for seed, values in ((0, GRID), (1, (0.1, winner)[:seeds])):
            for value in values:
                said = "aa ss" if value == winner else "as ss"
                test = f"a{scramble.choice('as')} a{scramble.choice('as')}" if scramble else "aa as"
                rows = rows_of_cell(fold, {"dev": said, "test": test})
                write_cell(out, settings, "dat", fold, seed, rows, {"lam": value})
    return finish(out)


def test_the_chosen_line_is_put_together_fold_by_fold(tmp_path: Path) -> None:
    run = read_run(tuned(tmp_path))
    _, fixed, line = run.lines
    assert [one.name for one in run.lines] == ["SER_only", "SER_SR_DAT", "SER_SR_DAT, λ chosen"]
    assert (fixed.value, line.value, line.chosen) == (0.1, None, True)
    assert [[cell.value for cell in seed.cells] for seed in line.seeds] == [[1.0, 0.03]] * 2
    assert [[cell.value for cell in seed.cells] for seed in fixed.seeds] == [[0.1, 0.1]] * 2
    assert (line.finished, line.planned) == (4, 4)
    assert [seed.dev.wa for seed in line.seeds] == [1.0, 1.0]
    assert [seed.dev.wa for seed in fixed.seeds] == [0.5, 0.5]
    text = table_markdown(run.lines, "")
    assert text.index("| SER_SR_DAT |") < text.index("| SER_SR_DAT, λ chosen |")
    assert sum("lam=" in row for row in (run.folder / "results.csv").read_text().splitlines()) == 8 + 4
    first = [Candidate("dat", 0, "test", value, 0.5, 0.5, "as written") for value in GRID[:3]]
    assert run.candidates[:4] == (*first, Candidate("dat", 0, "test", 1.0, 1.0, 1.0, "as written", chosen=True))


def test_test_results_and_later_seeds_are_no_reason(tmp_path: Path) -> None:
    plain = read_run(tuned(tmp_path / "plain"))
    for seed in range(2):
        other = read_run(tuned(tmp_path / str(seed), random.Random(seed)))
        assert other.candidates == plain.candidates
    assert any(one.seeds[0].test.wa != two.seeds[0].test.wa for one, two in zip(other.lines, plain.lines, strict=True))
    rows = rows_of_cell(0, {"dev": "aa ss", "test": "aa as"})
    write_cell(plain.folder, plain.settings, "dat", 0, 1, rows, {"lam": 0.3})
    assert read_run(finish(plain.folder)).candidates == plain.candidates


def test_an_incomplete_choice_shows_as_such_and_fixed_values_alone_are_none(tmp_path: Path) -> None:
    out = tuned(tmp_path / "tuned")
    next(out.glob("cells/dat-fold1-seed0-0.3/result.json")).unlink()
    run = read_run(finish(out))
    line = run.lines[-1]
    assert (line.name, line.finished, line.planned, line.seeds) == ("SER_SR_DAT, λ chosen", 2, 4, ())
    assert "| SER_SR_DAT, λ chosen | 2/4 |" in table_markdown(run.lines, "")
    run = read_run(write_run(tmp_path / "fixed", {("dat", 0, 0): "aa", ("cgt", 0, 0): "aa"}, systems="dat,cgt"))
    assert run.candidates == ()
    assert [line.name for line in run.lines] == ["SER_SR_DAT", "SER_SR_CGT"]


def test_tuning_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First all values on seed 0, then the chosen ones; again, nothing; a seed more, only that seed."""
    out = tmp_path / "run"
    common = ("--epochs", "1", "--protocol", "paired", "--folds", "1", "--systems", "ser,dat,cgt")
    assert experiment(out, *common) == 0
    fixed = {name: folder.stat().st_mtime_ns for name, folder in cells(out).items()}
    assert experiment(out, *common, "--tune", "grid") == 0
    names = list(cells(out))
    assert sum("dat-fold0-seed0" in name for name in names) == sum("cgt-fold0-seed0" in name for name in names) == 4
    assert {name: folder.stat().st_mtime_ns for name, folder in cells(out).items() if name in fixed} == fixed
    choices = read_run(out).candidates
    assert len(choices) == 2 * 2 * 4  # systems x directions x values
    picked = [(one.system, one.direction) for one in choices if one.chosen]
    assert picked == [(system, direction) for system in ("dat", "cgt") for direction in ("male", "female")]
    assert experiment(out, *common, "--tune", "grid", "--seeds", "2") == 0
    assert read_run(out).candidates == choices
    table = (out / "table.md").read_text()
    heads = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| S")][1:]
    assert heads == ["SER_only", "SER_SR_DAT", "SER_SR_DAT, λ chosen", "SER_SR_CGT", "SER_SR_CGT, ε chosen"]
    for line in read_run(out).lines:
        assert (line.finished, line.planned, len(line.seeds)) == (2, 2, 2)
    values = {f"{one.value:g}" for one in choices if one.system == "dat" and one.chosen}
    second = {r["options"] for r in rows_of(out / "results.csv") if (r["system"], r["seed"]) == ("dat", "1")}
    assert second == {"lam=0.1"} | {f"lam={value}" for value in values}
    before, files = all_numbers(out), times_of_change(out)
    monkeypatch.setattr(work_module, "Trainer", None)
    assert experiment(out, *common, "--tune", "grid", "--seeds", "2") == 0
    assert (all_numbers(out), times_of_change(out)) == (before, files)
    assert experiment(out, *common, "--seeds", "2") == 0  # without: what was chosen before still shows
    assert (out / "table.md").read_text() == table


def test_the_readings_of_one_training_may_choose_differently(tmp_path: Path) -> None:
    """Each takes its half of another training, on every seed."""
    out = tmp_path / "run"
    common = ("--epochs", "1", "--protocol", "paired", "--folds", "1", "--systems", "dat", "--tune", "grid")
    assert experiment(out, *common) == 0
    wanted = {"male": 0.03, "female": 1.0}
    by_value = {cell.value: cell for cell in read_run(out).cells}
    for value, cell in by_value.items():
        path = cell.folder / "result.json"
        result = json.loads(path.read_text())
        rows = rows_of(cell.folder / "predictions.csv")
        for direction, best in wanted.items():
            result["directions"][direction]["val_wa"] = float(value == best)
            for row in rows[: len(rows) // 2] if direction == "male" else rows[len(rows) // 2 :]:
                if row["part"] == "dev":
                    row["predicted"] = row["emotion"] if value == best else {"sad": "angry"}.get(row["emotion"], "sad")
        path.write_text(json.dumps(result))
        write_rows(cell.folder / "predictions.csv", rows)
    assert experiment(out, *common, "--seeds", "2") == 0
    run = read_run(out)
    assert sorted((c.seed, c.value) for c in run.cells if c.seed) == [(1, 0.03), (1, 0.1), (1, 1.0)]
    line = run.lines[1]
    assert (line.name, line.finished, line.planned) == ("SER_SR_DAT, λ chosen", 2, 2)
    for seed in line.seeds:
        said = {}
        for direction, value in wanted.items():
            (cell,) = [c for c in run.cells if (c.seed, c.value) == (seed.seed, value)]
            rows = rows_of(cell.folder / "predictions.csv")
            first = rows[: len(rows) // 2] if direction == "male" else rows[len(rows) // 2 :]
            said |= {row["id"]: row["predicted"] for row in first if row["part"] == "test"}
        assert dict(zip(seed.test.ids, [run.labels[i] for i in seed.test.predicted], strict=True)) == said
        assert [cell.value for cell in seed.cells] == [0.03, 1.0]


def test_a_readout_asked_for_too_late_is_told(tmp_path: Path, cli: Any) -> None:
    common = ("--epochs", "3", "--systems", "ser", "--training.report-epochs")
    assert "no result at" not in cli("experiment", *flags(tmp_path, *common, "1"))[1]
    _, err = cli("experiment", *flags(tmp_path, *common, "1,2"))
    assert "without a result at 2 epochs, as they had been trained further: 1 of 1" in err
    assert "A new --out" in err


LAST = ("--training.batchnorm", "reestimate", "--training.select", "last")


def test_where_the_last_epoch_is_read_validation_that_chose_is_no_second_opinion(tmp_path: Path) -> None:
    """Both directions of every value are one network: what chose is what is tested."""
    common = ("--epochs", "1", "--protocol", "paired", "--folds", "2", "--systems", "ser,dat")
    out = tmp_path / "run"
    assert experiment(out, *common, "--tune", "grid", *LAST) == 0
    run = read_run(out)
    assert [line.unvalidated for line in run.lines] == [True] * 3
    rows = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| SER")]
    assert [row.split("|")[2].strip() for row in rows] == ["–"] * 3
    assert {row["val_wa"] + row["n_val"] for row in rows_of(out / "results.csv")} == {""}
    (cells(out)[run.lines[0].cells[0].name] / "result.json").unlink()  # the seed is incomplete, and in no line
    run = read_run(finish(out))
    assert not run.lines[0].seeds
    assert {row["val_wa"] for row in rows_of(out / "results.csv")} == {""}


def test_a_system_that_is_not_tuned_has_no_chosen_line(tmp_path: Path, cli: Any) -> None:
    common = ("--epochs", "1", "--protocol", "paired", "--folds", "1", "--systems")
    assert experiment(tmp_path, *common, "ser,dat,cgt") == 0
    _, err = cli("experiment", *flags(tmp_path, *common, "ser,dat", "--tune", "grid"))
    assert "λ and ε are chosen; with the chosen values 0 trainings more" in err
    names = [line.name for line in read_run(tmp_path).lines]
    assert names == ["SER_only", "SER_SR_DAT", "SER_SR_DAT, λ chosen", "SER_SR_CGT"]


def test_folds_that_are_not_asked_for_have_not_failed(tmp_path: Path, cli: Any) -> None:
    common = ("--epochs", "1", "--protocol", "kfold", "--k", "3", "--systems", "dat")
    assert experiment(tmp_path, *common) == 0
    _, err = cli("experiment", *flags(tmp_path, *common, "--folds", "1", "--tune", "grid"))
    assert "failed" not in err
    assert "λ and ε are chosen" in err


def test_all_models_of_a_tuned_experiment_are_named(tmp_path: Path) -> None:
    settings = {"corpus": "synthetic", "root": str(corpus()), "emotions": ["angry", "sad"], "epochs": 1, "tune": "grid"}
    run = run_module.experiment(**settings, systems=["ser", "dat"], seeds=2, out=str(tmp_path / "run"))
    trained = {path.parent for path in (tmp_path / "run" / "cells").glob("*/model*.safetensors")}
    assert {path.parent for path in run.models} == trained
    assert len(trained) > 5


def test_other_seeds_of_a_fixed_value_that_was_chosen_too_are_not_wanted(tmp_path: Path) -> None:
    """λ = 0.1 was trained on two seeds, then chosen among four on the first one: that line is whole."""
    _, fixed, chosen = read_run(tuned(tmp_path, best=(0.1, 1.0), seeds=1)).lines
    assert (fixed.finished, fixed.planned) == (4, 4)
    assert (chosen.name, chosen.finished, chosen.planned, len(chosen.seeds)) == ("SER_SR_DAT, λ chosen", 2, 2, 1)
