"""Invariance of a run and of a model, from audio to table, on a handful of invented voices."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from experimenting import cells, corpus, experiment, rows_of, table, write_rows
from recording import finish
from sklearn.metrics import balanced_accuracy_score

from unheard.errors import ConfigError
from unheard.experiments.config import Experiment
from unheard.experiments.leakage import INPUT, markdown, probe_model, run_leakage, sub_run_settings, unseen_rows
from unheard.experiments.plan import check_split_options, choose_split
from unheard.experiments.records import read_run
from unheard.manifest import Manifest, Utterance
from unheard.splits import make_split


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems, two seeds, on two speakers; two validate and two are tested, with 8 recordings each."""
    out = tmp_path_factory.mktemp("probe") / "run"
    assert experiment(out, "--systems", "ser,dat", "--seeds", "2", "--epochs", "2") == 0
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    return next(folder for name, folder in cells(run).items() if name.startswith("ser-fold0-seed0"))


# Of a run.


def test_every_system_of_a_run(run: Path, model: Path) -> None:
    records = read_run(run)
    unseen = unseen_rows(records)
    assert unseen.fold == 0
    assert [row.part for row in unseen.rows] == ["dev"] * 8 + ["test"] * 8
    found = run_leakage(records)
    assert list(found) == ["SER_only", "SER_SR_DAT", INPUT]
    assert found["SER_only"].seeds == (0, 1)
    one = found["SER_only"].measurements[0]
    assert (one.speakers, one.recordings, one.texts, one.disjoint) == (4, 16, 2, "texts")
    assert {person.gender for person in one.groups.people} == {"female", "male"}
    rows = rows_of(model / "predictions.csv")
    for person in one.groups.people:
        own = [(row["emotion"], row["predicted"]) for row in rows if row["speaker"] == person.speaker]
        assert person.uar.value == pytest.approx(balanced_accuracy_score(*zip(*own, strict=True)))
    assert found[INPUT].measurements[0].groups is None
    assert found[INPUT].measurements[0].width == 2 * 39
    values = [inv.linear.value for inv in found["SER_only"].measurements]
    spread = found["SER_only"].over_seeds("linear")
    assert (spread.mean, spread.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    text = markdown(found)
    assert f"| SER_only | {100 * np.mean(values):.1f} ± " in text
    assert "16 recordings of 4 unseen speakers" in text
    assert "Chance 25.0 %" in text


def test_figures_are_kept_until_a_training_changes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = {name: line.measurements for name, line in run_leakage(read_run(copy)).items()}
    said: list[str] = []
    for path in copy.glob("cells/*/embeddings.npz"):  # published results come without them
        path.unlink()
    shutil.rmtree(copy / "features")
    kept = run_leakage(read_run(copy), said.append)
    assert not said
    assert str(before) == str({name: line.measurements for name, line in kept.items()})  # NaN equals nothing
    changed = next(copy.glob("cells/dat-fold0-seed1-*/predictions.csv"))
    text = changed.read_text()
    changed.write_text(text.replace("angry,angry", "angry,sad") if "angry,angry" in text else text + "\n")
    finish(copy)
    again = run_leakage(read_run(copy))
    assert again["SER_SR_DAT"].seeds == (0,)  # the other would need its embeddings
    (copy / "invariance.json").write_text("{]")
    assert run_leakage(read_run(copy)) == {}


def test_the_input_of_other_recordings_is_measured_again(run: Path, tmp_path: Path) -> None:
    """The same ids, split and settings over recordings that have changed since: what was measured is not of these."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    assert INPUT in run_leakage(read_run(copy))
    shutil.rmtree(copy / "features")
    assert INPUT in run_leakage(read_run(copy))  # it is kept
    for path in copy.glob("cells/*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"proof": result["proof"] | {"data": "of other recordings"}}))
    finish(copy)
    assert INPUT not in run_leakage(read_run(copy))


def test_a_diverged_training_and_too_few_unseen_speakers(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "invariance.json").unlink(missing_ok=True)
    path = next(copy.glob("cells/dat-fold0-seed1-*/embeddings.npz"))
    with np.load(path) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    np.savez(path, **(changed | {"e": np.full_like(changed["e"], np.nan)}))
    said: list[str] = []
    records = read_run(copy)
    assert run_leakage(records, said.append)["SER_SR_DAT"].seeds == (0,)
    fewer = dataclasses.replace(records, splits=tuple(r for r in records.splits if r.part in ("train", "dev")))
    assert run_leakage(fewer) == {}  # two unseen speakers
    assert any(f"{path.parent.name} has embeddings that are not finite" in line for line in said)
    once = next(row for row in records.splits if row.part == "test")
    rest = tuple(r for r in records.splits if r.speaker != once.speaker or r is once)
    assert unseen_rows(dataclasses.replace(records, splits=rest)) is None  # three speakers are left


# The run in RUN/invariance.


def voices(count: int, *, gender: bool = True, utterances: int = 4) -> Manifest:
    return Manifest(
        tuple(
            Utterance(
                id=f"u{s:02d}-{u}",
                audio="x.wav",
                speaker=f"{s:02d}",
                emotion=("angry", "sad")[u % 2],
                gender=("female", "male")[s % 2] if gender else "",
                text=f"t{u}",
            )
            for s in range(count)
            for u in range(utterances)
        )
    )


def settings(**changes: object) -> Experiment:
    values: dict[str, object] = {"manifest": "m.csv", "out": "RUN", "emotions": ("angry", "sad"), **changes}
    return Experiment(**values)


def test_the_invariance_run_is_the_same_experiment_on_a_random_split() -> None:
    ours = settings(protocol="paired", seeds=3, systems=("ser", "dat"), folds=1, split_seed=5)
    manifest = voices(10)
    sub = sub_run_settings(ours, manifest)
    assert (sub.protocol, sub.n, sub.folds) == ("random", (6, 2, 2), 0)
    assert (sub.out, sub.store) == (str(Path("RUN/invariance")), str(Path("RUN/features")))
    assert (sub.seeds, sub.systems, sub.epochs, sub.training) == (3, ("ser", "dat"), 100, ours.training)
    split = make_split(manifest, "random", n=(6, 2, 2), seed=sub.split_seed)
    gender = {row.id: row.gender for row in manifest}
    direction = split.folds[0].directions[0]
    held = [gender[name] for name in (*direction.dev, *direction.test)]
    assert held.count("female") == held.count("male") == 8
    assert sub.split_seed >= 5
    again = sub_run_settings(ours, manifest)
    assert again == sub
    assert sub_run_settings(dataclasses.replace(sub, out="OTHER"), manifest) is None  # its own fold serves


@pytest.mark.parametrize(
    ("speakers", "n", "how"),
    [
        (24, (14, 5, 5), {"protocol": "loso"}),
        (64, (38, 13, 13), {"protocol": "paired"}),
        (64, (38, 13, 13), {"protocol": "paired", "test": "male"}),
        (10, (6, 2, 2), {"protocol": "loso"}),
        (6, (2, 2, 2), {"protocol": "loso"}),
        (24, (16, 4, 4), {"manifest": "", "corpus": "ravdess", "root": "x", "protocol": "paired"}),
        (24, None, {"protocol": "kfold", "k": 6}),  # 16 train, 4 validate, 4 are tested: a usual fold serves
    ],
)
def test_sizes_of_the_invariance_run(speakers: int, n: tuple[int, int, int] | None, how: dict[str, Any]) -> None:
    sub = sub_run_settings(settings(**how), voices(speakers))
    assert (sub and sub.n) == n
    if sub:
        check_split_options(sub, "kfold")  # those of the usual protocol are gone


def test_voices_for_the_invariance_run() -> None:
    unknown = sub_run_settings(settings(protocol="loso", split_seed=3), voices(10, gender=False))
    assert unknown.split_seed == 3
    with pytest.raises(ConfigError, match=r"at least 6 values of 'speaker'.*not 5"):
        sub_run_settings(settings(protocol="loso"), voices(5))


def test_speakers_with_one_recording_held_out_are_not_counted_here_either() -> None:
    """They cannot be probed: a fold that has four unseen speakers only with them does not serve."""
    ours, manifest = settings(protocol="kfold", k=5), voices(10)
    assert sub_run_settings(ours, manifest) is None
    direction = choose_split(ours, manifest).folds[0].directions[0]
    silent = next(row.speaker for row in manifest if row.id == direction.test[0])
    rows = [row for row in manifest if row.speaker != silent or row.id == direction.test[0]]
    assert sub_run_settings(ours, Manifest(tuple(rows))) is not None


# Of a model.


def stereo(manifest: Path, folder: Path) -> None:
    """Give each recording of `manifest` a second channel that differs from the first."""
    rows = rows_of(manifest)
    for row in rows:
        samples, rate = soundfile.read(row["audio"])
        row["audio"] = str(folder / f"{row['id']}.wav")
        soundfile.write(row["audio"], np.stack([samples, 0.5 * samples[::-1]], 1), rate)
    write_rows(manifest, rows)


def test_speakers_the_model_was_trained_on_are_left_out(model: Path, tmp_path: Path, cli: Any) -> None:
    manifest = table(tmp_path)
    out, err = cli("probe", model, manifest, "--format", "json")
    assert "8 of 24 utterances left out: the model was trained on their speakers" in err
    read = json.loads(out)
    assert read["left_out"]["speaker trained on"] == 8
    assert read["embeddings"]["speakers"] == 4
    assert {person["speaker"] for person in read["embeddings"]["groups"]["people"]} == {"s3", "s4", "s5", "s6"}
    read = json.loads(cli("probe", model, manifest, "--seen", "--format", "json")[0])
    assert read["embeddings"]["speakers"] == 6
    assert read["population"] == "speakers (2 of them trained on)"
    stereo(manifest, tmp_path)  # every channel of a training speaker is one too
    out, err = cli("probe", model, manifest, "--channel", "each", "--format", "json")
    assert "16 of 48 utterances left out: the model was trained on their speakers" in err
    assert {one["speaker"][:2] for one in json.loads(out)["embeddings"]["groups"]["people"]} == {"s3", "s4", "s5", "s6"}
    assert "trained on 2 of these speakers" in cli("evaluate", model, manifest, "--channel", "each")[1]


def test_a_model_and_its_run_agree(run: Path, model: Path) -> None:
    of_the_run = run_leakage(read_run(run))
    probed = probe_model(model, corpus() / "manifest.csv")
    for ours, theirs in (
        (probed.embeddings, of_the_run["SER_only"].measurements[0]),
        (probed.input_features, of_the_run[INPUT].measurements[0]),
    ):
        assert (ours.speakers, ours.recordings, ours.disjoint) == (theirs.speakers, theirs.recordings, theirs.disjoint)
        assert ours.eer.value == pytest.approx(theirs.eer.value, abs=1e-4)
        assert ours.linear.value == theirs.linear.value


def test_the_table(model: Path, tmp_path: Path, cli: Any) -> None:
    manifest = table(tmp_path, gender=lambda row: "" if row["speaker"] == "s5" else row["gender"])
    assert cli("probe", model, manifest, "--out", tmp_path / "probe.md")[0] == ""
    text = (tmp_path / "probe.md").read_text()
    assert "| embeddings | " in text
    assert "| input features | " in text
    assert "16 recordings of 4 unseen speakers; the probe is trained and tested on different recordings and" in text
    assert "Worst speaker: s" in text or "Every speaker's UAR is 50.0 %" in text
    assert "1 speaker without gender." in text


def test_what_cannot_be_probed(model: Path, tmp_path: Path, cli: Any) -> None:
    manifest = table(tmp_path)
    rows = rows_of(manifest)
    for speakers, words in (
        ("s1 s2", "found 0. Give recordings of more speakers, or --seen"),
        ("s5", "found 1."),
    ):
        write_rows(manifest, [row for row in rows if row["speaker"] in speakers.split()])
        assert words in cli("probe", model, manifest, code=2)[1].splitlines()[-1]
    write_rows(manifest, [row | {"speaker": "s5" if row["speaker"] == "s5" else "unknown"} for row in rows])
    _, err = cli("probe", model, manifest, code=2)
    assert "20 utterances of unknown speakers left out" in err
    assert "found 1." in err
    write_rows(manifest, list({row["speaker"]: row for row in rows}.values()))
    lines = cli("probe", model, manifest, code=2)[1].splitlines()
    assert "4 speakers with one recording left out" in lines
    assert "at least 2 speakers with two recordings or more, found 0" in lines[-1]
    assert "there is no model here" in cli("probe", tmp_path, manifest, code=2)[1]
