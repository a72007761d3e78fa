"""Experiments on a handful of invented voices: what is done once, what continues, what is paired, what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from experimenting import (
    all_numbers,
    cells,
    corpus,
    experiment,
    history,
    in_this_process,
    numbers,
    result,
    rows_of,
    table,
    times_of_change,
    write_rows,
)

from unheard.cli import main
from unheard.experiments import run as run_module
from unheard.experiments import work as work_module
from unheard.experiments.grid import lay_out
from unheard.experiments.settings import load
from unheard.training import trainer as trainer_module
from unheard.training.strategies import STRATEGIES
from unheard.training.trainer import Trainer


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four systems after three epochs."""
    out = tmp_path_factory.mktemp("done") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "run_cells", in_this_process)
        assert experiment(out, "--epochs", "3") == 0
    return out


def only(run: Path, start: str = "") -> Path:
    """The one cell whose name begins with `start`."""
    (folder,) = [folder for name, folder in cells(run).items() if name.startswith(start)]
    return folder


def test_everything_that_is_promised_is_there(done: Path) -> None:
    assert {p.name for p in done.iterdir()} >= {
        "config.yaml", "splits.csv", "cells", "results.csv", "table.md", "table.tex",
    }  # fmt: skip
    assert [name.split("-")[:3] for name in cells(done)] == [
        [k, "fold0", "seed0"] for k in ("cgt", "dat", "mtl", "ser")
    ]
    for folder in cells(done).values():
        assert {p.name for p in folder.iterdir()} >= {
            "result.json", "history.jsonl", "predictions.csv", "embeddings.npz", "model.safetensors",
        }  # fmt: skip
    header = (done / "results.csv").read_text().splitlines()[0].split(",")
    assert header[:10] == [
        "system", "fold", "seed", "val_wa", "val_uar", "test_wa", "test_uar", "best_epoch", "n_val", "n_test",
    ]  # fmt: skip
    assert header[-2:] == ["frames_per_second", "train_seconds"]
    assert [row["system"] for row in rows_of(done / "results.csv")] == ["ser", "mtl", "dat", "cgt"]
    predictions = (only(done, "ser") / "predictions.csv").read_text().splitlines()
    assert predictions[0] == "id,speaker,part,emotion,predicted,p_angry,p_sad"
    assert len(predictions) == 1 + 8 + 8


def test_figures_follow_from_the_predictions(done: Path) -> None:
    for folder in cells(done).values():
        rows = rows_of(folder / "predictions.csv")
        for part, prefix in (("dev", "val"), ("test", "test")):
            own = [row for row in rows if row["part"] == part]
            right = [row["predicted"] == row["emotion"] for row in own]
            assert result(folder)[f"{prefix}_wa"] == pytest.approx(sum(right) / len(right))
            recalls = []
            for label in ("angry", "sad"):
                said = [row["predicted"] == label for row in own if row["emotion"] == label]
                recalls.append(sum(said) / len(said))
            assert result(folder)[f"{prefix}_uar"] == pytest.approx(sum(recalls) / 2)
        for row in rows:
            assert float(row["p_angry"]) + float(row["p_sad"]) == pytest.approx(1, abs=1e-5)
            assert (float(row["p_angry"]) >= float(row["p_sad"])) == (row["predicted"] == "angry")


def test_training_learns_so_that_comparing_numbers_means_something(done: Path) -> None:
    losses = [record["loss_emotion"] for record in history(only(done, "ser"))]
    assert len(set(losses)) == 3
    assert losses[-1] < losses[0]


