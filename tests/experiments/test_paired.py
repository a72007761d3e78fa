"""What is the same for all systems, who is tested and when, and what the adversary works on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from experimenting import cells, corpus, experiment, numbers, only, result, rows_of, table, write_rows

from unheard.experiments import cell as work_module
from unheard.training.trainer import Trainer


def test_results_do_not_depend_on_which_other_systems_run_or_in_which_order(done: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    assert experiment(some, "--epochs", "3", "--systems", "cgt,ser") == 0
    for name, folder in cells(some).items():
        assert numbers(folder) == numbers(cells(done)[name])
    assert "SER_only" in (some / "table.md").read_text().split("SER_SR_CGT")[0]


def test_systems_are_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One embedding and emotion head to begin with, one order of batches: the fold's and the seed's."""
    seen: dict[tuple[str, str, str], tuple[dict[str, Any], list[bytes]]] = {}
    run = Trainer.run

    def spied(self: Trainer, until: int) -> Any:
        system, fold, seed, _ = self.folder.name.split("-")
        weights = {k: v.clone() for k, v in self.strategy.state_dict().items() if k.startswith(("embed.", "emotion."))}
        batches = self.dataset.epoch(self.train_ids, self.recipe.batch_size, *self.key, 1)
        seen[system, fold, seed] = weights, [batch.x.numpy().tobytes() for batch in batches]
        return run(self, until)

    monkeypatch.setattr(Trainer, "run", spied)
    assert experiment(tmp_path / "run", "--protocol", "loso", "--folds", "2", "--seeds", "2", "--epochs", "1") == 0
    assert len(seen) == 4 * 2 * 2
    for (system, fold, seed), (weights, batches) in seen.items():
        expected, order = seen["ser", fold, seed]
        assert (weights.keys(), batches) == (expected.keys(), order), system
        assert all(torch.equal(weights[name], expected[name]) for name in weights)
    first = seen["ser", "fold0", "seed0"]
    others = [seen["ser", fold, seed] for fold, seed in (("fold0", "seed1"), ("fold1", "seed0"))]
    key = next(name for name in first[0] if name.endswith("weight"))
    assert all(not torch.equal(weights[key], first[0][key]) and batches != first[1] for weights, batches in others)


def test_paired_both_is_one_training_read_twice(tmp_path: Path) -> None:
    runs = {test: tmp_path / test for test in ("both", "male", "female")}
    for test, out in runs.items():
        assert experiment(out, "--protocol", "paired", "--test", test, "--folds", "2", "--epochs", "3",
                          "--systems", "ser,dat") == 0  # fmt: skip
        assert len(cells(out)) == 4
    gender = {row["speaker"]: row["gender"] for row in rows_of(corpus() / "manifest.csv")}
    for both in cells(runs["both"]).values():
        rows = rows_of(both / "predictions.csv")
        assert len(rows) == 16
        assert set(Counter((row["id"], row["part"]) for row in rows).values()) == {1}
        assert {part for _, part in Counter((row["id"], row["part"]) for row in rows)} == {"dev", "test"}
        assert len({row["speaker"] for row in rows}) == 2
        start = both.name.rpartition("-")[0]
        male, female = (only(runs[test], start) for test in ("male", "female"))
        apart = {(test, part): [r for r in rows_of(folder / "predictions.csv") if r["part"] == part]
                 for test, folder in (("male", male), ("female", female)) for part in ("dev", "test")}  # fmt: skip
        assert rows == [row for test in ("male", "female") for part in ("dev", "test") for row in apart[test, part]]
        assert {gender[row["speaker"]] for row in apart["male", "test"]} == {"male"}
        assert {gender[row["speaker"]] for row in apart["female", "dev"]} == {"male"}
        directions = result(both)["directions"]
        for test, folder in (("male", male), ("female", female)):
            assert directions[test] == result(folder)["directions"][test]
        models = {path.name: path.read_bytes() for path in both.glob("model*")}
        assert set(models) == {"model.safetensors", "model-female.safetensors"}


def test_the_test_is_scored_once_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    score, one_epoch = Trainer._score, Trainer._one_epoch
    test = {row["id"] for row in rows_of(corpus() / "manifest.csv") if row["part"] == "test"}

    def spied_score(self: Trainer, ids: Any) -> Any:
        assert set(ids) <= test or not set(ids) & test
        order.append("test" if set(ids) & test else "dev")
        return score(self, ids)

    def spied_epoch(self: Trainer) -> None:
        order.append("epoch")
        one_epoch(self)

    monkeypatch.setattr(Trainer, "_score", spied_score)
    monkeypatch.setattr(Trainer, "_one_epoch", spied_epoch)
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "3") == 0
    assert order == ["epoch", "dev"] * 3 + ["dev", "test"]


def test_the_adversary_works_on_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its classes are the values of that column in training, whatever the column is called."""
    counts: list[int] = []
    build = work_module.build

    def spy(key: str, setting: Any, options: Any) -> Any:
        counts.append(setting.speakers)
        return build(key, setting, options)

    monkeypatch.setattr(work_module, "build", spy)
    source = ("--manifest", str(table(tmp_path, session=lambda row: "")))
    rows = rows_of(tmp_path / "manifest.csv")
    place = {speaker: i for i, speaker in enumerate(sorted({row["speaker"] for row in rows}))}

    def rooms(*names: str) -> None:
        for row in rows:
            row["room"] = names[place[row["speaker"]]]
        write_rows(tmp_path / "manifest.csv", rows)

    rooms("hall", "hall", "hall", "attic", "attic", "cellar")
    more = ("--group", "room", "--protocol", "random", "--systems", "dat", "--epochs", "1")
    assert experiment(tmp_path / "three", *more, source=source) == 0
    rooms("hall", "hall", "attic", "cellar", "kitchen", "kitchen")
    assert experiment(tmp_path / "four", *more, source=source) == 0
    assert counts == [1, 2]


def test_other_groups_are_another_training(tmp_path: Path) -> None:
    """Though everything else about the utterances is the same."""
    fold = {"s1": "train", "s2": "train", "s3": "dev", "s4": "dev", "s5": "test", "s6": "test"}
    names = []
    for room in ("hall", "attic"):
        path = table(tmp_path, place=lambda row: fold[row["speaker"]],
                     room=lambda row, room=room: room if row["speaker"] == "s1" else row["speaker"])  # fmt: skip
        source = ("--manifest", str(path), "--protocol", "given", "--column", "place", "--group", "room")
        arguments = ("--systems", "dat", "--epochs", "1")
        assert experiment(tmp_path / "run", *arguments, source=source) == 0
        names.append(set(cells(tmp_path / "run")))
    assert (len(names[0]), len(names[1])) == (1, 2)
