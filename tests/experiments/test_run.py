"""Experiments on a handful of invented voices: what is promised, and what is done once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from experimenting import all_numbers, cells, corpus, experiment, flags, only, result, rows_of, table, times_of_change
from sklearn.metrics import accuracy_score, balanced_accuracy_score

import unheard
from unheard.errors import ConfigError, TrainingError
from unheard.experiments import cell as work_module
from unheard.experiments.cell import make_trainers, run_cell
from unheard.experiments.config import load
from unheard.experiments.plan import make_plan
from unheard.features import FeatureStore
from unheard.model.network import side_by_side
from unheard.model.saving import Model
from unheard.training.strategies import STRATEGIES
from unheard.training.trainer import Trainer


def test_everything_that_is_promised_is_there(done: Path) -> None:
    promised = {"config.yaml", "splits.csv", "cells", "predictions.csv.xz", "results.csv", "table.md"}
    assert {p.name for p in done.iterdir()} >= promised
    systems = ("cgt", "dat", "mtl", "ser")
    assert [name.split("-")[:3] for name in cells(done)] == [[key, "fold0", "seed0"] for key in systems]
    promised = {"result.json", "history.jsonl", "predictions.csv", "embeddings.npz", "model.safetensors"}
    for folder in cells(done).values():
        assert {p.name for p in folder.iterdir()} >= promised
    assert [row["system"] for row in rows_of(done / "results.csv")] == ["ser", "mtl", "dat", "cgt"]
    predictions = (only(done, "ser") / "predictions.csv").read_text().splitlines()
    assert predictions[0] == "id,speaker,part,emotion,predicted,p_angry,p_sad"
    assert len(predictions) == 1 + 8 + 8


def test_figures_follow_from_the_predictions(done: Path) -> None:
    for folder in cells(done).values():
        rows, figures = rows_of(folder / "predictions.csv"), result(folder)["directions"]["test"]
        for part, prefix in (("dev", "val"), ("test", "test")):
            true, said = zip(*((row["emotion"], row["predicted"]) for row in rows if row["part"] == part), strict=True)
            assert figures[f"{prefix}_wa"] == pytest.approx(accuracy_score(true, said))
            assert figures[f"{prefix}_uar"] == pytest.approx(balanced_accuracy_score(true, said))
        for row in rows:
            assert float(row["p_angry"]) + float(row["p_sad"]) == pytest.approx(1, abs=1e-5)
            assert (float(row["p_angry"]) >= float(row["p_sad"])) == (row["predicted"] == "angry")


def test_the_same_call_again_does_nothing(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, numbers_before = times_of_change(done), all_numbers(done)
    monkeypatch.setattr(work_module, "Trainer", None)
    assert experiment(done, "--epochs", "3") == 0
    assert times_of_change(done) == before
    assert all_numbers(done) == numbers_before


def test_config_yaml_makes_the_same_run_again(done: Path, tmp_path: Path, cli: Any) -> None:
    again = tmp_path / "again"
    cli("experiment", "--config", done / "config.yaml", "--out", again)
    assert all_numbers(again) == all_numbers(done)
    cli("experiment", "--config", done / "config.yaml")


def test_a_run_keeps_to_its_corpus_and_settings(done: Path, tmp_path: Path, cli: Any) -> None:
    before = all_numbers(done)
    assert experiment(done, "--epochs", "3", "--emotions", "sad,angry") == 0  # the same two in another order
    other = flags(done, "--epochs", "3", source=("--manifest", str(table(tmp_path))))
    seed, deltas = (flags(done, "--epochs", "3", *more) for more in (("--split-seed", "1"), ("--features.deltas", "1")))
    for words in (seed, deltas, other):
        assert "Choose another --out." in cli("experiment", *words, code=2)[1]
    assert all_numbers(done) == before


def test_one_failing_cell_does_not_stop_the_rest(tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    more = ("--epochs", "1", "--seeds", "2", "--systems", "ser,dat")
    one_epoch = Trainer._one_epoch

    def fail_for_one(self: Trainer) -> None:
        if self.folder.name.startswith("dat-fold0-seed1"):
            raise MemoryError("no room")
        one_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_epoch", fail_for_one)
        _, err = cli("experiment", *flags(out, *more), code=1)
    assert "dat-fold0-seed1" in err
    assert "no room" in err
    assert len(rows_of(out / "results.csv")) == 3
    line = next(line for line in (out / "table.md").read_text().splitlines() if line.startswith("| SER_SR_DAT"))
    assert line.endswith("| 1/2 |")
    assert "± –" in line  # the complete seed alone
    before = times_of_change(out)
    assert experiment(out, *more) == 0
    after = times_of_change(out)
    assert {path: after[path] for path in before} == before
    assert all("dat-fold0-seed1" in path for path in after if path not in before)
    assert len(rows_of(out / "results.csv")) == 4


def test_the_proof_says_what_the_numbers_stand_on(done: Path) -> None:
    proof = result(only(done, "cgt"))["proof"]
    train = [row for row in rows_of(done / "splits.csv") if row["part"] == "train"]
    assert proof["train_utterances"] == len(train) == 8
    assert proof["train_speakers"] == sorted({row["speaker"] for row in train})
    assert proof["train_emotions"] == {"angry": 4, "sad": 4}
    assert proof["versions"].keys() >= {"unheard", "python", "torch", "numpy"}


def test_no_speaker_head_is_in_a_model(done: Path) -> None:
    from safetensors import safe_open

    for system in STRATEGIES:
        with safe_open(only(done, system) / "model.safetensors", framework="np") as file:
            assert {name.split(".")[0] for name in file.keys()} == {"embed", "emotion", "normaliser"}  # noqa: SIM118


def test_a_cells_hash_follows_all_that_decides_its_numbers(done: Path) -> None:
    settings = load(done / "config.yaml")
    base = {cell.system: cell.digest for cell in make_plan(settings).cells}

    def changed(**changes: Any) -> dict[str, str]:
        return {cell.system: cell.digest for cell in make_plan(load(done / "config.yaml", changes)).cells}

    for changes in ({"epochs": 9}, {"seeds": 2}, {"workers": 2}, {"logger": ("tensorboard",)}, {"progress": False}):
        assert changed(**changes) == base
    others = (
        {"training": {"lr": 0.5}},
        {"network": {"padding": "same"}},
        {"normalise": "speaker"},
        {"protocol": "random"},
    )
    for changes in others:
        assert not set(changed(**changes).values()) & set(base.values())
    dat = changed(options={"dat": {"lam": 0.7}})
    assert {system for system in base if dat[system] != base[system]} == {"dat"}


def test_a_store_that_another_experiment_rebuilt_is_noticed(tmp_path: Path) -> None:
    """The same ids, other recordings: what is trained on now would not be what the proof says."""
    manifest = table(tmp_path)
    settings = load(None, {"manifest": str(manifest), "out": str(tmp_path / "a"), "store": str(tmp_path / "store"),
                           "emotions": "angry,sad", "systems": "ser", "epochs": 1, "progress": False})  # fmt: skip
    (first, *_) = make_plan(settings).cells
    first.check(FeatureStore(first.store))
    other = table(tmp_path, audio=lambda row: noisy(Path(row["audio"]), tmp_path / "noisy"))
    make_plan(replace(settings, manifest=str(other), out=str(tmp_path / "b")))
    with pytest.raises(TrainingError, match="have changed since the experiment was planned"):
        run_cell(first)


def noisy(path: Path, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    samples, rate = soundfile.read(path)
    soundfile.write(folder / path.name, samples + np.random.default_rng(0).normal(0, 0.01, len(samples)), rate)
    return str(folder / path.name)


def test_epsilon_counts_in_deviations_of_what_the_network_sees(tmp_path: Path) -> None:
    source = {"corpus": "synthetic", "root": str(corpus()), "out": str(tmp_path), "emotions": "angry,sad"}
    settings = load(None, {**source, "systems": "cgt", "normalise": "sliding", "recipe": "paper", "progress": False})
    (cell,) = make_plan(settings).cells
    (trainer,), normaliser, _ = make_trainers(cell)
    store = FeatureStore(cell.store)
    seen = np.concatenate([normaliser.apply(store[name]) for name in cell.fold.train]).astype(np.float64)
    np.testing.assert_allclose(trainer.strategy.input_std.numpy(), seen.std(axis=0), rtol=1e-4)


def test_tables_in_memory(tmp_path: Path) -> None:
    """A Manifest and a DataFrame give the cells of the file that they come from."""
    pandas = pytest.importorskip("pandas")
    path = table(tmp_path)
    tables = {"file": path, "manifest": unheard.read_manifest(path), "frame": pandas.read_csv(path)}
    how = {"recipe": "paper", "emotions": "angry,sad", "systems": "ser", "epochs": 1, "folds": 1, "progress": False}
    names = set()
    for name, given in tables.items():
        run = unheard.experiment(manifest=given, out=tmp_path / name, root=path.parent, **how)
        assert not run.failed
        assert bool(load(run.folder / "config.yaml").root) == (name == "file")  # those written have whole paths
        names.add(only(run.folder).name)
    assert len(names) == 1
    with pytest.raises(ConfigError, match="out=FOLDER"):
        unheard.experiment(tmp_path / "frame" / "config.yaml", manifest=tables["frame"])


def test_networks_trained_apart_are_joined_in_one(tmp_path: Path) -> None:
    """The model's file has the mean of their logits; the first is the one that is trained alone; all are continued."""
    alone, joined, recipe = tmp_path / "alone", tmp_path / "joined", tmp_path / "recipe.yaml"
    recipe.write_text("{network: {tdnn: [], lstm: 0, hidden: [0], dense: 8, members: 2}, training: {select: last}}")
    how = ("--config", str(recipe), "--systems", "dat", "--epochs", "2")
    assert experiment(alone, *how) == experiment(joined, *how, "--training.networks", "3") == 0
    cell = only(joined)
    models = [torch.load(folder / "checkpoint.pt", weights_only=True)["weights"] for folder in networks_of(cell)]
    single = torch.load(only(alone) / "checkpoint.pt", weights_only=True)["weights"]
    assert all(torch.equal(single[name], models[0][name]) for name in single)
    assert not torch.equal(models[1]["embed.dense.affine.weight"], models[2]["embed.dense.affine.weight"])
    store, model = FeatureStore(joined / "features"), Model.load(cell)
    assert (model.settings.dense, model.settings.members) == (24, 6)
    apart = [Model.of(weights, Model.load(only(alone)).settings, model.labels, model.normaliser, model.features)
             for weights in models]  # fmt: skip
    embeddings = np.load(cell / "embeddings.npz")["e"]
    for row, e in zip(rows_of(cell / "predictions.csv"), embeddings, strict=True):
        x = torch.from_numpy(model.normaliser.apply(store[row["id"]]))[None]
        logits, embedding = model.network.logits(x, torch.tensor([x.shape[1]]))
        mean = torch.stack([one.network.logits(x, torch.tensor([x.shape[1]]))[0] for one in apart]).mean(0)
        torch.testing.assert_close(logits, mean)
        np.testing.assert_allclose(embedding[0].detach(), e, atol=1e-5)
        assert float(row["p_angry"]) == pytest.approx(logits.softmax(1)[0, 0].item(), abs=1e-5)
    assert side_by_side([torch.zeros(0, 16)] * 3).shape == (0, 48)  # where nobody validates
    before = all_numbers(joined)
    for name in ("result.json", "networks/2/checkpoint.pt"):  # as if killed while the last one was trained
        (cell / name).unlink()
    assert experiment(joined, *how, "--training.networks", "3") == 0
    assert all_numbers(joined) == before


def networks_of(cell: Path) -> list[Path]:
    return [cell, *sorted((cell / "networks").iterdir())]


def test_networks_of_layers_that_cannot_be_joined(tmp_path: Path, cli: Any) -> None:
    said = cli("experiment", *flags(tmp_path, "--training.networks", "2"), code=2)[1]
    assert "2 networks can be joined only where one dense layer is between features and linear heads" in said
