"""Records of run folders: hand-made ones whose answers can be seen, and a small real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from experimenting import cells, experiment, in_this_process, rows_of, table
from recording import rows_of_cell, write_cell, write_run

from unheard.errors import RunError
from unheard.experiments import run as run_module
from unheard.experiments.records import NAMES, read_run
from unheard.experiments.selection import ADDED, SEEN
from unheard.files import write_json
from unheard.splits import read_splits
from unheard.training.strategies import STRATEGIES, resolve_options


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "run_cells", in_this_process)


def test_pooled_over_utterances_not_over_folds(tmp_path: Path) -> None:
    """3 of 4 in one fold, 0 of 1 in the other: 3 of 5 are right. Angry 2 of 3, sad 1 of 2."""
    run = read_run(write_run(tmp_path, {("ser", 0, 0): "aa aa as ss", ("ser", 1, 0): "sa"}, systems="ser"))
    (line,) = run.lines
    (seed,) = line.seeds
    assert seed.test.wa == pytest.approx(3 / 5)
    assert seed.test.uar == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert seed.test.wa_of_folds == pytest.approx((3 / 4 + 0) / 2)
    assert seed.test.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)  # angry 2·2/(3 + 3), sad 2·1/(2 + 2)
    assert seed.dev.wa == pytest.approx(1 / 2)
    assert seed.test.confusion(2).tolist() == [[2, 1], [1, 1]]
    assert seed.test.ids == ("test0-0", "test0-1", "test0-2", "test0-3", "test1-0")
    assert seed.test.speakers == ("test-speaker0",) * 4 + ("test-speaker1",)
    assert seed.test.folds.tolist() == [0, 0, 0, 0, 1]
    assert seed.test.probabilities[2].tolist() == [0.25, 0.75]
    assert (line.done, line.wanted, line.name) == (2, 2, "SER_only")
    assert [cell.name for cell in seed.cells] == ["ser-fold0-seed0-0", "ser-fold1-seed0-0"]


def test_cells_of_earlier_calls_count_too(tmp_path: Path) -> None:
    """The last call named one system and one seed; what else is there is shown, wanted with as many seeds."""
    said = {("cgt", 0, 0): "aa", ("ser", 0, 0): "aa", ("ser", 0, 1): "as", ("ser", 0, 2): "aa"}
    run = read_run(write_run(tmp_path, said, systems="dat", seeds=2))
    assert [(line.name, line.done, line.wanted) for line in run.lines] == [
        ("SER_only", 3, 3),
        ("SER_SR_DAT", 0, 2),
        ("SER_SR_CGT", 1, 1),
    ]
    assert len(run.cells) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 50},
        {"emotions": "angry,happy,sad"},
        {"group": "room"},
        {"normalise": "speaker"},
        {"network": {"dropout": 0.1}},
        {"network": {"lstm": 128}},
        {"training": {"lr": 0.1}},
        {"options": {"ser": {"some": 1}}},
    ],
)
def test_cells_of_other_settings_do_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    out = write_run(tmp_path, {("ser", 0, 0): "aa"}, systems="ser")
    assert len(read_run(out).cells) == 1
    if "options" in changes:
        path = next(out.glob("cells/*/result.json"))
        result = json.loads(path.read_text())
        result["settings"]["options"] = {"some": 2}
        path.write_text(json.dumps(result))
    settings = yaml.safe_load((out / "config.yaml").read_text())
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    run = read_run(out)
    assert (run.cells, run.lines[0].done) == ((), 0)


def test_settings_that_decide_no_number_do_not_matter(tmp_path: Path) -> None:
    out = write_run(tmp_path, {("dat", 0, 0): "aa"}, systems="dat")
    settings = yaml.safe_load((out / "config.yaml").read_text())
    settings |= {
        "workers": 3,
        "device": "cpu",
        "progress": False,
        "options": {"dat": {"cap": float("inf"), "lam": 0.1}},
    }
    settings["training"]["report_epochs"] = [3]
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    assert len(read_run(out).cells) == 1  # JSON knows no infinity: an old result says null


@pytest.mark.parametrize("damage", ["other id", "one more", "one less", "cut short", "result"])
def test_cells_of_other_utterances_or_damaged_do_not_count(tmp_path: Path, damage: str) -> None:
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss"}, systems="ser")
    folder = next((out / "cells").iterdir())
    path = folder / "predictions.csv"
    text = path.read_text()
    path.write_text(
        {
            "other id": text.replace("test0-1", "test0-7"),
            "one more": text + text.splitlines()[-1].replace("test0-1", "test0-2") + "\n",
            "one less": "\n".join(text.splitlines()[:-1]) + "\n",
            "cut short": text[:-8],
        }.get(damage, text)
    )
    if damage == "result":
        (folder / "result.json").write_text("{")
    assert read_run(out).cells == ()


def test_the_order_is_the_splits(tmp_path: Path) -> None:
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss as"}, systems="ser")
    path = next(out.glob("cells/*/predictions.csv"))
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")
    (seed,) = read_run(out).lines[0].seeds
    assert seed.test.ids == ("test0-0", "test0-1", "test0-2")
    assert seed.test.predicted.tolist() == [0, 1, 1]


def test_where_data_changed_between_calls_those_of_now_count(tmp_path: Path) -> None:
    """Whatever the times of the files say: a copy of the folder, or a clone, comes to the same."""
    out = write_run(tmp_path, {("ser", 0, 0): "as"}, systems="ser,mtl")
    old = next(out.glob("cells/ser*/result.json"))
    settings = read_run(out).settings
    write_cell(out, settings, "mtl", 0, 0, rows_of_cell(0, {"dev": "aa sa", "test": "aa"}))
    new = old.parent.with_name("ser-fold0-seed0-1")
    shutil.copytree(old.parent, new)
    (new / "predictions.csv").write_text((new / "predictions.csv").read_text().replace("angry,sad", "angry,angry"))
    result = json.loads(old.read_text()) | {"proof": {"data": "changed"}}
    (new / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="fold 0 was trained on 2 versions of the data"):
        read_run(out)
    write_json(out / "data.json", {"0": "changed"})
    for earlier, later in ((old, new / "result.json"), (new / "result.json", old)):
        os.utime(earlier, (1, 1))
        os.utime(later, (2, 2))
        run = read_run(out)
        assert [(line.name, [seed.test.wa for seed in line.seeds]) for line in run.lines] == [
            ("SER_only", [1.0]),
            ("SER_SR_MTL", []),
        ]
        assert any("2 trainings on other data" in word for word in run.absent)


def test_trainings_of_an_earlier_format_gave_other_numbers_and_do_not_count(tmp_path: Path) -> None:
    """The same settings, and a folder that sorts last: its format alone says that it is no comparison."""
    out = write_run(tmp_path, {("ser", 0, 0): "as", ("mtl", 0, 0): "as"}, systems="ser,mtl")
    now = next(out.glob("cells/ser*/result.json"))
    old = now.parent.with_name("ser-fold0-seed0-ffffffff")
    shutil.copytree(now.parent, old)
    (old / "predictions.csv").write_text((old / "predictions.csv").read_text().replace("sad,sad", "sad,angry"))
    result = json.loads(now.read_text())
    now.write_text(json.dumps(result | {"proof": result["proof"] | {"format": 3}}))
    run = read_run(out)
    assert [(cell.system, cell.name) for cell in run.cells] == [("ser", now.parent.name)]
    assert [len(line.seeds) for line in run.lines] == [1, 0]
    assert any("2 trainings of an earlier version" in word for word in run.absent)


def test_systems_trained_on_other_data_are_not_compared(tmp_path: Path) -> None:
    """Even where each system is there once: its utterances are called the same, and are not."""
    out = write_run(tmp_path, {("ser", 0, 0): "as", ("ser", 1, 0): "aa"}, systems="ser,mtl")
    settings = read_run(out).settings
    rows = rows_of_cell(0, {"dev": "aa sa", "test": "aa"})
    same = read_run(out).cells[0].result["proof"]["data"]
    write_cell(out, settings, "mtl", 0, 0, rows, proof={"data": "changed"})
    write_json(out / "data.json", {"0": "changed", "1": same})
    run = read_run(out)
    assert [(cell.system, cell.fold) for cell in run.cells] == [("ser", 1), ("mtl", 0)]
    assert [len(line.seeds) for line in run.lines] == [0, 0]
    assert any("1 trainings on other data" in word for word in run.absent)


def test_names_are_the_strategies() -> None:
    known = [*((key, entry[0]) for key, entry in STRATEGIES.items()), ("svm", "SVM (functionals)")]
    assert list(NAMES.items()) == known


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        read_run(tmp_path)
    out = write_run(tmp_path / "run", {("ser", 0, 0): "aa"})
    for name, text in (
        ("splits.csv", "fold\n1\n"),
        ("splits.csv", ""),
        ("config.yaml", "- 1"),
        ("config.yaml", "x: 1"),
    ):
        before = (out / name).read_text()
        (out / name).write_text(text)
        with pytest.raises(RunError, match=name) as caught:
            read_run(out)
        assert caught.value.mend
        (out / name).write_text(before)


def test_records_load_no_torch() -> None:
    code = "import sys, unheard.experiments.records; assert not {'torch', 'sklearn', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_real_run(tmp_path: Path) -> None:
    """Both directions of two pairs, two seeds, in two calls; then an earlier readout."""
    out = tmp_path / "run"
    paired = ("--protocol", "paired", "--epochs", "2", "--training.report-epochs", "1")
    assert experiment(out, *paired, "--folds", "1", "--systems", "ser") == 0
    assert experiment(out, *paired, "--folds", "2", "--systems", "ser,dat") == 0
    run = read_run(out)
    assert run.absent == ()
    assert [(line.name, line.done, line.wanted) for line in run.lines] == [("SER_only", 2, 2), ("SER_SR_DAT", 2, 2)]
    assert {row["gender"] for row in run.utterances.values()} == {"female", "male"}
    assert set(run.utterances) == {row["id"] for row in rows_of(out / "utterances.csv")}
    for line in run.lines:
        (seed,) = line.seeds
        for part, prefix in ((seed.dev, "val"), (seed.test, "test")):
            each = [cell.result[f"{prefix}_wa"] for cell in seed.cells]
            assert part.wa == pytest.approx(np.mean(each))  # folds of one size
            assert part.wa_of_folds == pytest.approx(np.mean(each))
            assert np.allclose(part.probabilities.sum(axis=1), 1, atol=1e-5)
            assert part.readings == ("male",) * 4 + ("female",) * 4 + ("male",) * 4 + ("female",) * 4
            assert {run.utterances[name]["speaker"] for name in part.ids} == set(part.speakers)
        for cell in seed.cells:
            assert [record["epoch"] for record in cell.history()] == [1, 2]
            held = cell.embeddings()
            assert held is not None
            assert held[0].shape == (16, 512)
            assert set(held[2]) == {"dev", "test"}
    settings = yaml.safe_load((out / "config.yaml").read_text())
    (out / "config.yaml").write_text(yaml.safe_dump(settings | {"epochs": 1}))
    early = read_run(out)
    assert [line.done for line in early.lines] == [2, 2]
    assert [len(cell.history()) for cell in early.cells] == [1] * 4
    assert {cell.folder.name for cell in early.cells} == {"00001"}


def test_the_digest_is_the_splits(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert experiment(out, "--systems", "ser", "--epochs", "1") == 0
    from unheard.experiments.plan import read_rows

    run = read_run(out)
    assert run.split_digest == read_splits(out / "splits.csv", read_rows(run.settings)).digest
    assert run.split_digest == run.cells[0].result["proof"]["split"]


def test_a_published_run_is_read(tmp_path: Path) -> None:
    """Without utterances.csv, histories, embeddings and models: what is absent is said."""
    out = tmp_path / "run"
    assert experiment(out, "--systems", "ser", "--epochs", "1") == 0
    whole = read_run(out)
    (out / "utterances.csv").unlink()
    (folder,) = cells(out).values()
    for name in ("history.jsonl", "embeddings.npz", "checkpoint.pt", "model.safetensors"):
        (folder / name).unlink()
    run = read_run(out)
    assert run.lines[0].seeds[0].test.wa == whole.lines[0].seeds[0].test.wa
    assert {u["speaker"] for u in run.utterances.values()} == {u["speaker"] for u in whole.utterances.values()}
    for name in run.lines[0].seeds[0].test.ids:
        assert run.utterances[name]["emotion"] == whole.utterances[name]["emotion"]
        assert run.utterances[name]["gender"] == ""
    assert len(run.absent) == 3
    assert run.cells[0].history() == []
    assert run.cells[0].embeddings() is None


@pytest.mark.parametrize("more", [("--protocol", "kfold", "--k", "3"), ("--protocol", "loso"), ("--test", "male")])
def test_another_split_is_refused_more_folds_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    brief = ("--systems", "ser", "--epochs", "1")
    one = (*brief, "--protocol", "paired")
    assert experiment(out, *one, "--folds", "2") == 0
    before = (out / "splits.csv").read_text()
    assert experiment(out, *(brief if "--protocol" in more else one), *more) == 2
    assert f"a run with {more[0][2:]} = " in capsys.readouterr().err
    assert (out / "splits.csv").read_text() == before
    if more[0] == "--test":
        return
    assert experiment(out, *one, "--folds", "3") == 0
    assert "3 folds" in (out / "table.md").read_text()
    three = (out / "splits.csv").read_text()
    assert len(three) > len(before)
    assert experiment(out, *one, "--folds", "1") == 0  # fewer again: nothing is forgotten
    assert (out / "splits.csv").read_text() == three
    assert "3 folds" in (out / "table.md").read_text()
    assert len(rows_of(out / "results.csv")) == 3


def test_a_run_knows_which_labels_its_trainings_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels are mended for some of the folds: the others' trainings are of the old ones and wait to be done again."""
    out = tmp_path / "run"
    other = {"angry": "sad", "sad": "angry"}

    def run(folds: int, swap: bool = False) -> int:
        source = table(tmp_path, emotion=lambda row: other[row["emotion"]] if swap else row["emotion"])
        more = ("--systems", "ser", "--epochs", "1", "--protocol", "kfold", "--k", "3", "--folds", str(folds))
        return experiment(out, *more, source=("--manifest", str(source)))

    def said(folder: Path) -> tuple[int, int, list[list[str]]]:
        (line,) = read_run(folder).lines
        labels = [
            [p.split(",")[3] for p in (c.folder / "predictions.csv").read_text().splitlines()[1:]]
            for c in read_run(folder).cells
        ]
        return line.done, line.wanted, labels

    assert run(3) == 0
    before = said(out)
    assert before[:2] == (3, 3)
    (out / "data.json").unlink()  # as in a run of an earlier version: its trainings tell
    assert run(2, swap=True) == 0
    now = said(out)
    assert now[:2] == (2, 3)  # fold 2 is of the old labels
    assert now[2] == [[other[label] for label in fold] for fold in before[2][:2]]
    assert "3 trainings on other data" in capsys.readouterr().err
    copy = shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)  # with other times
    assert said(copy) == now
    assert run(3) == 0  # as they were: nothing is trained again
    assert said(out) == before


