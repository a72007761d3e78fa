"""Scoring a trained model on a manifest: the same figures as its training gave, and words for what is odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from experimenting import experiment, only, result, rows_of, table, write_rows
from sklearn.metrics import f1_score

from unheard.cli import main


@pytest.fixture(scope="module")
def cell(done: Path) -> Path:
    return only(done, "ser")


def part(folder: Path, *parts: str, **changes: Any) -> Path:
    path = table(folder, **changes)
    return write_rows(path, [row for row in rows_of(path) if row["part"] in parts])


def test_the_cells_own_test_again(cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = part(tmp_path, "test")
    assert main(["evaluate", str(cell), str(manifest), "--output", str(tmp_path / "scores")]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    wa, uar = (result(cell)["directions"]["test"][name] for name in ("test_wa", "test_uar"))
    assert said.out.startswith(f"WA {100 * wa:.1f} %, UAR {100 * uar:.1f} %")
    assert "8 utterances, 2 speakers" in said.out
    written = json.loads((tmp_path / "scores" / "result.json").read_text())
    assert (written["wa"], written["uar"], written["n"]) == (wa, uar, 8)
    confusion = np.array(written["confusion"])
    assert confusion.sum(axis=1).tolist() == [4, 4]
    assert confusion.trace() / 8 == wa
    for label, counts in zip(("angry", "sad"), confusion, strict=True):
        assert f"| {label} | {counts[0]} | {counts[1]} |" in said.out
    assert "| true \\ predicted | angry | sad | recall |" in said.out
    own = {row["id"]: row for row in rows_of(cell / "predictions.csv") if row["part"] == "test"}
    truth, predicted = zip(*((row["emotion"], row["predicted"]) for row in own.values()), strict=True)
    assert written["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0.0))
    for row in rows_of(tmp_path / "scores" / "predictions.csv"):
        assert (row["true"], row["predicted"]) == (own[row["id"]]["emotion"], own[row["id"]]["predicted"])
        assert float(row["p_sad"]) == pytest.approx(float(own[row["id"]]["p_sad"]), abs=1e-5)


def test_a_model_file_and_speakers_it_was_trained_on(
    cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = part(tmp_path, "test")
    assert main(["evaluate", str(cell / "model.safetensors"), str(manifest), "--store", str(tmp_path / "store")]) == 0
    assert (tmp_path / "store" / "store.json").exists()
    assert f"WA {100 * result(cell)['directions']['test']['test_wa']:.1f} %" in capsys.readouterr().out
    assert main(["evaluate", str(cell), str(part(tmp_path, "train", "test"))]) == 0
    assert "the model was trained on 2 of these speakers (synthetic/s1, synthetic/s2)" in capsys.readouterr().err


def test_labels_it_does_not_know_are_counted(cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def first_two_happy(row: dict[str, str]) -> str:
        return "happy" if row["text"] == "sentence 1" and row["emotion"] == "sad" else row["emotion"]

    manifest = part(tmp_path, "test", emotion=first_two_happy)
    assert main(["evaluate", str(cell), str(manifest)]) == 0
    said = capsys.readouterr()
    assert "2 of 8 utterances have labels the model does not know" in said.err
    assert "6 utterances" in said.out
    assert main(["evaluate", str(cell), str(manifest), "--map", "happy=sad"]) == 0
    assert "8 utterances" in capsys.readouterr().out
    assert main(["evaluate", str(cell), str(manifest), "--map", "happy"]) == 2
    assert main(["evaluate", str(cell), str(manifest), "--map", "happy=sadd"]) == 2
    assert main(["evaluate", str(cell), str(part(tmp_path, "test", emotion=lambda row: "bored"))]) == 2
    assert "bored" in capsys.readouterr().err


def test_missing_emotions_unreadable_and_repeated_recordings(
    cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = part(tmp_path, "test")
    rows = rows_of(manifest)
    write_rows(manifest, [row for row in rows if row["emotion"] == "sad"])
    assert main(["evaluate", str(cell), str(manifest), "-o", str(tmp_path / "scores")]) == 0
    assert "| angry | 0 | 0 | – |" in capsys.readouterr().out
    read = json.loads((tmp_path / "scores" / "result.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert (read["n"], read["recall"]["angry"]) == (4, None)
    write_rows(manifest, [rows[0] | {"audio": str(tmp_path / "absent.wav")}, *rows[1:]])
    assert main(["evaluate", str(cell), str(manifest)]) == 0
    said = capsys.readouterr()
    assert "1 of 8 utterances have no features" in said.err
    assert "7 utterances" in said.out
    write_rows(manifest, [rows[0] | {"id": emotion, "emotion": emotion} for emotion in ("angry", "sad")])
    assert main(["evaluate", str(cell), str(manifest)]) == 2
    assert "every recording occurs more than once" in capsys.readouterr().err


def test_namesakes_of_tables_without_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    source = ("--manifest", str(table(tmp_path, corpus=lambda row: "")))
    more = ("--systems", "ser", "--epochs", "1", "--protocol", "loso", "--folds", "1")
    assert experiment(out, *more, source=source) == 0
    capsys.readouterr()
    assert main(["evaluate", str(only(out)), str(tmp_path / "manifest.csv")]) == 0
    said = capsys.readouterr().err
    assert "neither table names a corpus" in said
    assert "(/" not in said


def changed(cell: Path, path: Path, change: Any) -> Path:
    """The cell's model with another description."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(cell / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["unheard"])
    tensors, description = change(tensors, description) or (tensors, description)
    save_file(tensors, path, metadata={"unheard": json.dumps(description)})
    return path


