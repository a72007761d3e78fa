"""Which emotion is said: by WA, by UAR, by both; in training, of a model, and of predictions that are published."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from experimenting import cells, experiment, in_this_process, rows_of, table, write_rows
from reporting import invent

from unheard.errors import ConfigError
from unheard.experiments import run as run_module
from unheard.experiments.comparison import contrast_runs
from unheard.experiments.records import read_run
from unheard.model.network import Head
from unheard.model.saving import Model
from unheard.training.evaluation import decision_rule
from unheard.training.metrics import decision_factors
from unheard.training.recipe import DECISIONS, TrainingSettings

LAST = ("--training.select", "last", "--training.lr", "0.003")


@pytest.mark.parametrize(("decision", "wa", "uar"), [("likeliest", 1, 0), ("both", 0.5, 0.5), ("even", 0, 1)])
def test_each_decision_is_the_best_by_what_it_is_for(decision: str, wa: float, uar: float) -> None:
    """Of all ways to answer three sounds of known posteriors none is expected to do better."""
    p = np.array([[0.55, 0.25, 0.2], [0.5, 0.1, 0.4], [0.6, 0.35, 0.05]])
    prior = p.mean(axis=0)
    counts = (1200 * prior).round().astype(int)

    def expected(answers: tuple[int, ...]) -> float:
        right = np.array([p[sound, answer] / 3 for sound, answer in enumerate(answers)])
        recall = sum(one / prior[answer] for one, answer in zip(right, answers, strict=True)) / 3
        return float(wa * right.sum() + uar * recall)

    ours = tuple((p * decision_factors(decision, counts.tolist())).argmax(axis=1).tolist())
    assert expected(ours) == pytest.approx(max(map(expected, itertools.product(range(3), repeat=3))))


def test_decisions_differ_where_emotions_are_not_equally_common() -> None:
    p = np.array([[0.55, 0.45], [0.7, 0.3], [0.6, 0.4]])
    said = [(p * decision_factors(decision, [6, 3])).argmax(axis=1).tolist() for decision in DECISIONS]
    assert said == [[0, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert all(decision_factors(decision, [5, 5, 5]) == [1, 1, 1] for decision in DECISIONS)
    assert np.isfinite(decision_factors("even", [0, 4])).all()


def test_a_head_decides_while_it_is_asked_to() -> None:
    head, e = Head(4, (3,), 2, 0.0).eval(), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before, bias = head(e).softmax(1), head.output.bias.detach().clone()
    with decision_rule(head, [2.0, 0.5]):
        scaled = before * torch.tensor([2, 0.5])
        torch.testing.assert_close(head(e).softmax(1), scaled / scaled.sum(1, keepdim=True))
    assert torch.equal(head.output.bias, bias)


def test_unknown_decisions() -> None:
    with pytest.raises(ConfigError, match="unknown decision 'best'"):
        TrainingSettings(decision="best")


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_cells", in_this_process)
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


@pytest.mark.parametrize("decision", DECISIONS)
def test_an_emotion_that_was_not_trained_on_is_not_favoured(decision: str) -> None:
    """The others are told apart as if there were no such emotion."""
    assert decision_factors(decision, [0, 10, 30]) == [1.0, *decision_factors(decision, [10, 30])]


def test_rarity_is_made_up_for_once(tmp_path: Path) -> None:
    for decision in ("both", "even"):
        with pytest.raises(ConfigError, match="would both compensate"):
            TrainingSettings(class_weights="balanced", decision=decision)
    run = invent(tmp_path / "run", systems=("ser",), extras=False)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["training"]["class_weights"] = "balanced"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    for path in run.glob("cells/*/result.json"):
        result = json.loads(path.read_text())
        result["settings"]["recipe"]["class_weights"] = "balanced"
        path.write_text(json.dumps(result))
    assert "| SER_only |" in contrast_runs(run)
    with pytest.raises(ConfigError, match="balanced class weights"):
        contrast_runs(run, decision="both")
