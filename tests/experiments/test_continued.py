"""Experiments that go on: longer, shorter, interrupted, damaged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from experimenting import all_numbers, cells, experiment, flags, numbers, only, result, rows_of

from unheard.experiments import cell as work_module
from unheard.experiments.cell_files import archive_result
from unheard.training.recipe import follows_a_schedule


def test_a_longer_run_continues_a_shorter_one_and_equals_it(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for epochs in ("1", "3"):
        assert experiment(out, "--epochs", epochs) == 0
    assert all_numbers(out) == all_numbers(done)
    for folder in cells(out).values():
        assert sorted(p.name for p in (folder / "epochs").iterdir()) == ["00001"]


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
    assert experiment(short, *one, "1") == 0
    assert numbers(only(out) / "epochs" / "00001", whole=False) == numbers(only(short), whole=False)


def test_updates_limit_the_epochs(tmp_path: Path) -> None:
    """Eight training utterances are two batches of four: three updates take two epochs."""
    few, short = tmp_path / "few", tmp_path / "short"
    one = ("--systems", "dat", "--training.schedule", "onecycle", "--training.select", "last")
    assert experiment(few, *one, "--training.updates", "3") == 0
    assert experiment(short, *one, "--epochs", "2") == 0
    found, alone = numbers(only(few)), numbers(only(short))
    assert (found["result"]["epochs"], found["result"]["updates"]) == (2, 4)
    assert found["result"]["settings"]["recipe"].pop("updates") == 3
    assert alone["result"]["settings"]["recipe"].pop("updates") is None
    assert found == alone
    assert (few / "table.md").read_text() == (short / "table.md").read_text()


def test_readouts_equal_separate_short_runs(done: Path, tmp_path: Path) -> None:
    out, short, two = tmp_path / "run", tmp_path / "short", ("--systems", "dat,cgt")
    assert experiment(out, *two, "--epochs", "3", "--training.report-epochs", "1,2") == 0
    assert experiment(short, *two, "--epochs", "2") == 0
    for name, folder in cells(out).items():
        readout, alone = numbers(folder / "epochs" / "00002", whole=False), numbers(cells(short)[name], whole=False)
        readout["result"]["settings"]["recipe"] = alone["result"]["settings"]["recipe"] = {}
        assert readout == alone
        long = numbers(folder)
        long["result"]["settings"]["recipe"]["report_epochs"] = []
        assert long == numbers(cells(done)[name])


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SER_only after an epoch."""
    out = tmp_path_factory.mktemp("short") / "run"
    assert experiment(out, "--systems", "ser", "--epochs", "1") == 0
    return out


@pytest.mark.parametrize("steps", [0, 2, 3, 4])
def test_killed_while_a_shorter_result_is_put_aside(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """After any number of its steps the result is still to be had, and whole; the longer training goes on."""
    out, one = shutil.copytree(short, tmp_path / "run"), ("--systems", "ser", "--epochs")
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
                archive_result(only(out), 1)
        else:
            archive_result(only(out), 1)
    with monkeypatch.context() as patch:
        patch.setattr(work_module, "Trainer", None)
        assert experiment(out, *one, "1") == 0
    assert experiment(out, *one, "2") == 0
    assert numbers(only(out) / "epochs" / "00001", whole=False) == first
    assert result(only(out))["epochs"] == 2


def test_a_shorter_result_that_was_never_read_out_is_asked_for(tmp_path: Path, cli: Any) -> None:
    assert experiment(tmp_path, "--systems", "ser", "--epochs", "2") == 0
    _, err = cli("experiment", *flags(tmp_path, "--systems", "ser", "--epochs", "1"), code=1)
    assert "trained to 2 epochs and has no result at 1" in err
    assert "| 0/1 |" in (tmp_path / "table.md").read_text()


def test_a_schedule_over_the_whole_training_is_not_continued(tmp_path: Path) -> None:
    """λ follows the share of the training that is done, so that a longer one is another training."""
    out, alone = tmp_path / "run", tmp_path / "alone"
    one = ("--systems", "dat", "--option", "dat.schedule=ganin", "--epochs")
    assert experiment(out, *one, "1") == experiment(out, *one, "2") == experiment(alone, *one, "2") == 0
    assert len(cells(out)) == 2
    (name,) = cells(alone)
    assert numbers(cells(out)[name]) == numbers(cells(alone)[name])
    assert follows_a_schedule({"schedule": "constant", "warmup": 0.5}, "constant")
    assert not follows_a_schedule({"schedule": "constant", "warmup": 0.0}, "constant")


def test_a_lost_or_damaged_file_of_a_result_is_made_again(done: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    for system, name in (("ser", "predictions.csv"), ("mtl", "embeddings.npz"), ("dat", "model.safetensors")):
        (only(out, system) / name).unlink()
    half = only(out, "cgt") / "predictions.csv"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    assert experiment(out, "--epochs", "3") == 0
    assert all_numbers(out) == all_numbers(done)
    for folder, damage in zip(cells(out).values(), ("{", "[]", "null", '{"epochs": "many"}'), strict=True):
        (folder / "result.json").write_text(damage)
    assert experiment(out, "--epochs", "3") == 0
    assert all_numbers(out) == all_numbers(done)


def test_a_published_run_is_not_continued(done: Path, tmp_path: Path, cli: Any) -> None:
    """Its trainings are gone: the tables of a second run would take the place of the published ones."""
    out = shutil.copytree(done, tmp_path / "run", ignore=shutil.ignore_patterns("cells"))
    assert "holds a published run" in cli("experiment", *flags(out, "--epochs", "3"), code=2)[1]


def test_a_damaged_checkpoint_is_named(done: Path, tmp_path: Path, cli: Any) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    checkpoint = only(out, "dat") / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert experiment(out, "--epochs", "3") == 0  # it is not needed any more
    _, err = cli("experiment", *flags(out, "--epochs", "4"), code=1)
    assert str(checkpoint) in err
    assert "Delete it" in err
    assert [row["system"] for row in rows_of(out / "results.csv")] == ["ser", "mtl", "cgt"]
    checkpoint.unlink()
    assert experiment(out, "--epochs", "4") == 0
    assert len(rows_of(out / "results.csv")) == 4


@pytest.mark.parametrize("text", ["a: [", "epochs: many\n"])
def test_a_damaged_config_is_named(text: str, tmp_path: Path, cli: Any) -> None:
    (tmp_path / "config.yaml").write_text(text)
    _, err = cli("experiment", *flags(tmp_path, "--epochs", "3"), code=2)
    assert str(tmp_path / "config.yaml") in err
    assert len(err.splitlines()) == 1


def test_both_modes_of_batch_norm_are_those_of_separate_runs(done: Path, tmp_path: Path) -> None:
    """To the byte: as written in the cell's folder, re-estimated in a folder of its own."""
    both, anew, common = tmp_path / "both", tmp_path / "anew", ("--epochs", "3", "--systems", "ser,cgt")
    assert experiment(both, *common, "--training.batchnorm", "both") == 0
    assert experiment(anew, *common, "--training.batchnorm", "reestimate", "--training.select", "last") == 0
    for name, folder in cells(both).items():
        system = name.partition("-")[0]
        for ours, theirs in ((folder, only(done, system)), (folder / "reestimated", only(anew, system))):
            for file in ("predictions.csv", "embeddings.npz"):
                assert (ours / file).read_bytes() == (theirs / file).read_bytes()