def test_another_system_and_more_seeds_come_beside(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert experiment(out, "--systems", "dat", "--epochs", "1", "--seeds", "2", "--option", "dat.lam=0.5") == 0
    assert experiment(out, "--systems", "ser", "--epochs", "1") == 0
    assert [(row["system"], row["seed"], row["options"]) for row in rows_of(out / "results.csv")] == [
        ("ser", "0", ""),
        ("dat", "0", "lam=0.5"),
        ("dat", "1", "lam=0.5"),
    ]
    assert "| SER_SR_DAT |" in (out / "table.md").read_text()
    # the other system's options are kept: with the usual λ it would be another line
    assert read_run(out).lines[1].value == 0.5


def test_json_is_strict_and_its_options_can_be_given_back(tmp_path: Path) -> None:
    """λ has no cap unless one is asked for: JSON says null, which stands for the default."""
    out = tmp_path / "run"
    assert experiment(out, "--systems", "dat", "--epochs", "1") == 0
    (folder,) = cells(out).values()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    result = json.loads((folder / "result.json").read_text(), parse_constant=refuse)
    for line in (folder / "history.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert result["settings"]["options"]["cap"] is None
    assert resolve_options("dat", result["settings"]["options"]) == resolve_options("dat")


def test_people_that_utterances_csv_has_lost(tmp_path: Path) -> None:
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss"}, systems="ser")
    lines = ["id,speaker,gender,session,emotion,text,corpus,language", "test0-0,test-speaker0,female,,angry,,made,en"]
    (out / "utterances.csv").write_text("\n".join([*lines, "test0-1,test-spea"]))
    run = read_run(out)
    assert run.utterances["test0-0"]["gender"] == "female"
    assert run.utterances["test0-1"] | {"emotion": "sad", "speaker": "test-speaker0"} == run.utterances["test0-1"]
    assert any("utterances.csv: genders, sessions, texts and languages of" in words for words in run.absent)


def test_folds_of_before_there_was_a_data_file_stay(tmp_path: Path) -> None:
    """A call for the first fold only says nothing of the others: nothing has changed there."""
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss", ("ser", 1, 0): "as"}, systems="ser")
    write_json(out / "data.json", {"0": "same"})
    assert read_run(out).lines[0].done == 2
    write_json(out / "data.json", {"0": "same", "1": None})
    assert read_run(out).lines[0].done == 1


def test_predictions_of_zero_bytes_are_none(tmp_path: Path) -> None:
    """As a power cut leaves them."""
    out = write_run(tmp_path, {("ser", 0, 0): "aa ss"}, systems="ser")
    next(out.glob("cells/*/predictions.csv")).write_bytes(bytes(200_000))
    assert read_run(out).cells == ()


def test_an_epsilon_of_raw_features_is_of_an_earlier_version(tmp_path: Path) -> None:
    out = write_run(tmp_path, {("cgt", 0, 0): "aa ss"}, systems="cgt", normalise="sliding")
    assert read_run(out).cells == ()
    path = next(out.glob("cells/*/result.json"))
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"proof": said["proof"] | {"epsilon": SEEN}}))
    assert len(read_run(out).cells) == 1


