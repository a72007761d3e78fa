"""Paths in a file of settings are relative to its folder, so that a run finds its corpus from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from experimenting import cells, in_this_process, table

from unheard.cli import main
from unheard.experiments import run as run_module
from unheard.experiments.config import load, read_in, same_place, written_in
from unheard.experiments.records import read_run

QUICK = ["--emotions", "angry,sad", "--systems", "ser", "--epochs", "1", "--training.batch-size", "4"]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)


def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "manifest": "voices/m.csv", "root": "data/a, /elsewhere/b", "store": "", "out": "runs/one", "epochs": 3,
        "speakers": "people.csv:development", "weights_from": "runs/two", "features": {"encoder": "wavlm", "deltas": 1},
    }  # fmt: skip
    (tmp_path / "runs" / "one").mkdir(parents=True)
    written = written_in(Path("runs/one"), values)
    assert written == {
        "manifest": "../../voices/m.csv", "root": "../../data/a,/elsewhere/b", "store": "", "out": ".", "epochs": 3,
        "speakers": "../../people.csv:development", "weights_from": "../two",
        "features": {"encoder": "../../wavlm", "deltas": 1},
    }  # fmt: skip
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    found = read_in(Path("../runs/one"), written)
    assert same_place(found["manifest"], str(tmp_path / "voices" / "m.csv"))
    assert same_place(found["speakers"], str(tmp_path / "people.csv:development"))
    assert not same_place(found["speakers"], str(tmp_path / "people.csv:untouched"))
    assert not same_place(found["manifest"], "")
    roots = found["root"].split(",")
    assert all(same_place(*pair) for pair in zip(roots, ("../data/a", "/elsewhere/b"), strict=True))
    assert (found["store"], found["epochs"]) == ("", 3)


def test_a_run_behind_a_link_finds_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large" / "disk").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "runs").symlink_to(tmp_path / "large" / "disk")
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "m.csv").touch()
    found = read_in(Path("runs"), written_in(Path("runs"), {"manifest": "m.csv"}))
    assert Path(found["manifest"]).samefile("m.csv")


def test_a_run_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another corpus under the same relative path is another one, and the same one under another path the same."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        table(folder)
    monkeypatch.chdir(one)
    assert main(["experiment", "--manifest", "manifest.csv", *QUICK, "--out", "run"]) == 0
    first = read_run(one / "run")
    monkeypatch.chdir(two)
    assert main(["experiment", "--manifest", "manifest.csv", *QUICK, "--out", "../one/run"]) == 2
    assert "holds a run with manifest" in capsys.readouterr().err
    assert main(["experiment", "--manifest", "../one/manifest.csv", *QUICK, "--out", "../one/run"]) == 0
    assert main(["experiment", "--config", "../one/run/config.yaml"]) == 0
    assert list(cells(one / "run")) == [cell.name for cell in first.cells]
    assert yaml.safe_load((one / "run" / "config.yaml").read_text())["manifest"] == "../manifest.csv"
    assert main(["adapt", "../one/run", "--k", "1", "--draws", "1"]) == 0


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.yaml").write_text(
        "manifest: voices/m.csv\nout: runs\nweights-from: other\ntraining: {select: last}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load("settings.yaml").manifest == "voices/m.csv"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir("below")
    settings = load("../settings.yaml", {"out": "mine"})
    assert (settings.manifest, settings.out, settings.weights_from) == ("../voices/m.csv", "mine", "../other")
