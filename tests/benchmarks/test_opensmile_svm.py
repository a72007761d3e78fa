"""The benchmark's peer on our folds; openSMILE itself is replaced by a few numbers of the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experimenting import corpus, experiment, only, result, rows_of, table

from benchmarks import opensmile_svm
from unheard.experiments.records import read_run
from unheard.experiments.summary import summarise


class Numbers:
    """In the place of openSMILE: level, its movement, zero crossings, and a constant."""

    calls = 0

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        Numbers.calls += 1
        crossings = np.mean(np.diff(np.sign(samples)) != 0)
        return np.array([samples.std(), np.abs(np.diff(samples)).mean(), crossings, 7.0], np.float32)


@pytest.fixture(autouse=True)
def no_opensmile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensmile_svm, "Extractor", Numbers)
    Numbers.calls = 0


SPLIT = ("--protocol", "kfold", "--k", "3")


def test_it_joins_a_run_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, cache = tmp_path / "run", tmp_path / "cache.npz"
    assert experiment(out, "--systems", "ser", "--epochs", "1", "--seeds", "2", *SPLIT) == 0
    config = (out / "config.yaml").read_bytes()
    capsys.readouterr()
    assert opensmile_svm.main(["--out", str(out), "--cache", str(cache)]) == 0
    assert (out / "config.yaml").read_bytes() == config, "the run stays what it was"
    run = read_run(out)
    assert [line.name for line in run.lines] == ["SER_only", "SVM (functionals)", "ComParE 2016 + SVM"]
    assert [(line.finished, line.planned) for line in run.lines] == [(6, 6)] * 3
    assert {one.name for one in summarise(run).contrasts} == {"SVM (functionals)", "ComParE 2016 + SVM"}
    assert "| ComParE 2016 + SVM |" in capsys.readouterr().out
    assert Numbers.calls == 24
    assert "| ComParE 2016 + SVM |" in (out / "table.md").read_text()
    assert {row["system"] for row in rows_of(out / "results.csv")} == {"ser", "svm", "opensmile"}
    assert opensmile_svm.main(["--out", str(out), "--cache", str(cache)]) == 0
    assert Numbers.calls == 24, "the cache and the cells are there"
    assert experiment(out, "--systems", "ser", "--epochs", "1", "--seeds", "2", *SPLIT) == 0
    assert "| ComParE 2016 + SVM |" in (out / "table.md").read_text()


def test_it_begins_a_run_and_writes_every_prediction(tmp_path: Path) -> None:
    out, cache, records = tmp_path / "run", tmp_path / "cache.npz", tmp_path / "records.csv"
    source = ("--manifest", str(table(tmp_path, session=lambda row: "")))
    parts = tmp_path / "parts.csv"
    speakers = {row["speaker"] for row in rows_of(corpus() / "manifest.csv")}
    lines = [f"synthetic,{name},{'out' if k > 3 else 'in'}" for k, name in enumerate(sorted(speakers))]
    parts.write_text("\n".join(["corpus,speaker,part", *lines, ""]))
    settings = ("--emotions", "angry,sad")
    base = [*source, *SPLIT, "--split-seed", "1", "--speakers", f"{parts}:in", *settings]
    assert opensmile_svm.main([*base, "--out", str(out), "--cache", str(cache), "--records", str(records)]) == 0
    rows = rows_of(records)
    assert {row["speaker"] for row in rows} == set(sorted(speakers)[:4])
    assert {row["system"] for row in rows} == {"svm", "opensmile"}
    tested = [row["id"] for row in rows if (row["system"], row["part"]) == ("opensmile", "test")]
    assert len(tested) == len(set(tested)) == 16, "every utterance of the four speakers once"
    folder = only(out, "opensmile-fold0")
    said = {row["id"]: row["predicted"] for row in rows_of(folder / "predictions.csv") if row["part"] == "test"}
    own = [row for row in rows if (row["system"], row["fold"], row["part"]) == ("opensmile", "0", "test")]
    assert {row["id"]: row["predicted"] for row in own} == said
    assert result(folder)["directions"]["test"]["C"] in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    with np.load(folder / "embeddings.npz") as arrays:
        assert (arrays["e"][:, 3] == 0).all(), "what is constant in training says nothing"


def test_what_cannot_work_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert opensmile_svm.main(["--out", str(tmp_path / "run"), "--cache", str(tmp_path / "c.npz")]) == 2
    assert "Give --corpus NAME" in capsys.readouterr().err
    (tmp_path / "c.npz").write_bytes(b"no")
    source = ["--corpus", "synthetic", "--root", str(corpus()), "--emotions", "angry,sad", *SPLIT]
    assert opensmile_svm.main([*source, "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "c.npz")]) == 2
    assert "is no cache of this" in capsys.readouterr().err


def test_beside_systems_that_hear_the_test_speakers_it_would_be_unfair(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert experiment(out, "--systems", "svm", "--normalise", "speaker", *SPLIT) == 0
    before = sorted(path.name for path in (out / "cells").iterdir())
    assert opensmile_svm.main(["--out", str(out), "--cache", str(tmp_path / "cache.npz")]) == 2
    assert sorted(path.name for path in (out / "cells").iterdir()) == before
