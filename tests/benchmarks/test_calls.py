"""The benchmarks of calls, recording conditions and sounds without a voice, at tiny size."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from sounds import murmur, write

from benchmarks import calls, conditions, no_voice
from unheard.corpora import read_manifest
from unheard.errors import ConfigError

EMOTIONS = {"03": "happy", "04": "sad", "05": "angry", "01": "neutral"}


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of RAVDESS: four actors, two clips of each emotion."""
    root = tmp_path_factory.mktemp("corpora") / "ravdess"
    for number, (actor, emotion, statement) in enumerate(product(range(1, 5), EMOTIONS, ("01", "02"))):
        path = root / f"Actor_{actor:02}" / f"03-01-{emotion}-01-{statement}-01-{actor:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, murmur(1.2, number, loudness=0.1 + 0.02 * number))
    return root


def manifest(root: Path, path: Path, speakers: int = 4) -> Path:
    rows = [
        f"{file},{file.parent.name},{EMOTIONS[file.stem[6:8]]}"
        for file in sorted(root.rglob("*.wav"))
        if int(file.parent.name[-2:]) <= speakers
    ]
    path.write_text("file,speaker,emotion\n" + "\n".join(rows) + "\n")
    return path


def test_calls(ravdess: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model.write_tiny(tmp_path / "model.onnx")
    table = manifest(ravdess, tmp_path / "m.csv")
    base = [str(table), "--model", str(model), "--calls", "3", "--turns", "6"]
    calls.main([*base, "--seed", "1"])
    first = capsys.readouterr().out
    assert "3 calls of 6 turns, 4 speakers, 18 turns, 0 of them without a label" in first
    counts = re.findall(r"^\| \d+ to \d+ % \| (\d+) ", first, re.MULTILINE)
    assert sum(map(int, counts)) == 18
    calls.main([*base, "--seed", "1"])
    assert capsys.readouterr().out == first
    known = tiny_model.write_tiny(
        tmp_path / "known.onnx", about={"train_speakers": '["Actor_01", "Actor_02", "Actor_03"]'}
    )
    with pytest.raises(ConfigError, match="two speakers that the model was not trained on"):
        calls.main([str(table), "--model", str(known)])


def test_a_dominant_emotion(ravdess: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest(ravdess, tmp_path / "m.csv", 1))
    found = calls.drawn(rows, 4, 0.5, np.random.default_rng(0))
    assert len({row.id for row in found}) == 4
    assert max([row.emotion for row in found].count(one) for one in EMOTIONS.values()) == 2


def test_no_voice(ravdess: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--corpora", str(ravdess.parent), "--names", "ravdess", "--files", "20", "--sounds", "4"]
    no_voice.main([*base, "--fit"])
    out = capsys.readouterr().out
    assert [len(line.split(", ")) for line in out.splitlines()[:5]] == [8, 8, 8, 8, 1]
    rows = {line.split("|")[1].strip(): line.split("|")[2:4] for line in out.splitlines() if line.startswith("| ")}
    assert int(rows["synthesised, short, between silence"][0]) == 2 * len(no_voice.KINDS)
    assert float(rows["synthesised, short"][1]) > 80
    assert 0 < int(rows["speech, whole"][0]) < 20


def test_conditions(ravdess: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conditions.main(["tiny", str(manifest(ravdess, tmp_path / "manifest.csv", 1))])
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("| 8 utterances of 1 speakers |")
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(conditions.CONDITIONS)
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000)
    noisy = conditions.in_noise(samples, np.random.default_rng(0))
    assert 20 * np.log10(samples.std() / (noisy - samples).std()) == pytest.approx(10, abs=0.1)
