"""Figures of a model that was normalised with the test speakers' recordings say so wherever they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experimenting import experiment, only, result, table

from unheard.errors import RunError
from unheard.experiments.adaptation import adapt
from unheard.experiments.evaluate import evaluate
from unheard.experiments.leakage import probe_model
from unheard.experiments.records import read_run
from unheard.features.normalise import TRANSDUCTIVE
from unheard.report.comparison import compare_runs, contrast_runs, to_markdown


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("transductive") / "run"
    assert experiment(out, "--systems", "ser", "--epochs", "1", "--normalise", "speaker") == 0
    return out


def test_of_runs(run: Path, done: Path) -> None:
    assert TRANSDUCTIVE in (run / "table.md").read_text()
    assert result(only(run))["settings"]["transductive"] is True
    assert TRANSDUCTIVE in contrast_runs(run)
    assert f"B is {TRANSDUCTIVE}." in to_markdown(compare_runs(read_run(done), read_run(run)))
    assert TRANSDUCTIVE not in contrast_runs(done)
    assert TRANSDUCTIVE not in to_markdown(compare_runs(read_run(done), read_run(done)))


def test_of_a_model(run: Path, done: Path, tmp_path: Path) -> None:
    for folder, marked in ((run, True), (done, False)):
        model = only(folder, "ser")
        found = evaluate(model, table(tmp_path), folder=tmp_path / "found")
        assert (TRANSDUCTIVE in found.text) is marked
        assert json.loads((tmp_path / "found" / "result.json").read_text())["transductive"] is marked
        probed = probe_model(model, table(tmp_path))
        assert (TRANSDUCTIVE in probed.as_markdown()) is marked
        assert json.loads(probed.as_json())["transductive"] is marked


def test_adaptation_is_refused(run: Path) -> None:
    with pytest.raises(RunError, match=r"k = 0 is adapted already.*--normalise train"):
        adapt(run)
