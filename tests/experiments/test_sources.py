"""Experiments on other sources: channels, several corpora, the test speakers' own normalisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from experimenting import (
    corpus,
    experiment,
    in_this_process,
    only,
    result,
    rows_of,
    table,
    write_rows,
)

from unheard.cli import main
from unheard.experiments import run as run_module


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)


def test_each_channel_of_a_call_is_a_person(tmp_path: Path) -> None:
    rows = rows_of(table(tmp_path))
    speakers = sorted({row["speaker"] for row in rows})
    halves = [[row for row in rows if row["speaker"] in speakers[i::2]] for i in (0, 1)]
    calls = []
    for place, (left, right) in enumerate(zip(*halves, strict=True)):
        assert left["emotion"] == right["emotion"]
        a, rate = soundfile.read(left["audio"])
        b, _ = soundfile.read(right["audio"])
        length = min(len(a), len(b))
        path = tmp_path / f"call{place}.wav"
        soundfile.write(path, [[x, y] for x, y in zip(a[:length], b[:length], strict=True)], rate)
        calls.append({"id": f"call{place}", "audio": str(path), "speaker": left["speaker"], "emotion": left["emotion"]})
    write_rows(tmp_path / "calls.csv", calls)
    source = ("--manifest", str(tmp_path / "calls.csv"), "--channel", "each")
    short = ("--systems", "ser", "--epochs", "1", "--protocol", "kfold", "--k", "3", "--folds", "1")
    assert experiment(tmp_path / "run", *short, source=source) == 0
    ids = {row["id"] for row in rows_of(tmp_path / "run" / "splits.csv")}
    assert ids == {f"call{i}-{side}" for i in range(len(calls)) for side in ("left", "right")}
    assert "24 utterances, 6 speakers" in (tmp_path / "run" / "table.md").read_text()


def test_across_two_corpora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained on one, tested on the other: no id collides, and `evaluate` knows who was heard in training."""
    emodb = tmp_path / "emodb" / "wav"
    emodb.mkdir(parents=True)
    letters, speakers = {"angry": "W", "sad": "T"}, {"s5": "08", "s6": "03"}
    for row in rows_of(corpus() / "manifest.csv"):
        if row["speaker"] in speakers:
            samples, rate = soundfile.read(corpus() / row["audio"])
            name = f"{speakers[row['speaker']]}a0{row['text'].split()[1]}{letters[row['emotion']]}a.wav"
            soundfile.write(emodb / name, samples / 2, rate)  # as they are they would be recordings of two speakers
    source = ("--corpus", "synthetic,emodb", "--root", f"{corpus()},{tmp_path / 'emodb'}", "--partial")
    more = ("--protocol", "cross", "--test-corpora", "emodb", "--systems", "ser", "--epochs", "1")
    assert experiment(tmp_path / "run", *more, source=source) == 0
    parts = {row["id"]: row["part"] for row in rows_of(tmp_path / "run" / "splits.csv")}
    assert {name.split("/")[0] for name, part in parts.items() if part == "test"} == {"emodb"}
    assert {name.split("/")[0] for name, part in parts.items() if part != "test"} == {"synthetic"}
    capsys.readouterr()
    assert main(["evaluate", str(only(tmp_path / "run")), str(corpus() / "manifest.csv")]) == 0
    assert "the model was trained on 2 of these speakers" in capsys.readouterr().err


def test_normalising_by_speaker_is_marked(tmp_path: Path) -> None:
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "1", "--normalise", "speaker") == 0
    assert "transductive" in (tmp_path / "run" / "table.md").read_text()
    assert result(only(tmp_path / "run"))["settings"]["transductive"] is True