def test_the_same_call_again_does_nothing(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, numbers_before = times_of_change(done), all_numbers(done)
    monkeypatch.setattr(work_module, "Trainer", None)
    assert experiment(done, "--epochs", "3") == 0
    assert times_of_change(done) == before
    assert all_numbers(done) == numbers_before


def test_a_longer_run_continues_a_shorter_one_and_equals_it(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for epochs in ("1", "3"):
        assert experiment(out, "--epochs", epochs) == 0
    assert all_numbers(out) == all_numbers(done)
    for folder in cells(out).values():
        assert sorted(p.name for p in (folder / "readouts").iterdir()) == ["00001"]


def test_a_shorter_result_is_kept_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, short = tmp_path / "run", tmp_path / "short"
    one = ("--systems", "dat", "--epochs")
    assert experiment(out, *one, "1") == 0
    first = all_numbers(out)
    assert experiment(out, *one, "3") == 0
    long = all_numbers(out)
    monkeypatch.setattr(work_module, "Trainer", None)
    assert experiment(out, *one, "1") == 0
    assert (out / "table.md").read_text() == first["table.md"]
    assert rows_of(out / "results.csv")[0]["epochs"] == "1"
    assert experiment(out, *one, "3") == 0
    assert all_numbers(out) == long
    monkeypatch.undo()
    monkeypatch.setattr(run_module, "run_cells", in_this_process)
    assert experiment(short, *one, "1") == 0
    assert numbers(only(out) / "readouts" / "00001", whole=False) == numbers(only(short), whole=False)


def test_readouts_equal_separate_short_runs(done: Path, tmp_path: Path) -> None:
    out, short = tmp_path / "run", tmp_path / "short"
    assert experiment(out, "--epochs", "3", "--training.readouts", "1,2") == 0
    assert experiment(short, "--epochs", "2") == 0
    for name, folder in cells(out).items():
        readout, alone = numbers(folder / "readouts" / "00002", whole=False), numbers(cells(short)[name], whole=False)
        readout["result"]["settings"]["recipe"] = alone["result"]["settings"]["recipe"] = {}
        assert readout == alone
        long = numbers(folder)
        long["result"]["settings"]["recipe"]["readouts"] = []
        assert long == numbers(cells(done)[name])


def test_what_an_interrupted_cell_has_done_is_not_done_again(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after every epoch, each time in another process's shoes: bit for bit the same."""
    out = tmp_path / "run"
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", 0)
    epochs: list[int] = []
    one_epoch = Trainer._one_epoch

    def stop_after_one(self: Trainer) -> None:
        if self.epoch == len(epochs):
            one_epoch(self)
            epochs.append(self.epoch)
            return
        raise KeyboardInterrupt

    for _ in range(3):
        monkeypatch.setattr(Trainer, "_one_epoch", stop_after_one)
        code = experiment(out, "--epochs", "3", "--systems", "cgt")
        assert code == (0 if len(epochs) == 3 else 130)
    assert epochs == [1, 2, 3]
    name = only(out).name
    assert numbers(only(out)) == numbers(cells(done)[name])


@pytest.mark.parametrize("steps", [0, 2, 3, 4])
def test_killed_while_a_shorter_result_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """After any number of its steps the result is still to be had, and whole; the longer training goes on."""
    out, one = tmp_path / "run", ("--systems", "ser", "--epochs")
    assert experiment(out, *one, "1") == 0
    first = numbers(only(out), whole=False)
    replace, left = Path.replace, list(range(steps))

    def until(self: Path, target: Path) -> Path:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until)
        if steps < 4:
            with pytest.raises(KeyboardInterrupt):
                work_module._set_apart(only(out), 1)
        else:
            work_module._set_apart(only(out), 1)
    with monkeypatch.context() as patch:
        patch.setattr(work_module, "Trainer", None)
        assert experiment(out, *one, "1") == 0
    assert experiment(out, *one, "2") == 0
    assert numbers(only(out) / "readouts" / "00001", whole=False) == first
    assert result(only(out))["epochs"] == 2


def test_a_shorter_result_that_was_never_read_out_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "2") == 0
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "1") == 1
    assert "trained to 2 epochs and was not read out at 1" in capsys.readouterr().err
    assert "| 0/1 |" in (tmp_path / "run" / "table.md").read_text()


def test_a_schedule_over_the_whole_training_is_not_continued(tmp_path: Path) -> None:
    """λ follows the share of the training that is done, so that a longer one is another training."""
    for option in ("dat.schedule=ganin", "dat.warmup=0.5"):
        out, alone = tmp_path / f"run-{option}", tmp_path / f"alone-{option}"
        one = ("--systems", "dat", "--option", option, "--epochs")
        assert experiment(out, *one, "1") == 0
        assert experiment(out, *one, "2") == 0
        assert len(cells(out)) == 2
        assert experiment(alone, *one, "2") == 0
        (name,) = cells(alone)
        assert numbers(cells(out)[name]) == numbers(cells(alone)[name])


