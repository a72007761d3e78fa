"""Every benchmark command runs at tiny size, in this process."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import unheard
from benchmarks import dropout_shift, evidence_figure, features, full_scale, inference, shortcut
from benchmarks.training import accuracy, order, ours, run
from unheard.cli import main as unheard_main
from unheard.corpora import read_manifest
from unheard.corpora.kaldi import write_kaldi
from unheard.features import FeatureStore

TINY = ["--rounds", "1", "--plain-batches", "1", "--batches", "1", "--utterances", "4", "--processes", "1"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers, four emotions, one second each."""
    folder = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "file", "speaker", "gender", "emotion"])
        for speaker in range(6):
            for emotion in ("angry", "happy", "neutral", "sad"):
                name = f"s{speaker}-{emotion}"
                loudness = np.repeat(random.uniform(0.01, 0.2, 10), 1600)
                soundfile.write(folder / f"{name}.wav", loudness * random.standard_normal(16_000), 16_000)
                rows.writerow([name, f"{name}.wav", f"s{speaker}", "fm"[speaker % 2], emotion])
    return folder / "manifest.csv"


class Member:
    """Stands for a process of `ours.team`."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.store, self.folder, self.trainers = FeatureStore(store), folder, dict[str, Any]()
        self.order: tuple[str, list[str]] = ("", [])

    def send(self, *order: Any) -> None:
        self.order = order

    def receive(self) -> tuple[int, float]:
        system, ids = self.order
        if system not in self.trainers:
            self.trainers[system] = ours.make_trainer(system, self.store, self.folder / system)
        return ours.train_once(self.trainers[system], ids)


def test_training_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @contextmanager
    def team(store: Path, size: int) -> Iterator[list[Member]]:
        yield [Member(store, tmp_path)]

    monkeypatch.setattr(run, "team", team)
    monkeypatch.setattr(run, "memory", ours._memory_of)
    monkeypatch.setattr(run, "process_rate", lambda processes, seconds: 100.0)
    run.main(TINY)
    out = capsys.readouterr().out
    assert "ours / plain:" in out
    assert "SER_SR_CGT costs" in out


@pytest.mark.slow
def test_training_speed_in_processes() -> None:
    command = [sys.executable, "-m", "benchmarks.training.run", *TINY, "--peak-seconds", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "memory while training" in done.stdout


def test_order_of_batches(capsys: pytest.CaptureFixture[str]) -> None:
    order.main(["--rounds", "1", "--batches", "1", "--utterances", "40"])
    assert "random / similar:" in capsys.readouterr().out


def test_accuracy_of_the_loops(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--manifest", str(manifest), "--results", str(tmp_path / "accuracy.csv"), "--folds", "1", "--seeds", "1"]
    accuracy.main([*base, "--epochs", "1", "--workers", "1"])
    assert "ours       mean WA" in capsys.readouterr().out
    assert len((tmp_path / "accuracy.csv").read_text().splitlines()) == 1 + len(accuracy.LOOPS)


def test_dropout_and_batch_norm(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unheard.experiment(
        manifest=str(manifest), protocol="kfold", k=3, folds=1, systems=["ser"], epochs=1, out=str(tmp_path), workers=1
    )
    capsys.readouterr()
    dropout_shift.main([str(tmp_path)])
    assert "ser, seed 0: validation, pooled" in capsys.readouterr().out


@pytest.mark.parametrize("pitch", [[], ["--pitch"]])
def test_speed_of_features(
    pitch: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "find_spec", lambda name: None)  # importing librosa takes a dozen seconds
    features.main(["--seconds", "3", "--rounds", "1", *pitch])
    assert "unheard " in capsys.readouterr().out


def test_inference(capsys: pytest.CaptureFixture[str]) -> None:
    inference.main(["--seconds", "6", "--rounds", "1", "--parts", "files,stream"])
    out = capsys.readouterr().out
    assert "strong in PyTorch" in out
    assert "of a hop" in out


def test_inference_of_whisper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=6, encoder_attention_heads=2, decoder_layers=1, decoder_attention_heads=2
    )
    transformers.WhisperModel(config).save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    inference.main(["--seconds", "6", "--rounds", "1", "--parts", "files", "--whisper", str(tmp_path)])
    assert "Whisper, 3 layers, 30 s" in capsys.readouterr().out


@pytest.mark.slow
def test_inference_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    inference.main(["--seconds", "3", "--rounds", "1", "--parts", "start,memory", "--minutes", "0.1"])
    assert "unheard predict (strong)" in capsys.readouterr().out


def test_the_shortcut_of_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--corpora", "101", "--epsilon", "0.3", "--seeds", "1", "--epochs", "1", "--speakers", "6"]
    shortcut.main(["-o", str(tmp_path), *small])
    assert "| SER_SR_CGT, ε = 0.3 |" in capsys.readouterr().out


def test_full_scale(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps but the making of the corpus, which is there already."""

    def here(command: Sequence[str]) -> full_scale.Step:
        assert unheard_main([*command[3:], "--workers", "1"] if "features" in command else command[3:]) == 0
        return full_scale.Step("")

    parts: dict[str, tuple[int, int | None]] = {"train": (4, 16), "dev": (1, 4), "test": (1, 4)}
    flags = ("--recipe", "paper", "--protocol", "random", "--n", "4,1,1")
    monkeypatch.setitem(full_scale.SCALES, "tiny", full_scale.Scale(24, 6, flags, parts, workers=1))
    monkeypatch.setattr(full_scale, "watched", here)
    monkeypatch.setattr(full_scale, "SYSTEMS", "ser,dat")
    (tmp_path / "corpus").mkdir()
    write_kaldi(read_manifest(manifest), tmp_path / "corpus" / "kaldi")
    proof = full_scale.Proof("tiny", tmp_path)
    proof.note("corpus", full_scale.Step(""))
    steps = proof.run()
    assert steps["epoch of all systems"].found["ser"]["frames"] == steps["epoch of all systems"].found["dat"]["frames"]


def test_watched() -> None:
    assert full_scale.watched([sys.executable, "-c", "pass"]).seconds >= 0
    with pytest.raises(SystemExit, match="ended with 3"):
        full_scale.watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_figure_of_the_readme_is_drawn_from_the_published_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_figure, "GROUPS", {"EmoDB": "emodb", "corpora never heard": "leave-corpus-out"})
    out, results = tmp_path / "evidence.png", Path(__file__).parents[2] / "results"
    evidence_figure.main([str(results), str(out), str(tmp_path / "same.png")])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (out, tmp_path / "same.png"))
    drawn = {
        name: [height and round(height, 1) for height in evidence_figure.bars(results, name)]
        for name in evidence_figure.GROUPS.values()
    }
    assert drawn == {"emodb": [31.5, 83.8, 95.0, 97.2, 97.8], "leave-corpus-out": [None, None, 70.5, 74.8, 78.1]}
