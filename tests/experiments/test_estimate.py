"""What an experiment says before it begins: how many trainings, and how long."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from experimenting import all_numbers, corpus, experiment, flags, in_this_process
from recording import write_run

from unheard.cli import main
from unheard.errors import TrainingError
from unheard.experiments import plan as estimate_module
from unheard.experiments import run as run_module
from unheard.experiments.config import load
from unheard.experiments.plan import Grid, Speed, calibrate, duration, estimate, lay_out


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """Two folds, two seeds, two systems: eight cells of 10 epochs."""
    where = {"corpus": "synthetic", "root": str(corpus()), "out": str(tmp_path_factory.mktemp("grid"))}
    what: dict[str, Any] = {"emotions": "angry,sad", "protocol": "paired", "systems": "ser,cgt", "seeds": 2, "folds": 2}
    return lay_out(load(None, {**where, **what, "epochs": 10, "workers": 2, "progress": False}))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.3, "10 s"), (7, "10 s"), (61, "70 s"), (95, "2 min"), (1500, "25 min"), (5400, "1 h 30 min"),
        (7150, "2 h"), (7800, "2 h 10 min"), (13 * 3600, "13 h"), (300_000, "3 days 11 h"), (172_800, "2 days"),
    ],
)  # fmt: skip
def test_durations_are_said_in_round_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_seconds_are_frames_times_epochs_over_workers(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a millisecond a frame of SER_only and three of CGT, in validation a tenth."""
    speeds = {"ser": Speed(0.001, 0.0001), "cgt": Speed(0.003, 0.0003)}
    monkeypatch.setattr(estimate_module, "calibrate", lambda cells: speeds)
    frames = {name: entry.frames for name, entry in grid.store.entries.items()}
    wanted = 0.0
    for fold in grid.split.folds:
        train = sum(frames[name] for name in fold.train)
        held = sum(frames[name] for reading in fold.readings for name in reading.dev)
        wanted += 2 * 10 * (0.004 * train + 0.0004 * held)
    said = estimate(grid.cells, grid.settings, always=True)
    assert said.seconds == pytest.approx(wanted / 2)
    assert (said.trainings, said.done, said.workers) == (8, 0, 2)
    one = estimate(grid.cells[:1], grid.settings, always=True)  # a second worker would not help
    assert (one.workers, one.seconds) == (1, pytest.approx(one.seconds))
    more = estimate(grid.cells, grid.settings, more={"{} for invariance": grid.cells[:4], "{} no": ()}, always=True)
    assert more.more == ("4 for invariance",)
    assert more.seconds is not None
    assert more.seconds > said.seconds
    assert str(more).startswith("8 trainings (0 done before), 4 for invariance: about ")


def test_what_is_tiny_or_trained_elsewhere_is_not_measured(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "calibrate", None)
    assert estimate(grid.cells, grid.settings).seconds is None
    assert estimate(grid.cells, replace(grid.settings, engine="ray"), always=True).seconds is None
    assert estimate((), grid.settings, always=True).seconds is None
    monkeypatch.setattr(estimate_module, "TINY", 0)
    with pytest.raises(TypeError):
        estimate(grid.cells, grid.settings)


def test_a_calibration_leaves_no_trace(grid: Grid) -> None:
    """Each system once, on one thread; no random stream moves, and no file is written."""
    out = Path(grid.settings.out)
    before = sorted(out.rglob("*"))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    speeds = calibrate(grid.cells)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(out.rglob("*")) == before
    assert set(speeds) == {"ser", "cgt"}
    assert all(1e-7 < speed.train < 1 and 1e-8 < speed.validate < 1 for speed in speeds.values())


def test_a_calibration_changes_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = ("--systems", "ser,dat,cgt", "--epochs", "2")
    assert experiment(tmp_path / "plain", *same) == 0
    measured: list[str] = []
    real = calibrate

    def spied(cells: Any) -> Any:
        measured.extend(cell.system for cell in cells)
        return real(cells)

    monkeypatch.setattr(estimate_module, "TINY", 0)
    monkeypatch.setattr(estimate_module, "calibrate", spied)
    assert experiment(tmp_path / "measured", *same) == 0
    assert measured == ["ser", "dat", "cgt"]
    assert all_numbers(tmp_path / "measured") == all_numbers(tmp_path / "plain")


def test_what_cannot_train_is_estimated_without_time(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(cells: Any) -> Any:
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(estimate_module, "calibrate", fails)
    assert str(estimate(grid.cells, grid.settings, always=True)) == "8 trainings (0 done before)"


def test_a_dry_run_says_it_and_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    same = ("--systems", "ser,dat", "--epochs", "2", "--seeds", "2", "--protocol", "paired", "--folds", "1")
    assert main(["experiment", *flags(out, *same, "--dry-run")]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(r"4 trainings \(0 done before\): about \d+ s with \d workers?\n", said)
    assert {path.name for path in out.iterdir()} == {"features", ".lock"}
    assert experiment(out, "--systems", "ser", *same[2:]) == 0
    assert "2 trainings (0 done before)\n" in capsys.readouterr().err
    assert main(["experiment", *flags(out, *same, "--dry-run", "--tune", "--invariance")]) == 0
    said = capsys.readouterr().out
    # three other λ on seed 0; on seed 1 one for each reading; a random split for every system and seed
    wanted = "7 trainings (2 done before), up to 2 more with the chosen λ and ε, 4 for invariance: about "
    assert said.startswith(wanted)
    # trainings of an earlier call for invariance, of other settings; then what cannot be read at all
    write_run(out / "invariance", {("ser", 0, 0): "aa ss"}, epochs=7)
    for _ in range(2):
        assert main(["experiment", *flags(out, *same, "--dry-run", "--tune", "--invariance")]) == 0
        assert capsys.readouterr().out.startswith(wanted)
        (out / "invariance" / "splits.csv").write_text("?")


def test_only_the_same_system_has_been_trained_for_invariance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    same = ("--epochs", "1", "--protocol", "paired", "--folds", "1", "--invariance")
    assert experiment(out, "--systems", "ser", "--seeds", "2", *same) == 0
    for systems, seeds, missing in (("dat", "2", "2 for invariance"), ("ser", "3", "1 for invariance")):
        capsys.readouterr()
        assert main(["experiment", *flags(out, "--systems", systems, "--seeds", seeds, *same, "--dry-run")]) == 0
        assert f", {missing}: about" in capsys.readouterr().out


def test_functionals_are_refused_before_they_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment(tmp_path, "--features.kind", "functionals") == 2
    assert "one vector an utterance" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "features").exists()
