"""A model to give to people, made from a small invented corpus with real trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experimenting import in_this_process
from tiny_encoder import save_huggingface, tiny_weights

import unheard
from unheard.cli import main
from unheard.corpora.synthetic import SyntheticSettings, write
from unheard.corpora.table import write_table
from unheard.experiments import run
from unheard.experiments.records import read_run
from unheard.export.evidence import calibrate
from unheard.export.starter import line_of, shares
from unheard.features.encoder import write_encoder
from unheard.manifest import Manifest

QUICK = ["--features.no-pitch", "--features.no-summary", "--training.augment.pitch", "0"]
SMALL = SyntheticSettings(speakers=6, dev_speakers=2, test_speakers=2, sentences=2, mean_duration=0.9)


@pytest.mark.parametrize(("speakers", "parts"), [(98, (90, 4, 4)), (24, (22, 1, 1)), (5, (3, 1, 1))])
def test_nearly_everybody_trains(speakers: int, parts: tuple[int, int, int]) -> None:
    assert shares(speakers) == parts


@pytest.fixture(autouse=True)
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_cells", in_this_process)


def flags(folder: Path, settings: SyntheticSettings, *more: str) -> list[str]:
    """An invented corpus, and the flags that train on it quickly."""
    write(folder / "corpus", settings)
    return ["starter", "--recipe", "strong", "--corpus", "synthetic", "--root", str(folder / "corpus"), "--epochs", "1",
            *QUICK, "--runs", str(folder / "runs"), "--workers", "1", *more]  # fmt: skip


def test_a_folder_with_a_card_and_nothing_is_trained_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*flags(tmp_path, SMALL, "--folds", "3"), "-o", str(tmp_path / "model")]
    named = [*command, "--name", "toy", "--licence", "MIT"]
    assert main(named) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    titles = (
        "Adaptation to a speaker",
        "Noise and telephone",
        "Speaker information in the embedding",
        "The small file",
    )
    for title in ("# toy", *(f"## {title}" for title in titles)):
        assert title in card
    assert [line.split(" | ")[1] for line in card.splitlines() if line.startswith(("| noise at", "| telephone"))] == [
        "48"
    ] * 2
    assert "- Reverberation, children, and languages" in card
    assert "| ser" not in card
    clip = next(iter(sorted((tmp_path / "corpus" / "wav").rglob("*.wav"))))
    found = unheard.load(tmp_path / "model").predict(clip)
    assert found.abstained or np.isclose(sum(found.probabilities.values()), 1, atol=1e-4)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("checkpoint.pt")}
    assert len(before) == 4
    assert main(named) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # another system in the same folder of runs is that one's model and figures
    other = tmp_path / "other"
    assert main([*command[:-1], str(other), "--systems", "dat"]) == 0
    assert '"cell": "dat-' in (other / "config.json").read_text()
    card = (other / "README.md").read_text()
    assert "SER_SR_DAT" in card
    assert "SER_only" not in card
    capsys.readouterr()
    assert main([*command, "--emotions", "angry,sad"]) == 2
    assert "Choose another --runs" in capsys.readouterr().err


def test_the_temperature_is_chosen_on_corpora_left_out(tmp_path: Path) -> None:
    corpora = [write(tmp_path / name, replace(SMALL, seed=seed)).rows for seed, name in enumerate("ab")]
    rows = [
        replace(row, id=f"{name}-{row.id}", corpus=name, speaker=f"{name}-{row.speaker}")
        for name, part in zip("ab", corpora, strict=True)
        for row in part
    ]
    write_table(Manifest(tuple(rows)), tmp_path / "both.csv")
    command = ["starter", "--recipe", "strong", "--manifest", str(tmp_path / "both.csv"), "--epochs", "1"]
    command += [*QUICK, "--folds", "3", "--runs", str(tmp_path / "runs"), "--workers", "1"]
    assert main([*command, "-o", str(tmp_path / "model")]) == 0
    left_out, crossed = (
        calibrate(line_of(read_run(tmp_path / "runs" / name)), on="test")
        for name in ("corpora-left-out", "cross-validated")
    )
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    assert described["temperature"] == pytest.approx(left_out.temperature) != pytest.approx(crossed.temperature)
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"divided by T = {left_out.temperature:.3g}" in card
    calibration = [line for line in card.splitlines() if line.startswith("| a and b") and "→" in line]
    assert [line.split(" | ")[1:3] for line in calibration] == [["–", "–"], [str(len(rows)), "12"]]
    assert card.count("Each corpus was tested by trainings on the others only") == 1
    assert "name: a, left out of training" in card
    assert card.count("T is chosen on corpora left out of training") == 1
    assert "measured with a T chosen without them" not in card


def test_no_corpus_is_left_out_where_corpora_share_speakers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "corpus", SMALL).rows
    mixed = tuple(replace(row, corpus="ab"[number % 2]) for number, row in enumerate(rows))
    write_table(Manifest(mixed), tmp_path / "mixed.csv")
    command = ["starter", "--recipe", "strong", "--manifest", str(tmp_path / "mixed.csv"), "--epochs", "1", *QUICK]
    command += ["--folds", "3", "--runs", str(tmp_path / "runs"), "--workers", "1"]
    assert main([*command, "-o", str(tmp_path / "model")]) == 0
    assert "No corpus can be left out" in capsys.readouterr().err
    assert "left out of training" not in (tmp_path / "model" / "README.md").read_text()


def test_too_few_speakers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = SyntheticSettings(speakers=4, dev_speakers=1, test_speakers=1, sentences=1)
    assert main([*flags(tmp_path, few), "-o", str(tmp_path / "model")]) == 2
    assert "4 speakers are too few for 5 folds" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_with_a_pretrained_encoder_the_result_is_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write(tmp_path / "corpus", SMALL)
    source = save_huggingface(tmp_path / "tiny", tiny_weights())
    config = tmp_path / "starter.yaml"
    config.write_text(
        "{features: {kind: encoder, encoder: tiny, layer: '1,2', vad: none}, network: {tdnn: [], lstm: 0}, workers: 1}"
    )
    command = ["starter", "--config", str(config), "--recipe", "strong", "--corpus", "synthetic", "--folds", "3"]
    command += ["--root", str(tmp_path / "corpus"), "--epochs", "1", "--runs", str(tmp_path / "runs")]
    assert main([*command, "-o", str(tmp_path / "model")]) == 0
    assert "| float weights |" in (tmp_path / "model" / "README.md").read_text()
    source.rename(tmp_path / "gone")
    recogniser = unheard.load(tmp_path / "model")
    assert recogniser.model.encoder is not None
    assert recogniser.model.encoder.description["weights"] == "int8"
    assert recogniser.predict(corpus.rows[0].audio).abstained is None
    assert [path.name for path in tmp_path.glob("runs/*/features")] == []  # the experiments share one store
    # what could not be exported is refused before any training
    written = write_encoder(tmp_path / "gone", "1,2", tmp_path / "tiny")
    assert written.description["weights"] == "float"
    assert main([*command[:-1], str(tmp_path / "other"), "-o", str(tmp_path / "model")]) == 2
    assert "floats already" in capsys.readouterr().err
    assert not list(tmp_path.glob("other/*/cells"))