def without(name: str) -> Any:
    return lambda tensors, description: (tensors, {k: v for k, v in description.items() if k != name})


@pytest.mark.parametrize(
    "change",
    [
        *map(without, ("format", "labels", "network", "features", "normalise", "normalise_speakers", "about")),
        *(
            lambda t, d, wrong=wrong: (t, d | wrong)
            for wrong in ({"format": 99}, {"labels": ["angry"]}, {"labels": 3}, {"features": {"deltas": 77}},
                          {"normalise": "magic"}, {"about": []}, {"about": {"train_speakers": "3"}})
        ),
        lambda t, d: (t, None),
        lambda t, d: ({k: v for k, v in t.items() if "mean" not in k}, d),
        lambda t, d: ({k: v[:1] for k, v in t.items() if v.ndim} | {k: v for k, v in t.items() if not v.ndim}, d),
    ],
)  # fmt: skip
def test_a_strangers_model_is_refused_in_one_line(
    cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any
) -> None:
    model = changed(cell, tmp_path / "model.safetensors", change)
    assert main(["evaluate", str(model), str(part(tmp_path, "test"))]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert str(model) in said.err
    assert said.out == ""


def test_no_model_at_all(cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = str(part(tmp_path, "test"))
    whole = (cell / "model.safetensors").read_bytes()
    for name, content in (("empty", b""), ("words", b"no model\n" * 99), ("half", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        assert main(["evaluate", str(tmp_path / name), manifest]) == 2
    for path in (tmp_path / "absent", tmp_path):
        assert main(["evaluate", str(path), manifest]) == 2
    assert main(["evaluate", str(cell), str(tmp_path / "absent.csv")]) == 2
    assert main(["evaluate", str(cell), manifest, "--device", "abacus"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("unheard: ") for line in lines)


def test_one_channel_of_stereo(cell: Path, tmp_path: Path) -> None:
    """The words left, other words right: `left` is what the mono recording was; `each` has twice as many."""
    path = part(tmp_path, "test")
    rows = rows_of(path)
    sounds = [soundfile.read(row["audio"]) for row in rows]
    for place, (row, (samples, rate)) in enumerate(zip(rows, sounds, strict=True)):
        other = np.resize(sounds[place - 1][0], len(samples))
        row["audio"] = str(tmp_path / f"{place}.wav")
        soundfile.write(row["audio"], np.stack([samples, other], axis=1), rate)
    write_rows(path, rows)
    own = {row["id"]: row for row in rows_of(cell / "predictions.csv") if row["part"] == "test"}
    said = {}
    for channel in ("left", "mix", "each"):
        out = tmp_path / channel
        assert main(["evaluate", str(cell), str(path), "--channel", channel, "--output", str(out)]) == 0
        said[channel] = {row["id"]: float(row["p_sad"]) for row in rows_of(out / "predictions.csv")}
    for name, probability in said["left"].items():
        assert probability == pytest.approx(float(own[name]["p_sad"]), abs=1e-4)
    assert said["mix"] != pytest.approx(said["left"], abs=1e-4)
    assert len(said["each"]) == 2 * len(rows)