@pytest.mark.parametrize(("loss", "cells"), [("reversal", 1), ("entropy", 0)])
def test_results_of_before_there_was_an_option_had_its_default(tmp_path: Path, loss: str, cells: int) -> None:
    out = write_run(tmp_path, {("dat", 0, 0): "aa ss"}, systems="dat")
    path = next(out.glob("cells/*/result.json"))
    result = json.loads(path.read_text())
    result["settings"]["options"].pop("loss", None)
    path.write_text(json.dumps(result))
    settings = yaml.safe_load((out / "config.yaml").read_text())
    settings["options"] = {"dat": {"loss": loss}}
    (out / "config.yaml").write_text(yaml.safe_dump(settings))
    assert len(read_run(out).cells) == cells


def test_options_that_were_added_are_at_their_defaults() -> None:
    for system, options in ADDED.items():
        assert options.items() <= resolve_options(system).items()


def test_a_system_trained_with_several_options_is_left_out_and_named(tmp_path: Path) -> None:
    """Without config.yaml nobody says which were meant: a line of both would be of no system."""
    run = write_run(tmp_path, {("ser", 0, 0): "aa", ("mtl", 0, 0): "as"}, systems="ser,mtl")
    assert {cell.system for cell in read_run(run).cells} == {"ser", "mtl"}
    write_cell(
        run, read_run(run).settings, "mtl", 0, 0, rows_of_cell(0, {"dev": "aa sa", "test": "aa"}), {"weight": 9.0}
    )
    records = read_run(run)
    assert {cell.system for cell in records.cells} == {"ser"}
    assert "mtl is left out: it was trained with several options; say which with --option mtl.NAME=VALUE" in " ".join(
        records.absent
    )