def test_results_do_not_depend_on_which_other_systems_run_or_in_which_order(done: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    assert experiment(some, "--epochs", "3", "--systems", "cgt,ser") == 0
    for name, folder in cells(some).items():
        assert numbers(folder) == numbers(cells(done)[name])
    assert "SER_only" in (some / "table.md").read_text().split("SER_SR_CGT")[0]


def test_systems_are_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One embedding and emotion head to begin with, one order of batches: the fold's and the seed's."""
    seen: dict[tuple[str, int, int], tuple[dict[str, Any], list[Any]]] = {}
    init, epoch = Trainer.__init__, trainer_module.Task.epoch
    drawn: list[Any] = []

    def spy(self: Trainer, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        system, fold, seed, _ = self.folder.name.split("-")
        weights = {k: v.clone() for k, v in self.strategy.state_dict().items() if k.startswith(("embed.", "emotion."))}
        drawn.clear()
        seen[system, int(fold[-1]), int(seed[-1])] = weights, []
        self.batches = seen[system, int(fold[-1]), int(seed[-1])][1]  # type: ignore[attr-defined]

    def spied_epoch(self: Any, ids: Any, size: int, *seed: object) -> Any:
        for batch in epoch(self, ids, size, *seed):
            drawn.append(batch.x.numpy().tobytes())
            yield batch

    save = Trainer.save

    def spied_save(self: Trainer) -> None:
        self.batches.extend(drawn)  # type: ignore[attr-defined]
        drawn.clear()
        save(self)

    monkeypatch.setattr(Trainer, "__init__", spy)
    monkeypatch.setattr(Trainer, "save", spied_save)
    monkeypatch.setattr(trainer_module.Task, "epoch", spied_epoch)
    paired = ("--protocol", "loso", "--folds", "2", "--seeds", "2", "--epochs", "2")
    assert experiment(tmp_path / "run", *paired) == 0
    assert len(seen) == 4 * 2 * 2
    for fold in (0, 1):
        for seed in (0, 1):
            weights, batches = seen["ser", fold, seed]
            assert batches
            for system in ("mtl", "dat", "cgt"):
                theirs, order = seen[system, fold, seed]
                assert theirs.keys() == weights.keys()
                assert all(torch.equal(theirs[name], weights[name]) for name in weights)
                assert order == batches
    some = "embed.dense.linear.weight"
    key = some if some in seen["ser", 0, 0][0] else next(k for k in seen["ser", 0, 0][0] if k.endswith("weight"))
    first = seen["ser", 0, 0]
    for other in (seen["ser", 0, 1], seen["ser", 1, 0]):
        assert not torch.equal(other[0][key], first[0][key])
        assert other[1] != first[1]


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
        readings = result(both)["readings"]
        for test, folder in (("male", male), ("female", female)):
            assert readings[test] == result(folder)["readings"][test]
        assert result(both)["n_test"] == 8
        right = sum(row["predicted"] == row["emotion"] for row in rows if row["part"] == "test")
        assert result(both)["test_wa"] == pytest.approx(right / 8)
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
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "1", "--protocol", "loso", "--folds", "1",
                      source=source) == 0  # fmt: skip
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


def test_config_yaml_makes_the_same_run_again(done: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["experiment", "--config", str(done / "config.yaml"), "--out", str(again)]) == 0
    assert all_numbers(again) == all_numbers(done)
    assert main(["experiment", "--config", str(done / "config.yaml")]) == 0


def test_a_run_keeps_to_its_corpus_and_settings(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = all_numbers(done)
    other = table(tmp_path)
    assert experiment(done, "--epochs", "3", "--emotions", "sad,angry") == 0  # the same two in another order
    for more, source in (
        (("--split-seed", "1"), ()),
        (("--features.deltas", "1"), ()),
        ((), ("--manifest", str(other))),
    ):
        assert experiment(done, "--epochs", "3", *more, source=source) == 2
        assert "Choose another --out." in capsys.readouterr().err
    assert all_numbers(done) == before


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}", '{"epochs": "many"}'])
def test_a_damaged_result_is_made_again(done: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(done, out)
    folder = only(out, "mtl")
    (folder / "result.json").write_text(damage)
    code = experiment(out, "--epochs", "3")
    assert code == 0
    assert all_numbers(out) == all_numbers(done)


@pytest.mark.parametrize("name", ["predictions.csv", "embeddings.npz", "model.safetensors"])
def test_a_lost_file_of_a_result_is_made_again(done: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(done, out)
    (only(out, "mtl") / name).unlink()
    assert experiment(out, "--epochs", "3") == 0
    assert all_numbers(out) == all_numbers(done)


def test_a_published_run_counts_with_results_and_predictions_alone(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(done, out)
    for name in ("checkpoint.pt", "embeddings.npz", "model.safetensors", "history.jsonl"):
        for path in out.glob(f"cells/*/{name}"):
            path.unlink()
    assert experiment(out, "--epochs", "3") == 0
    assert not list(out.glob("cells/*/model.safetensors"))  # nothing was trained again
    assert rows_of(out / "results.csv") == rows_of(done / "results.csv")


def test_a_damaged_checkpoint_is_named(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    shutil.copytree(done, out)
    checkpoint = only(out, "dat") / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert experiment(out, "--epochs", "3") == 0  # it is not needed any more
    assert experiment(out, "--epochs", "4") == 1
    said = capsys.readouterr().err
    assert str(checkpoint) in said
    assert "Delete it" in said
    assert [row["system"] for row in rows_of(out / "results.csv")] == ["ser", "mtl", "cgt"]
    checkpoint.unlink()
    assert experiment(out, "--epochs", "4") == 0
    assert len(rows_of(out / "results.csv")) == 4


def test_a_damaged_config_is_named(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("a: [", "corpsu: emodb\n", "- 1\n", "epochs: many\n", "\x00"):
        out = tmp_path / "run"
        shutil.copytree(done, out)
        (out / "config.yaml").write_text(text)
        assert experiment(out, "--epochs", "3") == 2
        said = capsys.readouterr().err
        assert str(out / "config.yaml") in said
        assert len(said.splitlines()) == 1
        shutil.rmtree(out)


def test_one_failing_cell_does_not_stop_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    more = ("--epochs", "1", "--seeds", "2", "--systems", "ser,dat")
    one_epoch = Trainer._one_epoch

    def fail_for_one(self: Trainer) -> None:
        if self.folder.name.startswith("dat-fold0-seed1"):
            raise MemoryError("no room")
        one_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_epoch", fail_for_one)
        assert experiment(out, *more) == 1
    said = capsys.readouterr()
    assert "dat-fold0-seed1" in said.err
    assert "no room" in said.err
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


def test_a_learning_rate_beyond_sense_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "3", "--training.lr", "1e30") == 1
    said = capsys.readouterr().err
    assert "Lower the learning rate" in said
    assert "Traceback" not in said
    assert "| 0/1 |" in (tmp_path / "run" / "table.md").read_text()
    assert rows_of(tmp_path / "run" / "results.csv") == []


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
    base = {cell.system: cell.digest for cell in lay_out(settings).cells}

    def changed(**changes: Any) -> dict[str, str]:
        return {cell.system: cell.digest for cell in lay_out(load(done / "config.yaml", changes)).cells}

    for changes in ({"epochs": 9}, {"seeds": 2}, {"workers": 2}, {"tensorboard": True}, {"progress": False}):
        assert changed(**changes) == base
    for changes in (
        {"training": {"lr": 0.5}},
        {"network": {"padding": "same"}},
        {"normalise": "speaker"},
        {"protocol": "random"},
    ):
        assert not set(changed(**changes).values()) & set(base.values())
    dat = changed(options={"dat": {"lam": 0.7}})
    assert {system for system in base if dat[system] != base[system]} == {"dat"}


def test_python_speaks_as_the_command_line_does(done: Path, tmp_path: Path) -> None:
    import unheard

    run = unheard.experiment(done / "config.yaml", out=str(tmp_path / "run"), systems=["ser"])
    assert run.failed == {}
    assert numbers(only(tmp_path / "run")) == numbers(only(done, "ser"))
    assert [line.system for line in run.records.lines] == ["ser"]


def test_normalising_by_speaker_is_marked(tmp_path: Path) -> None:
    assert experiment(tmp_path / "run", "--systems", "ser", "--epochs", "1", "--normalise", "speaker") == 0
    assert "transductive" in (tmp_path / "run" / "table.md").read_text()
    assert result(only(tmp_path / "run"))["settings"]["transductive"] is True
