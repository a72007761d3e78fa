"""Decision rules in trainings, in saved models and in published predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from experimenting import cells, experiment, rows_of, table, write_rows
from reporting import invent

from unheard.errors import ConfigError
from unheard.experiments.records import read_run
from unheard.model.saving import Model
from unheard.report.comparison import contrast_runs
from unheard.training.metrics import decision_factors
from unheard.training.recipe import TrainingSettings

LAST = ("--training.select", "last", "--training.lr", "0.003")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the speakers who train, half of what is sad is left out."""
    folder = tmp_path_factory.mktemp("uneven")
    rows = rows_of(table(folder))
    train = [row for row in rows if row["part"] == "train" and row["emotion"] == "sad"]
    gone = {row["id"] for row in train[::2]}
    return write_rows(folder / "uneven.csv", [row for row in rows if row["id"] not in gone])


def trained(out: Path, manifest: Path, *more: str) -> Path:
    quick = ("--protocol", "given", "--column", "part", "--systems", "ser,svm", "--epochs", "3")
    assert experiment(out, *quick, *LAST, *more, source=("--manifest", str(manifest))) == 0
    return out


@pytest.fixture(scope="module")
def likeliest(uneven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("likeliest") / "run", uneven)


@pytest.mark.parametrize("decision", ["both", "even"])
def test_published_predictions_become_those_of_a_network_that_decides(
    decision: str, uneven: Path, likeliest: Path, tmp_path: Path
) -> None:
    """The same training, asked in another way: its weights but one bias, its predictions, its place in the tables."""
    more = ("--training.decision", decision)
    own = trained(tmp_path / "own", uneven, *more)
    before, after = read_run(likeliest), read_run(own)
    assert contrast_runs(likeliest, decision=decision).partition("\n")[2] == contrast_runs(own).partition("\n")[2]
    assert f"networks decided by '{decision}'" in contrast_runs(likeliest, decision=decision)
    with pytest.raises(ConfigError, match=f"decide by '{decision}' already"):
        contrast_runs(own, decision="even")
    ser = [next(line for line in run.lines if line.system == "ser").seeds[0] for run in (before, after)]
    for part in ("dev", "test"):
        old, new = (getattr(seed, part) for seed in ser)
        factors = np.array(decision_factors(decision, [2, 1]))
        expected = old.probabilities * factors
        np.testing.assert_allclose(new.probabilities, expected / expected.sum(1, keepdims=True), atol=2e-5)
    (model,), (plain,) = (
        [folder for name, folder in cells(run).items() if name.startswith("ser")] for run in (own, likeliest)
    )
    one, other = Model.load(model).network.state_dict(), Model.load(plain).network.state_dict()
    assert [name for name in one if not torch.equal(one[name], other[name])] == ["emotion.output.bias"]


def test_unknown_decisions_are_refused(likeliest: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown decision 'evenly'\. Did you mean 'even'"):
        contrast_runs(likeliest, decision="evenly")


def test_rarity_is_made_up_for_once(tmp_path: Path) -> None:
    for decision in ("both", "even"):
        with pytest.raises(ConfigError, match="would both compensate"):
            TrainingSettings(class_weights="balanced", decision=decision)
    run = invent(tmp_path / "run", systems=("ser",), extras=False)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["training"]["class_weights"] = "balanced"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert "| SER_only |" in contrast_runs(run)
    with pytest.raises(ConfigError, match="balanced class weights"):
        contrast_runs(run, decision="both")
