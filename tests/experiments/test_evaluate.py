"""Scoring a trained model on a manifest: the same figures as its training gave, and words for what is odd."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from experimenting import experiment, only, result, rows_of, table, write_rows
from sklearn.metrics import f1_score


@pytest.fixture(scope="module")
def cell(done: Path) -> Path:
    return only(done, "ser")


def part(folder: Path, *parts: str, **changes: Any) -> Path:
    path = table(folder, **changes)
    return write_rows(path, [row for row in rows_of(path) if row["part"] in parts])


def test_the_cells_own_test_again(cell: Path, tmp_path: Path, cli: Any) -> None:
    out, err = cli("evaluate", cell, part(tmp_path, "test"), "--output", tmp_path / "scores")
    assert err == ""
    wa, uar = (result(cell)["directions"]["test"][name] for name in ("test_wa", "test_uar"))
    assert out.startswith(f"WA {100 * wa:.1f} %, UAR {100 * uar:.1f} %")
    assert "8 utterances, 2 speakers" in out
    written = json.loads((tmp_path / "scores" / "result.json").read_text())
    assert (written["wa"], written["uar"], written["n"]) == (wa, uar, 8)
    confusion = np.array(written["confusion"])
    assert confusion.sum(axis=1).tolist() == [4, 4]
    assert confusion.trace() / 8 == wa
    assert "| true \\ predicted | angry | sad | recall |" in out
    for label, counts in zip(("angry", "sad"), confusion, strict=True):
        assert f"| {label} | {counts[0]} | {counts[1]} |" in out
    own = {row["id"]: row for row in rows_of(cell / "predictions.csv") if row["part"] == "test"}
    truth, predicted = zip(*((row["emotion"], row["predicted"]) for row in own.values()), strict=True)
    assert written["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0.0))
    for row in rows_of(tmp_path / "scores" / "predictions.csv"):
        assert (row["true"], row["predicted"]) == (own[row["id"]]["emotion"], own[row["id"]]["predicted"])
        assert float(row["p_sad"]) == pytest.approx(float(own[row["id"]]["p_sad"]), abs=1e-5)


def test_a_model_file_and_speakers_it_was_trained_on(cell: Path, tmp_path: Path, cli: Any) -> None:
    model, store = cell / "model.safetensors", tmp_path / "store"
    out, _ = cli("evaluate", model, part(tmp_path, "test"), "--store", store)
    assert f"WA {100 * result(cell)['directions']['test']['test_wa']:.1f} %" in out
    assert (store / "store.json").exists()
    _, err = cli("evaluate", cell, part(tmp_path, "train", "test"))
    assert "the model was trained on 2 of these speakers (synthetic/s1, synthetic/s2)" in err
    respelt = part(tmp_path, "train", speaker=lambda row: row["speaker"].replace("s", "S0"))
    _, err = cli("evaluate", cell, respelt)
    assert "the model was trained on 2 of these speakers (synthetic/S01, synthetic/S02)" in err
    zeros = map("0".__mul__, range(1000))
    _, err = cli("evaluate", cell, part(tmp_path, "train", speaker=lambda row: f"s{next(zeros)}{row['speaker'][1:]}"))
    assert re.search(r"these speakers \((synthetic/s0*\d, ){4}synthetic/s0*\d and \d more\): ", err)
    out, err = cli("evaluate", cell, part(tmp_path, "test", speaker=lambda row: "unknown"))
    assert "8 of 8 utterances are of unknown speakers, whom the model may have been trained on" in err
    assert "8 utterances, 0 speakers" in out


def test_labels_it_does_not_know_are_counted(cell: Path, tmp_path: Path, cli: Any) -> None:
    def first_two_happy(row: dict[str, str]) -> str:
        return "happy" if row["text"] == "sentence 1" and row["emotion"] == "sad" else row["emotion"]

    manifest = part(tmp_path, "test", emotion=first_two_happy)
    out, err = cli("evaluate", cell, manifest)
    assert "2 of 8 utterances left out: the model does not have their labels" in err
    assert "6 utterances" in out
    assert "8 utterances" in cli("evaluate", cell, manifest, "--map", "happy=sad")[0]
    for wrong in ("happy", "happy=sadd"):
        cli("evaluate", cell, manifest, "--map", wrong, code=2)
    assert "bored" in cli("evaluate", cell, part(tmp_path, "test", emotion=lambda row: "bored"), code=2)[1]


def test_missing_emotions_unreadable_and_repeated_recordings(cell: Path, tmp_path: Path, cli: Any) -> None:
    manifest = part(tmp_path, "test")
    rows = rows_of(manifest)
    write_rows(manifest, [row for row in rows if row["emotion"] == "sad"])
    out, _ = cli("evaluate", cell, manifest, "-o", tmp_path / "scores")
    assert "| angry | 0 | 0 | – |" in out
    read = json.loads((tmp_path / "scores" / "result.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert (read["n"], read["recall"]["angry"]) == (4, None)
    write_rows(manifest, [rows[0] | {"audio": str(tmp_path / "absent.wav")}, *rows[1:]])
    out, err = cli("evaluate", cell, manifest)
    assert "1 of 8 utterances left out, as they have no features" in err
    assert "7 utterances" in out
    write_rows(manifest, [rows[0] | {"id": emotion, "emotion": emotion} for emotion in ("angry", "sad")])
    assert "every recording occurs more than once" in cli("evaluate", cell, manifest, code=2)[1]


@pytest.mark.parametrize(("trained", "given"), [("", ""), ("a", ""), ("", "b")])
def test_namesakes_of_tables_without_a_corpus(tmp_path: Path, cli: Any, trained: str, given: str) -> None:
    out = tmp_path / "run"
    source = ("--manifest", str(table(tmp_path, corpus=lambda row: trained)))
    more = ("--systems", "ser", "--epochs", "1", "--protocol", "loso", "--folds", "1")
    assert experiment(out, *more, source=source) == 0
    _, err = cli("evaluate", only(out), table(tmp_path, corpus=lambda row: given))
    assert "a table names no corpus" in err
    assert "(/" not in err


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
def test_a_strangers_model_is_refused_in_one_line(cell: Path, tmp_path: Path, cli: Any, change: Any) -> None:
    model = changed(cell, tmp_path / "model.safetensors", change)
    out, err = cli("evaluate", model, part(tmp_path, "test"), code=2)
    assert len(err.splitlines()) == 1
    assert str(model) in err
    assert out == ""


def test_no_model_at_all(cell: Path, tmp_path: Path, cli: Any) -> None:
    manifest, whole = part(tmp_path, "test"), (cell / "model.safetensors").read_bytes()
    for name, content in (("empty", b""), ("words", b"no model\n" * 99), ("half", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
    for words in (
        *((tmp_path / name, manifest) for name in ("empty", "words", "half", "absent", "")),
        (cell, tmp_path / "absent.csv"),
        (cell, manifest, "--device", "abacus"),
    ):
        _, err = cli("evaluate", *words, code=2)
        assert err.startswith("unheard: ")
        assert len(err.splitlines()) == 1


def test_one_channel_of_stereo(cell: Path, tmp_path: Path, cli: Any) -> None:
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
        cli("evaluate", cell, path, "--channel", channel, "--output", out)
        said[channel] = {row["id"]: float(row["p_sad"]) for row in rows_of(out / "predictions.csv")}
    for name, probability in said["left"].items():
        assert probability == pytest.approx(float(own[name]["p_sad"]), abs=1e-4)
    assert said["mix"] != pytest.approx(said["left"], abs=1e-4)
    assert len(said["each"]) == 2 * len(rows)
